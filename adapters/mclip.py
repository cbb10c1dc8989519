"""M-CLIP's text encoders (Carlsson et al. 2022) with plain transformers; the published package fails on transformers 5.

The layout of the hub's ``M-CLIP/*-Vit-*`` repositories: a ``config.json`` that names the network inside (``modelBase``)
and the size of CLIP's space (``numDims``), and weights under ``transformer.`` and ``LinearTransformation.``. The older
``M-BERT-*`` repositories keep their linear head in a pickle beside the model and are not read.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import ArtifactError
from . import _compat
from .base import Encoded
from .checkpoints import (
    fast_tokenizer,
    find,
    inner_config,
    load_exactly,
    read_json,
    read_weights,
    write_checkpoint,
)
from .describe import describe, fits
from .huggingface import HuggingFaceEncoder
from .layouts import LAYOUTS
from .pretrained import without_pooler
from .records import recorded

__all__ = ["MClipEncoder"]

NAME = "mclip"
(WEIGHTS,) = LAYOUTS[NAME].weights
INNER = "transformer"
"""Folder in which ``save`` leaves the configuration of the network inside, so that ``load`` needs no hub."""


class MClipEncoder(nn.Module):
    """M-CLIP's text encoders: a transformer whose masked mean a linear map with bias takes into CLIP's text space."""

    def __init__(
        self, transformer: HuggingFaceEncoder, projection: nn.Linear, described: dict[str, Any]
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.projection = projection
        self.described = described
        self.tokenizer = transformer.tokenizer
        self.info = transformer.info

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        out: Encoded = self.transformer(input_ids, attention_mask)
        return out._replace(projected=self.projection(out.pooled))

    def save(self, folder: Path) -> None:
        """Write M-CLIP's layout (safetensors, tokenizer, config), the inner configuration and ``xtremex.json``."""
        self.transformer.model.config.save_pretrained(Path(folder) / INNER)
        files = {"config.json": self.described}
        write_checkpoint(folder, self.tokenizer, WEIGHTS, self._parts().state_dict(), files, self.info, NAME)

    def _parts(self) -> nn.ModuleDict:
        """The trained modules under M-CLIP's names."""
        return nn.ModuleDict({"transformer": self.transformer.model, "LinearTransformation": self.projection})

    @classmethod
    def load(cls, checkpoint: str, *, revision: str | None = None) -> Self:
        """Load in float32 and eval mode, from safetensors only.

        Args:
            checkpoint: hub id (``M-CLIP/XLM-Roberta-Large-Vit-L-14``) or a folder with the same files.
            revision: commit hash, tag or branch of a hub id; required there.

        The network inside is built from ``transformer/config.json`` in the folder, else from ``modelBase`` (a path, or
        a hub id in the cache).

        Raises:
            SuiteError: a hub id without revision, or a folder with one.
            ArtifactError: not M-CLIP's layout, no safetensors, missing, unexpected or misshapen weights, or a tokenizer
                that does not belong to them.
        """
        _compat.prepare()
        folder, commit = find(checkpoint, revision, ["config.json"], [WEIGHTS])
        described = read_json(folder / "config.json")
        name, size = described.get("modelBase"), described.get("numDims")
        if not isinstance(name, str) or not isinstance(size, int):
            raise ArtifactError(
                f"the config.json of `{checkpoint}` has no `modelBase` and `numDims`, so it is not M-CLIP's layout",
                "`huggingface` loads plain transformers encoders, `open_clip` those of open_clip",
            )
        config = inner_config([folder / INNER, folder / name], name, checkpoint)
        model, projection = _networks(config, size)
        tokenizer = fast_tokenizer(str(folder), config)
        fits(tokenizer, model, checkpoint)
        stated = {"objective": "text-distilled-to-CLIP", **recorded(folder, NAME, commit)}
        info = dataclasses.replace(describe(model, tokenizer, commit), **stated)
        encoder = cls(HuggingFaceEncoder(model, tokenizer, info), projection, described)
        # M-CLIP's class has a pooler, so its weights are stored; nothing reads them
        stored = read_weights(folder, [WEIGHTS])
        weights = {key: tensor for key, tensor in stored.items() if not key.startswith("transformer.pooler.")}
        load_exactly(encoder._parts(), weights, checkpoint)
        return encoder.eval()


def _networks(config: Any, size: int) -> tuple[Any, nn.Linear]:
    """The transformer without its pooler and the linear map, both still random."""
    from transformers import MODEL_MAPPING, AutoModel

    with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are replaced at once
        kind = MODEL_MAPPING.get(type(config), None)
        model = AutoModel.from_config(config, dtype=torch.float32, **without_pooler(kind))
        return model, nn.Linear(model.config.hidden_size, size)
