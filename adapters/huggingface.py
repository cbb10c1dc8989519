"""Any ``AutoModel`` text encoder of transformers 5, by hub id or local folder.

That is: plain encoders, the encoders of encoder-decoder models (mT5, NLLB) and the text towers of vision-language models
(AltCLIP, SigLIP, ...), as far as ``families`` knows where they sit. Decoders and image towers are neither built nor read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import fast_tokenizer, find
from .describe import describe, fits, quiet
from .families import Family, family_of
from .fast_tokenizers import speaking
from .layouts import LAYOUTS, PARTS
from .lm_head import checkpoint_head
from .pooling import Pooling, check_pooling, pool
from .portable import Portable
from .pretrained import blueprint, empty, load_model, read_config
from .records import recorded, write_info

__all__ = ["HuggingFaceEncoder"]

NAME = "huggingface"


class HuggingFaceEncoder(Portable):
    """Text encoders of transformers: plain ones, those of encoder-decoders and the text towers of vision-language models.

    Where the tokenizer marks the second text of a pair with token type 1 (BERT), ``forward`` derives the types from the
    separators, so that pairs are encoded as in pre-training although only ids and mask are passed. ``projected`` is what
    the library's ``get_text_features`` gives, whichever ``pooling`` is chosen for ``pooled``.
    """

    def __init__(self, model: Any, tokenizer: Any, info: EncoderInfo) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        self.family: Family = family_of(model.config, model.name_or_path)
        types = getattr(self.body.config, "type_vocab_size", 0) or 0
        marks = tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"]
        self.separator: int | None = tokenizer.sep_token_id if types > 1 and 1 in marks else None

    @property
    def body(self) -> Any:
        """The module whose outputs are the token states."""
        return self.model.get_submodule(self.family.body)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        if self.info.pad_to not in (None, input_ids.shape[1]):
            raise ValueError(
                f"this tower reads its padding: inputs have {self.info.pad_to} tokens, not {input_ids.shape[1]}"
            )
        extra = {}
        if self.separator is not None:
            ends = (input_ids == self.separator).long()
            extra["token_type_ids"] = (ends.cumsum(1) - ends).clamp(max=1) * attention_mask
        out = self.body(
            input_ids=input_ids,
            attention_mask=None if self.info.attends_padding else attention_mask,
            output_hidden_states=True,
            return_dict=True,
            **extra,
        )
        # some classes norm only `last_hidden_state`; the contract wants the last state after that norm
        states = (*out.hidden_states[:-1], out.last_hidden_state)
        native = pool(states[-1], attention_mask, self.family.pooling)
        if self.family.norm:
            native = self.model.get_submodule(self.family.norm)(native)
        chosen = self.info.pooling
        pooled = native if chosen == self.family.pooling else pool(states[-1], attention_mask, chosen)
        projected = native if self.family.projections else None
        for path in self.family.projections:
            projected = self.model.get_submodule(path)(projected)
        return Encoded(states, attention_mask, pooled, projected)

    def masked_lm_head(self) -> nn.Module | None:
        """A fresh copy of the checkpoint's pre-training head (:mod:`.lm_head`), or None where it has none."""
        return checkpoint_head(self.model.name_or_path, self.info.revision)

    def _blank_arguments(self) -> tuple[Any, ...]:
        return blueprint(self.model), self.tokenizer, self.info

    @classmethod
    def _blank(cls, *arguments: Any) -> Self:
        plan, tokenizer, info = arguments
        with torch.device("meta"):
            model = empty(*plan)
        return cls(model, tokenizer, info)

    def save(self, folder: Path) -> None:
        """Write a normal transformers folder (safetensors, tokenizer, config) and ``xtremex.json``.

        The weights have the whole model's names; image tower and decoder are not among them.
        """
        with quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_info(Path(folder), self.info, NAME)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        text_prefix: str | None = None,
        language_code: str | None = None,
        max_length_trained: int | None = None,
        objective: str | None = None,
        licence: str | None = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """Load in float32 and eval mode, from safetensors only.

        Args:
            checkpoint: hub id (``FacebookAI/xlm-roberta-base``) or local folder.
            revision: commit hash, tag or branch of a hub id; required there. A tag or branch is resolved to its commit
                (offline: as the local cache knows it), and the commit is recorded in ``info.revision``.
            pooling: ``mean`` (default of text encoders), ``cls`` (first token), ``eos`` (closing token of the text, or of
                the second of a pair) or ``last`` (last position, of models that read their padding). Default of
                vision-language models: their own.
            text_prefix: put before a sentence for sentence vectors, e.g. ``"query: "`` for E5.
            language_code: token that NLLB's tokenizer puts before every text; default ``eng_Latn``.
            max_length_trained: longest input that pre-training saw, where it is shorter than what the model accepts.
            objective, licence: recorded in ``info``.
            trust_remote_code: run the repository's own Python code.

        None means: as ``save`` recorded it in the folder, else the default.

        Raises:
            SuiteError: a hub id without revision, a folder with one, a pooling that is unknown or means nothing here, a
                model whose text encoder cannot be taken out.
            UnknownName: a language that the tokenizer does not know.
            ArtifactError: unknown or unreachable id, incomplete folder, missing, unexpected or misshapen weights,
                or a slow tokenizer.
        """
        _compat.prepare()
        layout = LAYOUTS[NAME]
        files = (*layout.weights, PARTS, *(("*.py",) if trust_remote_code else ()))
        folder, commit = find(checkpoint, revision, layout.description, files)
        config = read_config(folder, checkpoint, trust_remote_code)
        family = family_of(config, checkpoint)
        model = load_model(folder, config, checkpoint, trust_remote_code)
        tokenizer = fast_tokenizer(str(folder), trust_remote_code=trust_remote_code)
        body = model.get_submodule(family.body)
        fits(tokenizer, body, checkpoint)
        options = {
            "pooling": pooling,
            "text_prefix": text_prefix,
            "language_code": language_code,
            "max_length_trained": max_length_trained,
            "objective": objective,
            "licence": licence,
        }
        chosen = recorded(folder, NAME, commit, "pooling", "language_code")
        chosen |= {name: value for name, value in options.items() if value is not None}
        if code := chosen.get("language_code"):
            tokenizer = speaking(tokenizer, code, checkpoint)
        info = dataclasses.replace(describe(body, tokenizer, commit, family), **chosen)
        if "pooling" in chosen and info.pooling != family.pooling:
            check_pooling(info.pooling, tokenizer, info, checkpoint)
        return cls(model, tokenizer, info).eval()
