"""The text tower of any open_clip model, with the token states that open_clip does not offer.

Read are folders in open_clip's ``local-dir`` layout and hub repositories of the same files: ``open_clip_config.json``
(or the architecture's name), ``open_clip_model.safetensors``, and tokenizer files where the tower has a tokenizer of
its own. The image tower is not built.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from ..errors import ArtifactError, MissingDependency, SuiteError, unknown
from . import _compat
from .base import Encoded, EncoderInfo
from .checkpoints import (
    fast_tokenizer,
    find,
    inner_config,
    load_exactly,
    read_json,
    read_weights,
    write_checkpoint,
)
from .describe import describe, fits, tokenizer_id
from .layouts import LAYOUTS

__all__ = ["OpenClipEncoder"]

(CONFIG,) = LAYOUTS["open_clip"].description
WEIGHTS = LAYOUTS["open_clip"].weights
POOLERS = {"mean_pooler": "mean", "cls_pooler": "cls", "cls_last_hidden_state_pooler": "cls"}
"""Poolers of transformers towers. ``max_pooler`` is left out: open_clip 3.3 fails on its integer mask."""
OTHERS = ("visual.", "logit_scale", "logit_bias")
"""What a checkpoint holds besides the text tower."""


class OpenClipEncoder(nn.Module):
    """An ``HFTextEncoder`` (transformers inside) or a native ``TextTransformer``.

    ``pooled`` is the tower's own vector before its projection, ``projected`` what ``encode_text`` gives. Texts are not
    cleaned as open_clip's tokenizers do it (ftfy, lower case, no punctuation): that would move the characters.
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
        pooled = self._pool(states[-1], mask)
        if tower.text_projection is None:
            return Encoded(states, mask, pooled, None)
        projection = tower.text_projection
        projected = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
        return Encoded(states, mask, pooled, projected)

    def _pool(self, states: Tensor, mask: Tensor) -> Tensor:
        if self.info.pooling in ("first", "last"):
            return states[:, 0 if self.info.pooling == "first" else -1]
        # "eos" and "argmax" mean the closing token. open_clip looks for the first one, which in a pair of texts, that
        # it never sees, would close the first text
        end = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
        return states[torch.arange(len(states), device=states.device), end]

    def __reduce__(self) -> tuple[Any, ...]:
        # transformers leaves local functions in the modules' hooks, which cannot be pickled
        state = {
            "tensors": self.state_dict(),
            "frozen": [name for name, parameter in self.named_parameters() if not parameter.requires_grad],
            "training": self.training,
        }
        return _rebuild, (self.tokenizer, self.info, self.model_cfg, self.inner, state)

    def save(self, folder: Path) -> None:
        """Write the layout that ``load`` reads, text tower only, and ``xtremex.json``."""
        if self.inner is not None:
            self.inner.save_pretrained(folder)
        weights = {f"text.{name}": tensor for name, tensor in self.tower.state_dict().items()}
        files = {CONFIG: {"model_cfg": self.model_cfg}}
        write_checkpoint(folder, self.tokenizer, WEIGHTS[0], weights, files, self.info)

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
        folder, commit = find(checkpoint, revision, [CONFIG, WEIGHTS[0]] if model else [CONFIG], WEIGHTS[:1])
        model_cfg = _model_cfg(folder, model)
        text_cfg = model_cfg["text_cfg"]
        _refuse_unsupported(text_cfg, checkpoint)
        name = text_cfg.get("hf_model_name")
        inner = None if not name else inner_config([folder, folder / name], name, checkpoint)
        tower = _tower(model_cfg, inner)
        tokenizer = _tokenizer(folder, text_cfg, inner)
        _check(tokenizer, tower, inner, checkpoint)
        load_exactly(tower, _text_weights(read_weights(folder, WEIGHTS)), checkpoint)
        if (folder / "xtremex.json").is_file():
            info = EncoderInfo(**read_json(folder / "xtremex.json")["info"])
        else:
            info = _info(tower, tokenizer, inner, text_cfg, commit)
        return cls(tower, tokenizer, info, model_cfg, inner).eval()


def _model_cfg(folder: Path, model: str | None) -> dict[str, Any]:
    """The architecture, from the checkpoint's own description or, where it has none, by open_clip's name."""
    if model is None or (folder / CONFIG).is_file():
        found = read_json(folder / CONFIG).get("model_cfg")
        if not isinstance(found, dict) or not isinstance(found.get("text_cfg"), dict):
            raise ArtifactError(
                f"{folder / CONFIG} has no `model_cfg` with a `text_cfg`", "download it again"
            )
        return found
    with _installed():
        import open_clip
    if model not in open_clip.list_models():
        raise unknown("open_clip model", model, open_clip.list_models())
    return cast(dict[str, Any], open_clip.get_model_config(model))


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "open_clip":
            raise
        raise MissingDependency(
            "the adapter `open_clip` needs `open_clip_torch`, which is not installed",
            'pip install "xtremex[vision]"',
        ) from None


def _refuse_unsupported(text_cfg: dict[str, Any], checkpoint: str) -> None:
    settings = text_cfg.get("tokenizer_kwargs") or {}
    pooler, pool = text_cfg.get("hf_pooler_type", "mean_pooler"), text_cfg.get("pool_type", "argmax")
    if text_cfg.get("embed_cls"):
        reason = "appends a class token to every text (CoCa)"
    elif settings.get("strip_sep_token") or text_cfg.get("tokenizer_mode"):
        reason = "changes the tokens after tokenisation (CLIPS, CLIPA)"
    elif text_cfg.get("hf_model_name") and pooler not in POOLERS:
        reason = f"pools with `{pooler}`"
    elif not text_cfg.get("hf_model_name") and pool not in ("first", "last", "argmax", "eos"):
        reason = f"pools with `{pool}`"
    else:
        return
    raise SuiteError(
        f"the text tower of `{checkpoint}` {reason}",
        "such towers need an adapter of their own (docs/add-a-backbone.md)",
    )


def _tower(model_cfg: dict[str, Any], inner: Any) -> Any:
    """An empty text tower; open_clip's public ``create_model`` would build the image tower too."""
    with _installed():
        from open_clip.model import _build_text_tower
    text_cfg = copy.deepcopy(model_cfg["text_cfg"]) | {"output_tokens": False, "hf_model_pretrained": False}
    build = (model_cfg["embed_dim"], text_cfg, bool(model_cfg.get("quick_gelu")))
    with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are replaced at once
        if inner is None:
            return _build_text_tower(*build)
        # open_clip takes a configuration only by name, and otherwise adds a pooler that real checkpoints lack
        with tempfile.TemporaryDirectory() as folder:
            inner.save_pretrained(folder)
            text_cfg["hf_model_name"] = folder
            return _build_text_tower(*build)


def _text_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors under its own names; older CLIP classes stored them without the prefix ``text.``"""
    return {
        name.removeprefix("text."): tensor for name, tensor in weights.items() if not name.startswith(OTHERS)
    }


def _tokenizer(folder: Path, text_cfg: dict[str, Any], inner: Any) -> Any:
    name = text_cfg.get("hf_tokenizer_name")
    if name:
        own = any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json"))
        return fast_tokenizer(str(folder) if own else name, inner)
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    bpe = SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary: Any = {renamed.get(token, token): number for token, number in bpe.encoder.items()}
    merges: Any = sorted(bpe.bpe_ranks, key=bpe.bpe_ranks.__getitem__)
    length = text_cfg.get("context_length", bpe.context_length)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def _check(tokenizer: Any, tower: Any, inner: Any, checkpoint: str) -> None:
    """Refuse a tokenizer whose ids the tower does not embed, or whose special tokens it does not know."""
    if inner is not None:
        fits(tokenizer, tower.transformer, checkpoint)
        if tokenizer.pad_token_id != inner.pad_token_id:
            raise ArtifactError(
                f"the tokenizer of `{checkpoint}` pads with {tokenizer.pad_token_id}, its tower with {inner.pad_token_id}",
                "the folder mixes files of two models",
            )
        return
    ids, largest = tokenizer("a")["input_ids"], max(tokenizer.get_vocab().values())
    closing = {"argmax": max(ids), "eos": tower.eos_id}.get(tower.pool_type, ids[-1])
    if largest >= tower.vocab_size or ids[-1] != closing:
        raise ArtifactError(
            f"the tokenizer of `{checkpoint}` has ids up to {largest} and ends a text with {ids[-1]}; its tower embeds "
            f"{tower.vocab_size} and expects {closing} at the end",
            "the folder mixes files of two models",
        )


def _info(
    tower: Any, tokenizer: Any, inner: Any, text_cfg: dict[str, Any], commit: str | None
) -> EncoderInfo:
    trained = text_cfg.get("context_length", 77)  # CLIPTextCfg's default, also for transformers towers
    if inner is not None:
        info = describe(tower.transformer, tokenizer, commit)
        return dataclasses.replace(
            info,
            objective="image-contrastive",
            pooling=POOLERS[text_cfg.get("hf_pooler_type", "mean_pooler")],
            max_length_trained=min(trained, info.max_length),
        )
    causal = tower.attn_mask is not None
    # without a causal mask every token sees the padding; pooled at the last position, the sentence vector is padding
    fixed = not causal or tower.pool_type == "last"
    return EncoderInfo(
        family="open_clip",
        objective="image-contrastive",
        tokenizer_id=tokenizer_id(tokenizer),
        hidden_size=tower.width,
        layers=len(tower.transformer.resblocks),
        max_length_trained=tower.context_length,
        max_length=tower.context_length,
        causal=causal,
        attends_padding=fixed,
        pad_to=tower.context_length if fixed else None,
        pooling=tower.pool_type,
        revision=commit,
    )


def _rebuild(
    tokenizer: Any, info: EncoderInfo, model_cfg: dict[str, Any], inner: Any, state: dict[str, Any]
) -> OpenClipEncoder:
    _compat.prepare()
    encoder = OpenClipEncoder(_tower(model_cfg, inner), tokenizer, info, model_cfg, inner)
    encoder.load_state_dict(state["tensors"], assign=True)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name not in state["frozen"])
    return encoder.train(state["training"])
