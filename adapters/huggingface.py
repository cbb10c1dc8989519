"""Any bidirectional or causal ``AutoModel`` text encoder of transformers 5, by hub id or local folder.

Out of scope, and refused by name: encoder-decoder models and composite (vision-language) models, whose text towers have
loading traps of their own and deserve their own adapters.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from pathlib import Path
from typing import Any, Literal, Self, get_args

import torch
from torch import Tensor, nn

from ..errors import ArtifactError, SuiteError, nearest
from . import _compat
from .base import Encoded, EncoderInfo
from .describe import describe, first_line, fits, quiet
from .layouts import check_pinned
from .lm_head import checkpoint_head

__all__ = ["HuggingFaceEncoder"]

Pooling = Literal["mean", "cls"]
HEADS = frozenset(
    "cls lm_head lm_predictions mask_predictions predictions pooler classifier qa_outputs head vocab_projector "
    "vocab_transform vocab_layer_norm decoder".split()
)
"""First component of weights that hang behind an encoder: pre-training heads and poolers. Leaving them out is harmless."""
BUFFERS = ("position_ids", "token_type_ids")
"""Buffers that old checkpoints stored and new classes compute."""


class HuggingFaceEncoder(nn.Module):
    """A transformers encoder: ``layers + 1`` states, masked mean or first-token pooling, no projection.

    Where the tokenizer marks the second text of a pair with token type 1 (BERT), ``forward`` derives the types from the
    separators, so that pairs are encoded as in pre-training although only ids and mask are passed.
    """

    def __init__(self, model: Any, tokenizer: Any, info: EncoderInfo) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.info = info
        types = getattr(model.config, "type_vocab_size", 0) or 0
        marks = tokenizer("a", "b", return_token_type_ids=True)["token_type_ids"]
        self.separator: int | None = tokenizer.sep_token_id if types > 1 and 1 in marks else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        extra = {}
        if self.separator is not None:
            ends = (input_ids == self.separator).long()
            extra["token_type_ids"] = (ends.cumsum(1) - ends).clamp(max=1) * attention_mask
        out = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
            return_dict=True,
            **extra,
        )
        # some classes norm only `last_hidden_state`; the contract wants the last state after that norm
        states = (*out.hidden_states[:-1], out.last_hidden_state)
        return Encoded(states, attention_mask, self._pool(states[-1], attention_mask), None)

    def _pool(self, states: Tensor, attention_mask: Tensor) -> Tensor:
        if self.info.pooling == "cls":
            return states[:, 0]
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        return (states * mask).sum(1) / mask.sum(1).clamp(min=1)

    def masked_lm_head(self) -> nn.Module | None:
        """A fresh copy of the checkpoint's pre-training head (:mod:`.lm_head`), or None where it has none."""
        return checkpoint_head(self.model.name_or_path, self.info.revision)

    def __reduce__(self) -> tuple[Any, ...]:
        # transformers leaves local functions in the modules' hooks, which cannot be pickled
        state = {
            "tensors": self.state_dict(),
            "frozen": [name for name, parameter in self.named_parameters() if not parameter.requires_grad],
            "training": self.training,
        }
        return _rebuild, (type(self.model), self.model.config, self.tokenizer, self.info, state)

    def save(self, folder: Path) -> None:
        """Write a normal transformers folder (safetensors, tokenizer, config) and ``xtremex.json``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        # last: its presence means that the folder is complete
        (folder / "xtremex.json").write_text(json.dumps({"info": dataclasses.asdict(self.info)}, indent=1))

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        revision: str | None = None,
        pooling: Pooling | None = None,
        text_prefix: str | None = None,
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
            pooling: ``mean`` (default) or ``cls``.
            text_prefix: put before a sentence for sentence vectors, e.g. ``"query: "`` for E5.
            max_length_trained: longest input that pre-training saw, where it is shorter than what the model accepts.
            objective, licence: recorded in ``info``.
            trust_remote_code: run the repository's own Python code.

        None means: as ``save`` recorded it in the folder, else the default.

        Raises:
            SuiteError: a hub id without revision, a folder with one, an unknown pooling, a model that is no encoder.
            ArtifactError: unknown or unreachable id, incomplete folder, missing, unexpected or misshapen weights,
                or a slow tokenizer.
        """
        if pooling is not None and pooling not in get_args(Pooling):
            raise SuiteError(
                f"unknown pooling `{pooling}` for `{checkpoint}`", nearest(pooling, get_args(Pooling))
            )
        _compat.prepare()
        source = _Source.find(checkpoint, revision, trust_remote_code)
        model = source.model()
        tokenizer = source.tokenizer()
        fits(tokenizer, model, checkpoint)
        described = Path(checkpoint) / "xtremex.json"
        if described.is_file():
            info = EncoderInfo(**json.loads(described.read_text())["info"])
        else:
            info = describe(model, tokenizer, source.revision)
        changes = {
            "pooling": pooling,
            "text_prefix": text_prefix,
            "max_length_trained": max_length_trained,
            "objective": objective,
            "licence": licence,
        }
        info = dataclasses.replace(
            info, **{name: value for name, value in changes.items() if value is not None}
        )
        return cls(model, tokenizer, info).eval()


@dataclasses.dataclass(frozen=True)
class _Source:
    """A resolved checkpoint: a folder, or a hub id at one commit."""

    checkpoint: str
    revision: str | None
    trust_remote_code: bool

    @classmethod
    def find(cls, checkpoint: str, revision: str | None, trust_remote_code: bool) -> _Source:
        folder = Path(checkpoint).expanduser()
        if folder.is_dir():
            if revision is not None:
                raise SuiteError(
                    f"`{checkpoint}` is a local folder and has no revision `{revision}`",
                    "remove `revision`; a folder is identified by the digest of its weights",
                )
            if not (folder / "config.json").is_file():
                raise ArtifactError(
                    f"`{checkpoint}` has no config.json, so it is not a transformers folder",
                    "give the folder that save_pretrained wrote (config.json, model.safetensors, tokenizer.json)",
                )
            return cls(str(folder), None, trust_remote_code)
        if checkpoint.startswith((".", "~", os.sep)) or checkpoint.count("/") > 1:
            raise ArtifactError(
                f"no folder `{checkpoint}`", "check the path; a hub id has the form owner/name"
            )
        return cls(checkpoint, _commit(checkpoint, revision), trust_remote_code)

    @property
    def _arguments(self) -> dict[str, Any]:
        pinned = {} if self.revision is None else {"revision": self.revision}
        return {**pinned, "trust_remote_code": self.trust_remote_code}

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.checkpoint, **self._arguments)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"no tokenizer can be loaded from `{self.checkpoint}`: {first_line(error)}",
                "the checkpoint needs a tokenizer.json (PreTrainedTokenizerFast.save_pretrained writes one)",
            ) from error
        if not tokenizer.is_fast:
            raise ArtifactError(
                f"the tokenizer of `{self.checkpoint}` ({type(tokenizer).__name__}) is slow: it has neither word ids "
                "nor character offsets",
                "add a tokenizer.json to the checkpoint, or write an adapter that rebuilds a fast tokenizer",
            )
        return tokenizer

    def model(self) -> Any:
        from transformers import MODEL_MAPPING, AutoConfig, AutoModel

        try:
            config = AutoConfig.from_pretrained(self.checkpoint, **self._arguments)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"`{self.checkpoint}`: {first_line(error)}", "check its config.json"
            ) from error
        if getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"):
            raise SuiteError(
                f"`{self.checkpoint}` ({config.model_type}) is not a plain text encoder",
                "encoder-decoder and vision-language models need an adapter of their own (docs/add-a-backbone.md)",
            )
        options = _without_pooler(MODEL_MAPPING.get(type(config), None))
        try:
            with quiet():
                model, report = AutoModel.from_pretrained(
                    self.checkpoint,
                    config=config,
                    dtype=torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    **options,
                    **self._arguments,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"the weights of `{self.checkpoint}` cannot be loaded: {first_line(error)}",
                "only complete safetensors are read; a repository without them often has them at another revision",
            ) from error
        _refuse_wrong_weights(model, report, self.checkpoint)
        return model


def _commit(checkpoint: str, revision: str | None) -> str:
    """The commit that ``revision`` of a hub id means, from the hub or, offline, from the local cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        config = hf_hub_download(checkpoint, "config.json", revision=revision)
    except (OSError, HFValidationError) as error:
        raise ArtifactError(
            f"`{checkpoint}` at revision `{revision or 'main'}` is neither a folder nor reachable on the hub nor in the "
            f"local cache: {first_line(error)}",
            f"check the spelling; with a network, type: hf download {checkpoint} (and unset HF_HUB_OFFLINE); "
            "or give the path of a folder",
        ) from error
    commit = Path(config).parent.name
    check_pinned(checkpoint, revision, commit)
    return commit


def _without_pooler(kind: Any) -> dict[str, bool]:
    """Constructor keywords that leave the pooler out: it is random in most checkpoints, and nothing reads it."""
    accepts = inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if accepts else {}


def _rebuild(
    kind: Any, config: Any, tokenizer: Any, info: EncoderInfo, state: dict[str, Any]
) -> HuggingFaceEncoder:
    _compat.prepare()
    with torch.random.fork_rng(devices=[]):  # the constructor draws weights, which are replaced at once
        model = kind(config, **_without_pooler(kind))
    encoder = HuggingFaceEncoder(model, tokenizer, info)
    encoder.load_state_dict(state["tensors"], assign=True)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    return encoder.train(state["training"])


def _refuse_wrong_weights(model: Any, report: dict[str, Any], checkpoint: str) -> None:
    prefix = f"{model.base_model_prefix}."

    def harmless(key: str) -> bool:
        return key.endswith(BUFFERS) or key.removeprefix(prefix).split(".")[0] in HEADS

    own = {name for name, _ in model.named_children()}
    wrong = {
        "missing": sorted(map(str, report["missing_keys"])),
        "misshapen": sorted(map(str, report["mismatched_keys"])),
        "unexpected": sorted(
            key
            for key in report["unexpected_keys"]
            if not harmless(key) or key.removeprefix(prefix).split(".")[0] in own
        ),
    }
    if any(wrong.values()):
        listed = "; ".join(
            f"{len(keys)} {kind}: {', '.join(keys[:5])}{', ...' if len(keys) > 5 else ''}"
            for kind, keys in wrong.items()
            if keys
        )
        raise ArtifactError(
            f"`{checkpoint}` does not hold exactly the weights of {type(model).__name__}: {listed}",
            "another class or config belongs to these weights; they would have stayed random or been dropped",
        )
