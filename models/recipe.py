"""The settings of grounding (:mod:`.grounding`). Importing this module loads no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import SuiteError, nearest, unknown
from . import openmoji

__all__ = ["OBJECTIVES", "TOWERS", "FrozenTower", "GroundingConfig", "Recipe", "frozen_tower", "network_of"]

OBJECTIVES = ("text", "vision", "scrambled")
TOWERS = ("scratch", "timm", "open_clip")
"""Kinds of image sides: a timm network that learns, and frozen ones (:mod:`.eyes`)."""


@dataclass(frozen=True)
class Recipe:
    """All that determines a grounded arm besides the encoder, the captions, a frozen tower, the device and the precision."""

    objective: str
    """``text``, ``vision`` or ``scrambled``; the only field in which the arms of a pair differ."""
    steps: int = 150
    batch_size: int = 64
    """Items (a picture and two captions) per optimizer step."""
    seed: int = 0
    encoder_lr: float = 3e-4
    tower_lr: float = 5e-3
    """Peak learning rate of the projections, and of the tower where it learns."""
    weight_decay: float = 0.01
    """Decoupled, on matrices and kernels only."""
    warmup: float = 0.1
    """Share of the steps in which rates rise linearly; afterwards they fall along a half cosine to zero."""
    max_norm: float = 1.0
    """Gradients are clipped to this norm, encoder and tower each by themselves."""
    tower: str = "test_resnet"
    """The image network, a model name of ``timm``; trained from scratch. Of frozen eyes their specification."""
    image_size: int = 32
    """Pixels on a side; frozen eyes have their own."""
    dim: int = 128
    """Size of the shared space; frozen eyes have their own."""

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise unknown("grounding objective", self.objective, OBJECTIVES)
        for name, least in (("steps", 1), ("batch_size", 2), ("image_size", 16), ("dim", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SuiteError(
                    f"grounding.{name}: {getattr(self, name)} is too small", f"the least is {least}"
                )
        for name in ("encoder_lr", "tower_lr", "max_norm"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise SuiteError(
                    f"grounding.{name}: {getattr(self, name)} is not a number above 0",
                    f"the default is {getattr(type(self), name)}",
                )
        if not 0 <= self.weight_decay < math.inf:
            raise SuiteError(f"grounding.weight_decay: {self.weight_decay} is below 0", "0 turns it off")
        if not 0 <= self.warmup <= 1:
            raise SuiteError(f"grounding.warmup: {self.warmup} is not a share of the steps", "use 0 to 1")


@dataclass(frozen=True)
class GroundingConfig(Recipe):
    """A recipe on the built-in pictures: what a suite's ``[grounding]`` holds."""

    languages: tuple[str, ...] = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "pt", "ru", "tr", "zh")
    """Languages that names are drawn from. Persian and Indonesian are left out by default: they are the
    controls outside mUSE's pre-training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", tuple(self.languages))  # a list when read from TOML
        super().__post_init__()
        for language in self.languages:
            if language not in openmoji.LANGUAGES:
                raise unknown("picture-name language", language, openmoji.LANGUAGES, "grounding.languages")
        if len(set(self.languages)) != len(self.languages) or len(self.languages) < 2:
            raise SuiteError(
                f"grounding.languages: {list(self.languages)} are not two or more distinct languages",
                f"choose from {', '.join(openmoji.LANGUAGES)}",
            )


def network_of(spec: str) -> str | None:
    """The timm network that a specification trains from scratch (a bare name does too), None for frozen eyes.

    Raises ``SuiteError`` for a specification of no known kind.
    """
    kind, colon, rest = spec.partition(":")
    if not colon:
        return spec
    if kind not in TOWERS or not rest:
        raise SuiteError(
            f"tower `{spec}` is none of scratch:NETWORK, timm:NETWORK[@FOLDER], open_clip:CHECKPOINT[@REVISION]",
            nearest(kind, TOWERS),
        )
    return rest if kind == "scratch" else None


class FrozenTower(NamedTuple):
    """What the specification of frozen eyes names."""

    kind: str
    """``timm`` or ``open_clip``."""
    name: str
    """A network of timm, or an open_clip checkpoint: folder or hub id."""
    folder: Path | None
    """Where its files lie; None: on the hub."""
    revision: str | None


def frozen_tower(spec: str) -> FrozenTower:
    """The parts of ``timm:NETWORK[@FOLDER]`` or ``open_clip:CHECKPOINT[@REVISION]``; names of folders may hold an ``@``."""
    kind, _, rest = spec.partition(":")
    if kind == "timm":
        name, _, place = rest.partition("@")  # no network of timm has one in its name
        return FrozenTower(kind, name, Path(place).expanduser() if place else None, None)
    folder = Path(rest).expanduser()
    if folder.is_dir():
        return FrozenTower(kind, rest, folder, None)
    name, _, revision = rest.partition("@")
    folder = Path(name).expanduser()
    return FrozenTower(kind, name, folder if folder.is_dir() else None, revision or None)
