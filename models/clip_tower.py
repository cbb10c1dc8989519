"""The image tower that an open_clip checkpoint brings: its own eyes, preprocessing and text projection, all frozen.

An arm that started from such a checkpoint is scored on image-text retrieval without grounding it here. Intermediate
training moves the text encoder up to its sentence vector; projection and image tower stay as they were published, so that
what is lost between before and after is lost in the encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import _compat
from ..adapters.checkpoints import load_exactly, read_json, read_weights
from ..adapters.open_clip_tower import (
    CONFIG,
    WEIGHTS,
    empty_tower,
    find_checkpoint,
    inner_config_of,
    read_model_cfg,
    text_weights,
)
from ..errors import ArtifactError
from . import pictures
from .tower import ImageTower

__all__ = ["ClipTower", "empty_visual", "preprocessing", "read_visual", "transform_of"]

_VISUAL = "visual."


class ClipTower(ImageTower):
    """Pictures and pooled sentence vectors into the checkpoint's own space, (B, D) float32 of unit length.

    ``text_features(encoder(...).pooled)`` is what open_clip's ``encode_text`` gives for the same encoder, ``image_features``
    what ``encode_image`` gives for pictures under open_clip's evaluation transform, both normalised. Pictures are first
    turned as their EXIF data say and laid on white, which open_clip leaves to its users.
    """

    def __init__(self, visual: Any, projection: nn.Module, transform: Any, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.projection = projection
        self.transform = transform
        self.dim = dim
        size = visual.image_size
        self._size: int = max(size) if isinstance(size, Sequence) else size

    def text_features(self, pooled: Tensor) -> Tensor:
        """Sentence vectors before the projection (B, H) -> (B, D) of unit length, float32 even under autocast."""
        with torch.autocast(pooled.device.type, enabled=False):
            return functional.normalize(self.projection(pooled.float()), dim=-1)

    def pixels(self, keys: Sequence[str]) -> Tensor:
        """Pictures by key -> (B, 3, S, S) float32, scaled, cut and centred as the checkpoint was trained."""
        return torch.stack([self.transform(pictures.opened(key, self._size)) for key in keys])

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels as the transform gives them -> (B, D) of unit length, float32."""
        return functional.normalize(self.visual(pixels).float(), dim=-1)

    @classmethod
    def load(cls, checkpoint: str, *, revision: str | None = None, model: str | None = None) -> Self:
        """The frozen tower of a checkpoint, in float32 and evaluation mode; the text encoder is not kept.

        Args:
            checkpoint: what :class:`~xtremex.adapters.open_clip.OpenClipEncoder` loads, and so the files that it reads.
            revision: of a hub id, as there.
            model: open_clip's name of the architecture, as there. A checkpoint without ``open_clip_config.json`` has
                the preprocessing that open_clip's table of pretrained models gives for it.

        Raises:
            SuiteError: a hub id without revision, a folder with one.
            ArtifactError: no image tower in the checkpoint, missing, unexpected or misshapen weights, a preprocessing that
                nothing tells.
            MissingDependency: open_clip is not installed.
        """
        _compat.prepare()
        # exactly the files that the adapter asks for: anything more would be looked for on the network
        folder, _ = find_checkpoint(checkpoint, revision, model)
        model_cfg = read_model_cfg(folder, model, checkpoint)
        weights = read_weights(folder, WEIGHTS)
        visual = read_visual(model_cfg, weights, checkpoint)
        projection = _projection(model_cfg, weights, folder, checkpoint)
        transform = transform_of(preprocessing(folder, checkpoint, model, visual.image_size))
        tower = cls(visual, projection, transform, model_cfg["embed_dim"])
        return tower.eval().requires_grad_(False)


def read_visual(model_cfg: dict[str, Any], weights: Mapping[str, Tensor], checkpoint: str) -> Any:
    """The image tower among a checkpoint's ``weights``; ``ArtifactError`` where there is none, or not exactly one."""
    own = {name.removeprefix(_VISUAL): t for name, t in weights.items() if name.startswith(_VISUAL)}
    if not own:
        raise ArtifactError(
            f"`{checkpoint}` holds a text tower only: no tensor of its weights begins with `{_VISUAL}`",
            "remove `images = true` from the backbone, or name the checkpoint with both towers",
        )
    visual = empty_visual(model_cfg)
    load_exactly(visual, own, checkpoint)
    return visual


def empty_visual(model_cfg: dict[str, Any]) -> Any:
    """An empty image tower; open_clip's public ``create_model`` would build the text tower too."""
    from open_clip.model import _build_vision_tower

    # nothing is fetched for an empty tower, and one vector a picture is wanted
    vision_cfg = copy.deepcopy(model_cfg["vision_cfg"]) | {"output_tokens": False}
    if "timm_model_name" in vision_cfg:
        vision_cfg["timm_model_pretrained"] = False
    with torch.random.fork_rng(devices=[]):  # constructors draw weights, which are replaced at once
        return _build_vision_tower(
            model_cfg["embed_dim"], vision_cfg, quick_gelu=bool(model_cfg.get("quick_gelu"))
        )


def _projection(
    model_cfg: dict[str, Any], weights: Mapping[str, Tensor], folder: Path, checkpoint: str
) -> nn.Module:
    """The text tower's map from its pooled vector into the shared space, with the checkpoint's weights.

    Its shape is read off an empty text tower without storage.
    """
    inner = inner_config_of(model_cfg, folder, checkpoint)
    with torch.device("meta"):
        tower = empty_tower(model_cfg, inner)
    part = "text_projection" if inner is None else "proj"
    shaped = getattr(tower, part)
    given = {
        key.removeprefix(part).removeprefix("."): tensor
        for key, tensor in text_weights(weights).items()
        if key == part or key.startswith(f"{part}.")
    }
    if shaped is None:
        shaped = nn.Identity()
    elif isinstance(shaped, nn.Parameter):  # a bare matrix (H, D), applied from the right
        shaped = nn.Linear(*shaped.shape, bias=False, device="meta")
        given = {key or "weight": tensor.T for key, tensor in given.items()}
    empty = shaped.to_empty(device="cpu")
    load_exactly(empty, given, checkpoint)
    return empty.float()


def preprocessing(folder: Path, checkpoint: str, model: str | None, size: Any) -> dict[str, Any]:
    """How open_clip prepares a checkpoint's pictures: size, mean, std, interpolation, resize_mode.

    As open_clip has it, the tower decides on the size, and the defaults are those of OpenAI's CLIP.
    """
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    if (folder / CONFIG).is_file():
        settings = read_json(folder / CONFIG).get("preprocess_cfg") or {}
    else:
        settings = _published(checkpoint, model or "")
    return merge_preprocess_dict(PreprocessCfg(), settings) | {"size": size}


def transform_of(settings: Mapping[str, Any]) -> Any:
    """open_clip's evaluation transform, from a Pillow image to (3, S, S)."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**settings), is_train=False)


def _published(checkpoint: str, model: str) -> dict[str, Any]:
    """The preprocessing of a checkpoint in open_clip's table; of a folder, where all of the architecture's agree."""
    import open_clip

    keys = ("mean", "std", "interpolation", "resize_mode")
    tags = open_clip.list_pretrained_tags_by_model(model)
    known = [open_clip.get_pretrained_cfg(model, tag) for tag in tags]
    own = [cfg for cfg in known if cfg.get("hf_hub", "").strip("/") == checkpoint] or known
    settings = [{key: cfg[key] for key in keys if key in cfg} for cfg in own]
    if not settings or any(other != settings[0] for other in settings):
        raise ArtifactError(
            f"`{checkpoint}` has no {CONFIG}, and open_clip knows {len(settings)} checkpoints of `{model}`, so nothing "
            "tells how its pictures are scaled and centred",
            f'add a {CONFIG} with `model_cfg` and `preprocess_cfg = {{"mean": ..., "std": ...}}`',
        )
    return settings[0]
