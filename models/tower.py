"""The eyes of a grounded arm: a small ``timm`` network, two projections and a temperature.

A text encoder stays a text encoder; what an arm needs to see pictures lives here, is trained while the arm is
grounded, and is frozen afterwards. Retention asks how well the frozen tower and the encoder still agree.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import _compat
from ..errors import ArtifactError, MissingDependency, unknown
from . import openmoji, pictures

__all__ = ["ImageTower", "Projection", "Tower", "TowerConfig"]

_WEIGHTS, _CONFIG = "tower.safetensors", "tower.json"
_FORMAT = 1
# pictures are black lines on white: centred on the middle of the range, white is +1 and black -1
_MEAN = _DEVIATION = 127.5
_CHUNK = 64
_REMEMBERED = 8


@dataclass(frozen=True)
class TowerConfig:
    """Everything that is needed to build an empty tower."""

    network: str = "test_resnet"
    """A model name of ``timm`` that takes any picture size (convolutional)."""
    image_size: int = 32
    """Pixels on a side."""
    text_size: int = 512
    """H, the size of the encoder's pooled vector."""
    dim: int = 128
    """D, the size of the shared space."""


class ImageTower(nn.Module):
    """What image-text retrieval needs, whoever trained it: sentence vectors and pictures into one space of D dimensions.

    A tower says how pictures become pixels and pixels vectors; looking at many and remembering them is here.
    """

    dim: int
    """D, the size of the shared space."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, ...], Tensor] = {}

    def text_features(self, pooled: Tensor) -> Tensor:
        """Sentence vectors (B, H) of any floating type -> (B, D) of unit length, float32 even under autocast."""
        raise NotImplementedError

    def pixels(self, keys: Sequence[str]) -> Tensor:
        """Pictures by key (see :mod:`.pictures`), one or more -> (B, 3, S, S) as ``encode`` takes them."""
        raise NotImplementedError

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) -> (B, D) of unit length, float32."""
        raise NotImplementedError

    @torch.no_grad()
    def image_features(self, keys: Sequence[str]) -> Tensor:
        """Pictures by key (see :mod:`.pictures`) -> (N, D) of unit length, float32 even under autocast.

        Batch statistics are never used. The last few requests are remembered until the tower is trained,
        moved or loaded again; a request is always cut the same way, so its answer does not depend, to the
        last bit, on what was asked before.
        """
        request = tuple(keys)
        if request not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            with torch.autocast(self._device().type, enabled=False):
                self._seen[request] = self._look(request)
        return self._seen[request].clone()

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _look(self, keys: Sequence[str]) -> Tensor:
        device, training = self._device(), self.training
        unique = list(dict.fromkeys(keys))
        if not unique:
            return torch.zeros(0, self.dim, device=device)
        features = []
        self.eval()
        for start in range(0, len(unique), _CHUNK):
            features.append(self.encode(self.pixels(unique[start : start + _CHUNK]).to(device)))
        if training:
            self.train()
        row = {key: position for position, key in enumerate(unique)}
        return torch.cat(features)[[row[key] for key in keys]]

    def train(self, mode: bool = True) -> Self:
        if mode:
            self._seen.clear()
        return super().train(mode)

    def _apply(self, fn, recurse: bool = True):
        self._seen.clear()
        return super()._apply(fn, recurse)

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        self._seen.clear()
        return super().load_state_dict(state_dict, strict, assign)


class Projection(nn.Module):
    """One linear map into the shared space and a learned temperature (Radford et al. 2021, §2.3).

    The text arm trains exactly this; a tower is this plus the picture side.
    """

    def __init__(self, text_size: int, dim: int) -> None:
        super().__init__()
        self.text = nn.Linear(text_size, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def text_features(self, pooled: Tensor) -> Tensor:
        """Sentence vectors (B, H) of any floating type -> (B, D) of unit length, float32 even under autocast."""
        with torch.autocast(pooled.device.type, enabled=False):
            return functional.normalize(self.text(pooled.float()), dim=-1)

    def scale(self) -> Tensor:
        """The factor of the cosines, at most 100 (ibid.)."""
        return self.logit_scale.exp().clamp(max=100.0)


class Tower(Projection, ImageTower):
    """Pictures and pooled sentence vectors into one space, (B, D) float32 of unit length.

    Initial weights come from torch's global generator; the text projection draws first, so a
    :class:`Projection` made under the same seed starts from the same weights. ``MissingDependency`` where
    timm is absent, ``UnknownName`` where timm has no such network.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config.text_size, config.dim)
        self.config = config
        self.dim = config.dim
        self.network, width = _network(config.network)
        self.image = nn.Linear(width, config.dim, bias=False)

    def pixels(self, keys: Sequence[str]) -> Tensor:
        """Pictures by key -> (B, 3, S, S) uint8."""
        return torch.stack([pictures.picture(key, self.config.image_size) for key in keys])

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in 0..255 of any type -> (B, D) float32; train mode uses batch statistics."""
        centred = ((pixels.float() - _MEAN) / _DEVIATION).contiguous(memory_format=torch.channels_last)
        return functional.normalize(self.image(self.network(centred)).float(), dim=-1)

    def save(self, folder: Path, pictures: str = "") -> None:
        """Write ``tower.safetensors`` and ``tower.json`` (with the sha256 of the weights) into ``folder``.

        ``pictures`` is the fingerprint of what it learned from, for the record; by default that of the built-in ones.
        """
        from safetensors.torch import save

        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        weights = save(dict(sorted(state.items())))
        (folder / _WEIGHTS).write_bytes(weights)
        described = {
            "format": _FORMAT,
            "config": asdict(self.config),
            "pictures": pictures or openmoji.fingerprint(),
            "sha256": sha256(weights).hexdigest(),
        }
        (folder / _CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a saved tower, frozen, in eval mode; ``ArtifactError`` if missing, altered or unreadable."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        again = "delete the folder and run again; the tower will be made anew"
        try:
            described = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            weights = (folder / _WEIGHTS).read_bytes()
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: no readable image tower ({error})", again) from error
        if not isinstance(described, dict) or described.get("format") != _FORMAT:
            raise ArtifactError(f"{folder / _CONFIG}: not an image tower of format {_FORMAT}", again)
        if sha256(weights).hexdigest() != described.get("sha256"):
            raise ArtifactError(f"{folder / _WEIGHTS}: altered since it was written (sha256 differs)", again)
        try:
            with torch.random.fork_rng(devices=[]):
                tower = cls(TowerConfig(**described["config"]))
            tower.load_state_dict(load(weights))
        except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"{folder}: weights and configuration disagree ({error})", again) from error
        return tower.eval().requires_grad_(False)


def _network(name: str) -> tuple[nn.Module, int]:
    """An untrained network without classifier, and the size of its features."""
    _compat.prepare()
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingDependency(
            "image towers need the package `timm`, which is not installed", 'pip install "xtremex[vision]"'
        ) from None
    if not timm.is_model(name):
        raise unknown("timm network", name, timm.list_models())
    network: Any = timm.create_model(name, pretrained=False, num_classes=0)
    return network, network.num_features
