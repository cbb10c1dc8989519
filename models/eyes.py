"""Frozen image sides for grounding: the image tower of an open_clip checkpoint, or a pretrained ``timm`` network.

Only the text side learns beside them (Zhai et al. 2022, LiT), so every picture is looked at once. A specification is
``open_clip:CHECKPOINT[@REVISION]``, ``timm:NETWORK`` (weights from the hub) or ``timm:NETWORK@FOLDER``
(``model.safetensors`` and, for the preprocessing, timm's ``config.json``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters import _compat
from ..adapters.checkpoints import load_exactly, read_json, read_weights
from ..adapters.describe import first_line
from ..adapters.open_clip_tower import WEIGHTS, find_checkpoint, read_model_cfg
from ..errors import ArtifactError
from .clip_tower import ClipTower, empty_visual, preprocessing, read_visual, transform_of
from .recipe import frozen_tower
from .tower import _network

__all__ = ["Eyes", "read_eyes"]


@dataclass(eq=False)
class Eyes:
    """A frozen image tower in open_clip's form, and what it has seen."""

    visual: Any
    """Pixels to (B, D), not normalised."""
    dim: int
    """D, the size of its space: captions are projected into it."""
    model_cfg: dict[str, Any]
    """``vision_cfg`` and, where it says so, ``quick_gelu``: enough to build ``visual`` empty."""
    preprocess_cfg: dict[str, Any]
    _seen: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.visual.eval().requires_grad_(False)
        digest = sha256(str(sorted(self.preprocess_cfg.items())).encode())
        for name, tensor in sorted(self.visual.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        self.digest = digest.hexdigest()
        """Of weights and preprocessing."""

    def tower(self, text: nn.Module) -> ClipTower:
        """The image tower of an arm whose text projection is ``text``."""
        made = ClipTower(self.visual, text, transform_of(self.preprocess_cfg), self.dim)
        return made.eval().requires_grad_(False)

    def features(self, pictures: Sequence[str], device: str) -> Tensor:
        """Pictures (see :mod:`.pictures`) -> (N, D) of unit length, float32, on ``device``. Each is looked at once."""
        unseen = list(dict.fromkeys(picture for picture in pictures if picture not in self._seen))
        if unseen:
            looked = self.tower(nn.Identity()).to(device).image_features(unseen).cpu()
            self._seen.update(zip(unseen, looked, strict=True))
        return torch.stack([self._seen[picture] for picture in pictures]).to(device)


def read_eyes(spec: str) -> Eyes:
    """The frozen eyes of a specification.

    Raises:
        UnknownName: timm has no such network.
        ArtifactError: missing, unexpected or misshapen weights, no image tower, nothing at that place.
        MissingDependency: timm or open_clip is not installed.
    """
    kind, name, folder, revision = frozen_tower(spec)
    return _open_clip(name, revision) if kind == "open_clip" else _timm(name, folder)


def _open_clip(checkpoint: str, revision: str | None) -> Eyes:
    _compat.prepare()
    folder, _ = find_checkpoint(checkpoint, revision, None)
    model_cfg = read_model_cfg(folder, None)
    visual = read_visual(model_cfg, read_weights(folder, WEIGHTS), checkpoint)
    kept = {key: model_cfg[key] for key in ("vision_cfg", "quick_gelu") if key in model_cfg}
    settings = preprocessing(folder, checkpoint, None, visual.image_size)
    return Eyes(visual, model_cfg["embed_dim"], kept, settings)


def _timm(name: str, folder: Path | None) -> Eyes:
    network, width = _network(name)
    weights, described = _local(folder) if folder else _published(name)
    described = network.pretrained_cfg | described if isinstance(network.pretrained_cfg, dict) else described
    own = network.state_dict()
    # a classifier hangs behind the features, and nobody reads it
    classifier = described.get("classifier") or "fc"
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    given = {
        key: tensor
        for key, tensor in weights.items()
        if key in own or not key.startswith(tuple(f"{head}." for head in heads))
    }
    load_exactly(network, given, f"timm:{name}")
    size = described.get("input_size", (3, 224, 224))[-1]
    # a linear layer that changes nothing: open_clip's own way without one would change the network's pooling
    vision_cfg = {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": size,
    }
    model_cfg = {"embed_dim": width, "vision_cfg": vision_cfg}
    visual = empty_visual(model_cfg)
    visual.trunk.load_state_dict(network.state_dict())
    visual.head.proj.weight.data.copy_(torch.eye(width))
    interpolation = described.get("interpolation", "bicubic")
    settings = {
        "size": (size, size),
        "mode": "RGB",
        "mean": tuple(described.get("mean", (0.5, 0.5, 0.5))),
        "std": tuple(described.get("std", (0.5, 0.5, 0.5))),
        "interpolation": interpolation if interpolation in ("bilinear", "bicubic") else "bicubic",
        "resize_mode": "shortest",
        "fill_color": 0,
    }
    return Eyes(visual, width, {"vision_cfg": vision_cfg}, settings)


def _local(folder: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Weights and pretrained configuration of a folder that timm (``save_for_hf``) or its user wrote."""
    if not folder.is_dir():
        raise ArtifactError(f"no folder `{folder}`", "timm:NETWORK@FOLDER names one with a model.safetensors")
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    return read_weights(folder, ("model.safetensors",)), config.get("pretrained_cfg") or {}


def _published(name: str) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    import timm

    try:
        network: Any = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(
            f"the pretrained weights of timm's `{name}` are not reachable: {first_line(error)}",
            f"with a network, unset HF_HUB_OFFLINE; without one, timm:{name}@FOLDER reads a folder's model.safetensors",
        ) from error
    return network.state_dict(), dict(network.pretrained_cfg)
