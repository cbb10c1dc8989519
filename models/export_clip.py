"""A grounded arm as an open_clip checkpoint: both towers in the folder layout that ``open_clip`` reads as ``local-dir:``.

What is written is read back by open_clip itself and compared, so that a folder says what the arm says, or does not exist.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..adapters import _compat
from ..adapters.base import Encoder
from ..adapters.describe import first_line, quiet
from .eyes import Eyes
from .tower import Projection, Tower

__all__ = ["Unfit", "write_open_clip"]

POOLERS = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}
CONTEXT = 77
"""Tokens that open_clip's tokenizer pads and cuts to, as its published models do."""
TOLERANCE = 1e-4


class Unfit(Exception):
    """open_clip cannot hold this encoder; the message says why."""


def write_open_clip(
    folder: Path,
    final: Path,
    encoder: Encoder,
    projection: Projection,
    eyes: Eyes | None,
    texts: Sequence[str],
) -> str:
    """Write ``open_clip_config.json``, ``open_clip_model.safetensors``, ``config.json`` and the tokenizer into ``folder``.

    Args:
        folder: where the files are written.
        final: where the folder will lie: open_clip finds the text network's ``config.json`` by an absolute path.
        encoder: an arm whose transformers network is one of open_clip's architectures; on the CPU.
        projection: the arm's tower, or its text projection beside frozen ``eyes``.
        texts: captions that both are compared on.

    Returns:
        Path of the text network among the encoder's modules (``model``): in open_clip's checkpoint it is
        ``tower.transformer``, to the adapter that reads it.

    Raises:
        Unfit: open_clip has no such architecture or pooler, or says something else than the arm. Nothing is left.
        MissingDependency: open_clip is not installed.
    """
    from safetensors.torch import save_file

    network = _network(encoder)
    config = network.config
    visual, model_cfg, preprocess_cfg = _image_side(projection) if eyes is None else _frozen_side(eyes)
    text = {f"transformer.{name}": tensor for name, tensor in network.state_dict().items()}
    text["proj.weight"] = projection.text.weight
    weights = {f"text.{name}": tensor for name, tensor in text.items()} | visual
    weights["logit_scale"] = projection.logit_scale
    text_cfg: dict[str, Any] = {
        "hf_pooler_type": POOLERS[encoder.info.pooling],
        "hf_proj_type": "linear",
        "context_length": min(CONTEXT, encoder.info.max_length),
    }
    model_cfg = {"embed_dim": projection.text.out_features, **model_cfg}

    folder.mkdir(parents=True)
    with quiet():
        config.save_pretrained(folder)
    if config.model_type in ("mt5", "m2m_100"):  # open_clip builds the whole model and takes its encoder
        described = json.loads((folder / "config.json").read_text()) | {"is_encoder_decoder": True}
        (folder / "config.json").write_text(json.dumps(described, indent=1))
    encoder.tokenizer.save_pretrained(folder)
    owned = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(weights.items())}
    save_file(owned, folder / "open_clip_model.safetensors", metadata={"format": "pt"})

    def describe(place: Path) -> None:
        named = text_cfg | {"hf_model_name": str(place), "hf_tokenizer_name": str(place)}
        whole = {"model_cfg": {**model_cfg, "custom_text": True, "text_cfg": named}}
        whole["preprocess_cfg"] = preprocess_cfg
        (folder / "open_clip_config.json").write_text(json.dumps(whole, indent=1))

    describe(folder)
    _compare(folder, encoder, projection, texts)
    describe(final)
    info = dataclasses.asdict(encoder.info)
    (folder / "xtremex.json").write_text(json.dumps({"info": info}, indent=1))
    assert isinstance(encoder, torch.nn.Module)
    return next(name for name, module in encoder.named_modules() if module is network)


def _network(encoder: Encoder) -> Any:
    """The transformers module whose states are the token states."""
    from transformers import PreTrainedModel

    _compat.prepare()
    from open_clip.hf_configs import arch_dict

    assert isinstance(encoder, torch.nn.Module)
    found = getattr(encoder, "body", None) or next(
        (module for module in encoder.modules() if isinstance(module, PreTrainedModel)), None
    )
    if not isinstance(found, PreTrainedModel):
        raise Unfit("it has no transformers network inside")
    if found.config.model_type not in arch_dict:
        raise Unfit(f"open_clip has no text tower of type {found.config.model_type}")
    if encoder.info.pooling not in POOLERS:
        raise Unfit(f"open_clip has no pooler for `{encoder.info.pooling}`")
    return found


def _image_side(projection: Projection) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    """Weights, model and preprocessing configuration of a tower that learned from scratch."""
    assert isinstance(projection, Tower)
    visual = {f"visual.trunk.{name}": tensor for name, tensor in projection.network.state_dict().items()}
    visual["visual.head.proj.weight"] = projection.image.weight
    size = projection.config.image_size
    vision_cfg = {
        "timm_model_name": projection.config.network,
        "timm_model_pretrained": False,
        "timm_pool": "",  # the network's own
        "timm_proj": "linear",
        "image_size": size,
    }
    look = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    return visual, {"vision_cfg": vision_cfg}, look


def _frozen_side(eyes: Eyes) -> tuple[dict[str, Tensor], dict[str, Any], dict[str, Any]]:
    visual = {f"visual.{name}": tensor for name, tensor in eyes.visual.state_dict().items()}
    kept = {name: value for name, value in eyes.model_cfg.items() if name != "embed_dim"}
    return visual, kept, {name: value for name, value in eyes.preprocess_cfg.items() if name != "size"}


def _compare(folder: Path, encoder: Any, projection: Projection, texts: Sequence[str]) -> None:
    """Refuse a folder whose ``encode_text``, through open_clip's own tokenizer, is not the arm's."""
    import open_clip

    place = f"local-dir:{folder}"
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model: Any = open_clip.create_model(place).eval()
        tokenizer: Any = open_clip.get_tokenizer(place)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise Unfit(f"open_clip cannot build it: {first_line(error)}") from error
    # open_clip cleans texts (entities, quotation marks) and cuts them earlier, which is no difference of the towers
    cleaned = [tokenizer.clean_fn(encoder.info.text_prefix + text) for text in texts]
    cut = encoder.tokenizer(
        cleaned, padding=True, truncation=True, max_length=tokenizer.context_length, return_tensors="pt"
    )
    with torch.inference_mode():
        theirs = model.encode_text(tokenizer(cleaned), normalize=True)
        ours = projection.text_features(encoder(cut["input_ids"], cut["attention_mask"]).pooled)
    difference = (functional.normalize(ours, dim=-1) - theirs).abs().max().item()
    if not difference < TOLERANCE:
        raise Unfit(f"open_clip's encode_text differs by {difference:.2g}")
