"""Checkpoints of sentence-transformers: a transformer, its pooling, and dense layers and norms behind it.

The transformer is loaded by the ``huggingface`` adapter, exactly and from safetensors only; the modules behind it are the
library's own (``sentence_stack``).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import find
from .describe import quiet, tokenizer_id
from .huggingface import HuggingFaceEncoder
from .layouts import LAYOUTS, PARTS
from .records import recorded, write_info
from .sentence_stack import CONFIG, MODULES, SETTINGS, VECTOR, Stack, read_stack

__all__ = ["SentenceTransformersEncoder"]

NAME = "sentence_transformers"


class SentenceTransformersEncoder(nn.Module):
    """Checkpoints of sentence-transformers: a transformer, its pooling, and dense layers and norms behind it.

    ``projected`` is the library's sentence vector where the stack has a dense layer, and ``pooled`` what goes into the
    first of them; without one, ``pooled`` is the library's sentence vector, and ``projected`` None.
    """

    def __init__(self, transformer: HuggingFaceEncoder, stack: Stack, info: EncoderInfo) -> None:
        super().__init__()
        self.transformer = transformer
        self.stack = stack
        self.behind = stack.modules
        self.tokenizer = transformer.tokenizer
        self.info = info

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        out: Encoded = self.transformer(input_ids, attention_mask)
        features = {"token_embeddings": out.hidden_states[-1], "attention_mask": attention_mask}
        pooled = None
        for module in self.behind:
            if pooled is None and type(module).__name__ == "Dense":
                pooled = features[VECTOR]
            features = module(features)
        vector = features[VECTOR]
        if pooled is None:
            return out._replace(pooled=vector, projected=None)
        return out._replace(pooled=pooled, projected=vector)

    def save(self, folder: Path) -> None:
        """Write the library's layout, which it loads too, and ``xtremex.json``."""
        folder = Path(folder)
        own, *others = (folder / place for place in self.stack.folders)
        for place in (folder, own, *others):
            place.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.transformer.model.save_pretrained(own)
        self.tokenizer.save_pretrained(own)
        behind: list[Any] = list(self.behind)
        for module, place in zip(behind, others, strict=True):
            module.save(str(place))
        files = {
            own / SETTINGS: self.stack.settings,
            folder / CONFIG: self.stack.config,
            folder / MODULES: self.stack.table,
        }
        for path, content in files.items():
            path.write_text(json.dumps(content, indent=1))
        write_info(folder, self.info, NAME)

    @classmethod
    def load(
        cls,
        checkpoint: str,
        *,
        revision: str | None = None,
        text_prefix: str | None = None,
        objective: str | None = None,
    ) -> Self:
        """Load in float32 and eval mode, from safetensors only.

        Args:
            checkpoint: hub id (``sentence-transformers/LaBSE``) or a folder that the library's ``save`` wrote.
            revision: commit hash, tag or branch of a hub id; required there.
            text_prefix: put before a sentence for sentence vectors; default: the checkpoint's default prompt.
            objective: recorded in ``info``.

        None means: as ``save`` recorded it in the folder, else the default.

        Raises:
            SuiteError: a hub id without revision, a folder with one, or a stack that cannot be run faithfully: several
                poolings, modules before the pooling, modules of other kinds or with code of their own.
            ArtifactError: not the library's layout, no safetensors (of the transformer or of a dense layer), missing,
                unexpected or misshapen weights, or a slow tokenizer.
            MissingDependency: sentence-transformers is not installed.
        """
        _compat.prepare()
        layout = LAYOUTS[NAME]
        weights = (*layout.weights, PARTS, *layout.nested)
        folder, commit = find(checkpoint, revision, layout.description, weights)
        stack = read_stack(folder, checkpoint)
        transformer = HuggingFaceEncoder.load(str(folder / stack.folders[0]))
        if stack.settings.get("do_lower_case"):
            _fold_case(transformer.tokenizer)
        plain = transformer.info
        transformer.info = dataclasses.replace(plain, pooling=transformer.family.pooling)
        options = {"text_prefix": text_prefix, "objective": objective}
        chosen = recorded(folder, NAME, commit) | {k: v for k, v in options.items() if v is not None}
        info = dataclasses.replace(_info(plain, transformer.tokenizer, stack, commit), **chosen)
        return cls(transformer, stack, info).eval()


def _info(plain: EncoderInfo, tokenizer: Any, stack: Stack, commit: str | None) -> EncoderInfo:
    kinds = [type(module).__name__ for module in stack.modules]
    before = kinds[: kinds.index("Dense")] if "Dense" in kinds else kinds
    pooling: Any = stack.modules[0]
    return dataclasses.replace(
        plain,
        objective="sentence-similarity",
        tokenizer_id=tokenizer_id(tokenizer),
        max_length_trained=min(
            plain.max_length_trained, stack.settings.get("max_seq_length", plain.max_length)
        ),
        pooling=pooling.pooling_mode,
        pooled_unit_norm=before[-1] == "Normalize",
        text_prefix=stack.prompt,
        revision=commit,
    )


def _fold_case(tokenizer: Any) -> None:
    """Lower-case texts as the library does; a normaliser keeps track of the characters, so offsets stay right."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    if backend.normalizer is None or backend.normalizer.normalize_str("A") != "a":
        rest = [] if backend.normalizer is None else [backend.normalizer]
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
