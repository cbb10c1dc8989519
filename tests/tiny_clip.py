"""Tiny random vision-language checkpoints in the file layouts of the hub repositories: open_clip's, M-CLIP's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import tiny_checkpoints
import tiny_composites
import torch
import transformers
from safetensors.torch import save_file

from xtremex.adapters import _compat

_compat.prepare()

import open_clip  # noqa: E402

VISION = {"image_size": 32, "patch_size": 16, "layers": 2, "width": 32, "head_width": 16}
HF = {"hf_pooler_type": "mean_pooler"}
NATIVE = {"context_length": 77, "width": 32, "heads": 4, "layers": 2}
SIGLIP = {
    **NATIVE,
    "context_length": 64,
    "hf_tokenizer_name": "timm/ViT-B-16-SigLIP-i18n-256",
    "no_causal_mask": True,
    "proj_bias": True,
    "pool_type": "last",
    "norm_kwargs": {"eps": 1e-6},
}
METACLIP2 = {**NATIVE, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2}
TOWERS: dict[str, dict[str, Any]] = {
    "xlm-roberta": HF,
    "clip": NATIVE,
    "siglip": SIGLIP,
    "metaclip2": METACLIP2,
}

INSIDE: dict[str, dict[str, Any]] = {
    "xlm-roberta": HF,
    "roberta": HF,
    "bert": {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},
    "mt5": HF,
    "m2m_100": {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear"},  # as in NLLB-CLIP
}
"""Every ``model_type`` that open_clip can have inside a tower (``open_clip.hf_configs.arch_dict``)."""


def write_inside(folder: Path, kind: str) -> Path:
    """The transformers checkpoint whose encoder becomes the text tower."""
    if kind in ("xlm-roberta", "bert"):
        return tiny_checkpoints.write(folder, kind)
    if kind in tiny_composites.MADE:
        return tiny_composites.write(folder, kind)
    tokenizer = tiny_checkpoints.unigram()
    config = transformers.RobertaConfig(
        **tiny_checkpoints.SMALL, vocab_size=len(tokenizer), max_position_embeddings=66
    )
    transformers.RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_open_clip(folder: Path, kind: str, **text_cfg: Any) -> Path:
    """What open_clip's ``push_to_hf_hub`` writes: weights of both towers, ``open_clip_config.json``, the tokenizer.

    Kinds: transformers towers (``INSIDE``), and native ones as in CLIP (own BPE, causal, pooled at its end), SigLIP (padded,
    pooled at the last position) and MetaCLIP 2 (causal, foreign tokenizer).
    """
    tokenizer = tiny_checkpoints.unigram()
    cfg = (TOWERS | INSIDE)[kind] | text_cfg
    if kind in INSIDE:
        base = write_inside(folder / "base", kind)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        # the real ones name `xlm-roberta-base` here, which open_clip itself cannot load without the hub
        cfg |= {"hf_model_name": str(base), "hf_tokenizer_name": str(base)}
    elif "hf_tokenizer_name" in cfg:
        cfg |= {"vocab_size": len(tokenizer)}
    model_cfg = {"embed_dim": 20, "vision_cfg": VISION, "text_cfg": cfg}
    custom = kind in INSIDE or kind == "siglip"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model_class = open_clip.CustomTextCLIP if custom else open_clip.CLIP
        built = {
            **model_cfg,
            "text_cfg": cfg | ({"hf_model_pretrained": False} if kind in INSIDE else {}),
        }
        model = model_class(**built)
        _shake(model)
    if custom:
        model_cfg["custom_text"] = True
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}))
    if "hf_tokenizer_name" in cfg:
        tokenizer.save_pretrained(folder)
    return folder


def write_mclip(folder: Path, size: int = 20) -> Path:
    """``M-CLIP/XLM-Roberta-Large-Vit-*``: the class stores its transformer *with* pooler and a linear map with bias."""
    base = tiny_checkpoints.write(folder / "base", "xlm-roberta")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = transformers.AutoModel.from_config(transformers.AutoConfig.from_pretrained(base))
        parts = torch.nn.ModuleDict(
            {"transformer": model, "LinearTransformation": torch.nn.Linear(model.config.hidden_size, size)}
        )
        _shake(parts)
    weights = {k: v.contiguous() for k, v in parts.state_dict().items()}
    weights["transformer.embeddings.position_ids"] = torch.arange(66)[None]
    save_file(weights, folder / "model.safetensors")
    config = {"model_type": "M-CLIP", "modelBase": str(base), "numDims": size, "transformerDimensions": 32}
    (folder / "config.json").write_text(json.dumps(config))
    tiny_checkpoints.unigram().save_pretrained(folder)
    return folder


def _shake(module: torch.nn.Module) -> None:
    """Biases and gains off their zeros and ones: no weight may be lost unseen."""
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
