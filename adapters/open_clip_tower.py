"""Text towers of open_clip and their tokenizers, built from a model's description without its image tower and weights."""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import ArtifactError, MissingDependency, SuiteError, unknown
from .base import EncoderInfo
from .checkpoints import fast_tokenizer, find, inner_config, read_json
from .describe import describe, fits, tokenizer_id
from .families import family_of
from .layouts import LAYOUTS

__all__ = [
    "CONFIG",
    "NATIVE_POOLING",
    "WEIGHTS",
    "check_tokenizer",
    "describe_tower",
    "empty_tower",
    "find_checkpoint",
    "inner_config_of",
    "read_model_cfg",
    "refuse_unsupported",
    "text_weights",
    "tower_tokenizer",
]

(CONFIG,) = LAYOUTS["open_clip"].description
WEIGHTS = LAYOUTS["open_clip"].weights
POOLERS = {"mean_pooler": "mean", "cls_pooler": "cls", "cls_last_hidden_state_pooler": "cls"}
"""Poolers of transformers towers. ``max_pooler`` is left out: open_clip 3.3 fails on its integer mask."""
NATIVE_POOLING = {"first": "cls", "last": "last", "argmax": "eos", "eos": "eos"}
"""Poolings of native towers; the largest id (``argmax``) of open_clip's own vocabulary is that of its closing token."""
OTHERS = ("visual.", "logit_scale", "logit_bias")
"""What a checkpoint holds besides the text tower."""


def find_checkpoint(checkpoint: str, revision: str | None, model: str | None) -> tuple[Path, str | None]:
    """The folder of a checkpoint with its weights, and the commit of a hub id (errors as of ``find``).

    Where a repository has weights under both of open_clip's names, only those under the first are downloaded.
    """
    markers = [CONFIG, *WEIGHTS] if model else [CONFIG]
    folder, commit = find(checkpoint, revision, markers, WEIGHTS[:1])
    if commit and not (folder / WEIGHTS[0]).is_file():
        folder, commit = find(checkpoint, revision, markers, WEIGHTS)
    return folder, commit


def read_model_cfg(folder: Path, model: str | None, checkpoint: str = "") -> dict[str, Any]:
    """The architecture, from the checkpoint's own description or, where it has none, by open_clip's name ``model``.

    Raises:
        SuiteError: open_clip knows the hub id ``checkpoint`` as trained with another activation than ``model`` has.
        ArtifactError: an ``open_clip_config.json`` that describes no text tower.
        UnknownName: open_clip knows no such architecture.
        MissingDependency: open_clip is not installed.
    """
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
    found = cast(dict[str, Any], open_clip.get_model_config(model))
    for tag in open_clip.list_pretrained_tags_by_model(model):
        published = open_clip.get_pretrained_cfg(model, tag)
        # the shapes are the same, so nothing else would tell; open_clip itself only warns
        if published.get("hf_hub", "").strip("/") == checkpoint and (
            published.get("quick_gelu", False) != found.get("quick_gelu", False)
        ):
            raise SuiteError(
                f"`{checkpoint}` was trained with another activation than open_clip's `{model}` has (QuickGELU or GELU)",
                f'use model = "{model}-quickgelu"'
                if published.get("quick_gelu")
                else "use the name without -quickgelu",
            )
    return found


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


def refuse_unsupported(text_cfg: Mapping[str, Any], checkpoint: str) -> None:
    """``SuiteError`` for a text tower whose token states could not be given faithfully."""
    settings = text_cfg.get("tokenizer_kwargs") or {}
    pooler, pool = text_cfg.get("hf_pooler_type", "mean_pooler"), text_cfg.get("pool_type", "argmax")
    if text_cfg.get("embed_cls"):
        reason = "appends a class token to every text (CoCa)"
    elif settings.get("strip_sep_token") or settings.get("tokenizer_mode") or text_cfg.get("tokenizer_mode"):
        reason = "changes the tokens after tokenisation (CLIPS, CLIPA)"
    elif text_cfg.get("hf_model_name") and pooler not in POOLERS:
        reason = f"pools with `{pooler}`"
    elif not text_cfg.get("hf_model_name") and pool not in NATIVE_POOLING:
        reason = f"pools with `{pool}`"
    else:
        return
    raise SuiteError(
        f"the text tower of `{checkpoint}` {reason}",
        "such towers need an adapter of their own (docs/add-a-backbone.md)",
    )


def inner_config_of(model_cfg: Mapping[str, Any], folder: Path, checkpoint: str) -> Any:
    """Configuration of the transformers network in the tower; None for open_clip's own towers.

    Built from the folder's ``config.json``, else from ``hf_model_name``: a path, or a hub id in the cache.
    """
    name = model_cfg["text_cfg"].get("hf_model_name")
    return inner_config([folder, folder / name], name, checkpoint) if name else None


def empty_tower(model_cfg: Mapping[str, Any], inner: Any) -> Any:
    """A text tower with random weights; open_clip's public ``create_model`` would build the image tower too."""
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


def text_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text tower's tensors under its own names; older CLIP classes stored them without the prefix ``text.``"""
    return {
        name.removeprefix("text."): tensor for name, tensor in weights.items() if not name.startswith(OTHERS)
    }


def tower_tokenizer(folder: Path, text_cfg: Mapping[str, Any], inner: Any) -> Any:
    """The fast tokenizer in the folder, else ``hf_tokenizer_name``; open_clip's BPE, rebuilt, for towers without one."""
    name = text_cfg.get("hf_tokenizer_name")
    if name:
        own = any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer_config.json"))
        return fast_tokenizer(str(folder) if own else name, inner)
    with _installed():
        from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    bpe = SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary: Any = {renamed.get(token, token): number for token, number in bpe.encoder.items()}
    merges: Any = sorted(bpe.bpe_ranks, key=bpe.bpe_ranks.__getitem__)
    length = text_cfg.get("context_length", bpe.context_length)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def check_tokenizer(tokenizer: Any, tower: Any, inner: Any, checkpoint: str) -> None:
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


def describe_tower(
    tower: Any, tokenizer: Any, inner: Any, text_cfg: Mapping[str, Any], commit: str | None
) -> EncoderInfo:
    """What a loaded tower says about itself, with the confounds of its training."""
    trained = text_cfg.get("context_length", 77)  # CLIPTextCfg's default, also for transformers towers
    cleaning = _left_out(tokenizer, text_cfg)
    if inner is not None:
        info = describe(tower.transformer, tokenizer, commit, family_of(inner, inner.name_or_path))
        return dataclasses.replace(
            info,
            objective="image-contrastive",
            pooling=_pooling(tower, text_cfg),
            max_length_trained=min(trained, info.max_length),
            cleaning=cleaning,
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
        pooling=NATIVE_POOLING[tower.pool_type],
        cleaning=cleaning,
        revision=commit,
    )


def _pooling(tower: Any, text_cfg: Mapping[str, Any]) -> str:
    """``cls_pooler`` takes the network's own pooler (a dense layer and tanh over the first token) where it has one."""
    pooler = text_cfg.get("hf_pooler_type", "mean_pooler")
    own = pooler == "cls_pooler" and getattr(tower.transformer, "pooler", None) is not None
    return "pooler" if own else POOLERS[pooler]


def _left_out(tokenizer: Any, text_cfg: Mapping[str, Any]) -> str:
    """open_clip's name of what its tokenizers do to a text and ``tokenizer`` does not do.

    All of them mend encodings (ftfy), resolve HTML entities and join white space (``whitespace``); some also fold case
    (``lower``) or drop punctuation (``canonicalize``). Their own BPE folds case by default, and the rebuilt one does too.
    """
    default = "whitespace" if text_cfg.get("hf_tokenizer_name") else "lower"
    done = (text_cfg.get("tokenizer_kwargs") or {}).get("clean", default)
    upper, lower = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("A", "a"))
    return "whitespace" if done == "lower" and upper == lower else done
