"""The text tower of any open_clip model, with the token states that open_clip does not offer.

Read are folders in open_clip's ``local-dir`` layout and hub repositories of the same files: ``open_clip_config.json``
(or the architecture's name), ``open_clip_model.safetensors``, and tokenizer files where the tower has a tokenizer of
its own. The image tower is not built.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import load_exactly, read_weights, write_checkpoint
from .open_clip_tower import (
    CONFIG,
    NATIVE_POOLING,
    WEIGHTS,
    check_tokenizer,
    describe_tower,
    empty_tower,
    find_checkpoint,
    inner_config_of,
    read_model_cfg,
    refuse_unsupported,
    text_weights,
    tower_tokenizer,
)
from .pooling import pool
from .portable import Portable
from .records import recorded

__all__ = ["OpenClipEncoder"]

NAME = "open_clip"


class OpenClipEncoder(Portable):
    """The text tower of any open_clip model, with a network of transformers inside or open_clip's own.

    ``pooled`` is the tower's own vector before its projection, ``projected`` what ``encode_text`` gives. Texts are not
    cleaned as open_clip's tokenizers do it (``info.cleaning``): that would move the characters.
    """

    def __init__(
        self, tower: Any, tokenizer: Any, info: EncoderInfo, model_cfg: dict[str, Any], inner: Any
    ) -> None:
        super().__init__()
        self.tower = tower
        self.tokenizer = tokenizer
        self.info = info
        self.model_cfg = model_cfg
        self.inner = inner
        # open_clip pads its own BPE with 0; a tower that reads its padding must find what it was trained on
        self.padding: int = tokenizer.pad_token_id if model_cfg["text_cfg"].get("hf_tokenizer_name") else 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        if self.inner is not None:
            return self._transformers(input_ids, attention_mask)
        return self._native(input_ids, attention_mask)

    def _transformers(self, ids: Tensor, mask: Tensor) -> Encoded:
        tower = self.tower
        out = tower.transformer(
            input_ids=ids, attention_mask=mask, output_hidden_states=True, return_dict=True
        )
        states = (*out.hidden_states[:-1], out.last_hidden_state)
        pooled = tower.pooler(out, mask)
        return Encoded(states, mask, pooled, tower.proj(pooled))

    def _native(self, ids: Tensor, mask: Tensor) -> Encoded:
        tower, length = self.tower, ids.shape[1]
        if self.info.pad_to not in (None, length):
            raise ValueError(
                f"this tower reads its padding: inputs have {self.info.pad_to} tokens, not {length}"
            )
        ids = ids.masked_fill(mask == 0, self.padding)
        embedded = tower.token_embedding(ids) + tower.positional_embedding[:length]
        # a causal tower's mask has the full length; cut to the input's it changes nothing but the cost
        causal = None if tower.attn_mask is None else tower.attn_mask[:length, :length]
        last, blocks = tower.transformer.forward_intermediates(embedded, attn_mask=causal)
        states = (embedded, *blocks[:-1], tower.ln_final(last))
        pooled = pool(states[-1], mask, NATIVE_POOLING[tower.pool_type])
        if tower.text_projection is None:
            return Encoded(states, mask, pooled, None)
        projection = tower.text_projection
        projected = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return Encoded(states, mask, pooled, projected)

    def _blank_arguments(self) -> tuple[Any, ...]:
        return self.tokenizer, self.info, self.model_cfg, self.inner

    @classmethod
    def _blank(cls, *arguments: Any) -> Self:
        tokenizer, info, model_cfg, inner = arguments
        with torch.device("meta"):
            tower = empty_tower(model_cfg, inner)
        return cls(tower, tokenizer, info, model_cfg, inner)

    def save(self, folder: Path) -> None:
        """Write the layout that ``load`` reads, text tower only, and ``xtremex.json``."""
        if self.inner is not None:
            self.inner.save_pretrained(folder)
        weights = {f"text.{name}": tensor for name, tensor in self.tower.state_dict().items()}
        files = {CONFIG: {"model_cfg": self.model_cfg}}
        write_checkpoint(folder, self.tokenizer, WEIGHTS[0], weights, files, self.info, NAME)

    @classmethod
    def load(cls, checkpoint: str, *, revision: str | None = None, model: str | None = None) -> Self:
        """Load in float32 and eval mode, from safetensors only.

        Args:
            checkpoint: folder in open_clip's layout, or a hub id with the same files.
            revision: commit hash, tag or branch of a hub id; required there.
            model: open_clip's name of the architecture (``xlm-roberta-base-ViT-B-32``), for checkpoints without an
                ``open_clip_config.json``, as some of LAION's.

        A transformers tower is built from the folder's own ``config.json``, else from ``hf_model_name`` (a path, or a
        hub id in the cache). Its tokenizer comes from the folder, else from ``hf_tokenizer_name``; towers without one
        have open_clip's BPE, rebuilt as a fast tokenizer.

        Raises:
            SuiteError: a hub id without revision, a folder with one, a tower of a kind that has no token states.
            ArtifactError: not open_clip's layout, no safetensors, missing, unexpected or misshapen weights, or a
                tokenizer that does not belong to them.
            MissingDependency: open_clip is not installed.
        """
        _compat.prepare()
        folder, commit = find_checkpoint(checkpoint, revision, model)
        model_cfg = read_model_cfg(folder, model, checkpoint)
        text_cfg = model_cfg["text_cfg"]
        refuse_unsupported(text_cfg, checkpoint)
        inner = inner_config_of(model_cfg, folder, checkpoint)
        tower = empty_tower(model_cfg, inner)
        tokenizer = tower_tokenizer(folder, text_cfg, inner)
        check_tokenizer(tokenizer, tower, inner, checkpoint)
        load_exactly(tower, text_weights(read_weights(folder, WEIGHTS)), checkpoint)
        # what a tower grounded here read was not cleaned, whatever open_clip does to texts by default
        stated = recorded(folder, NAME, commit, "cleaning")
        info = dataclasses.replace(describe_tower(tower, tokenizer, inner, text_cfg, commit), **stated)
        return cls(tower, tokenizer, info, model_cfg, inner).eval()
