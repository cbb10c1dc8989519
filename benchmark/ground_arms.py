"""Training, scoring and writing the arms of `xtremex ground`, into a folder that nobody else reads yet."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn

from ..adapters.base import Encoder
from ..adapters.describe import quiet
from ..models.captions import Captions, CaptionSet, OpenMoji
from ..models.catalogue import Backbone, load, weights_digest
from ..models.export_clip import Unfit, write_open_clip
from ..models.eyes import Eyes, read_eyes
from ..models.grounding import Grounded, fingerprint, fresh_tower, items
from ..models.grounding import ground as train
from ..models.held_out import HeldOut
from ..models.recipe import Recipe
from ..models.tower import ImageTower, Projection
from .environment import versions
from .ground_files import Made, StepProgress, toml
from .plan import Numerics

__all__ = ["Work", "make_arms"]

CHUNK = 24
"""Captions in one forward pass of training: of very different lengths, they would be padding for the most part."""


@dataclass(frozen=True)
class Work:
    """What is to be made, and where."""

    folder: Path
    """Where files are written now."""
    final: Path
    """Where the folder will lie, absolute."""
    backbone: Backbone
    captions: CaptionSet
    recipe: Recipe
    """Of any arm."""
    tower: str | None
    """Specification of frozen eyes; None: a tower learns."""
    arms: tuple[str, ...]
    numerics: Numerics


def make_arms(work: Work, console: Console) -> dict[str, Any]:
    """Train and write every arm, and ``backbones.toml``; what happened, as JSON values for ``grounding.json``."""
    torch.set_num_threads(work.numerics.threads)
    device, bf16 = work.numerics.device, work.numerics.precision == "bf16"
    items(work.recipe, work.captions)  # a batch larger than the set is refused before anything is loaded
    eyes = read_eyes(work.tower) if work.tower else None
    # the built-in set has languages that are not drawn by default: controls
    held_out = HeldOut(OpenMoji() if isinstance(work.captions, OpenMoji) else work.captions)
    _announce(work, held_out, console)
    with quiet():
        encoder = load(work.backbone)
    ancestor = weights_digest(encoder)
    before = held_out.score(encoder, _eyed(encoder, work.recipe, eyes, None), device=device, bf16=bf16)
    arms: dict[str, Any] = {}
    made: dict[str, Made] = {}
    for place, arm in enumerate(work.arms):
        if place:
            with quiet():
                encoder = load(work.backbone)
        with StepProgress(f"ground {arm}", work.recipe.steps, console) as progress:
            result = train(
                encoder,
                replace(work.recipe, objective=arm),
                work.captions,
                eyes,
                device=device,
                precision=work.numerics.precision,
                chunk=CHUNK,
                progress=progress.step,
            )
        tower = result.tower or _eyed(encoder, work.recipe, eyes, result.projection)
        after = held_out.score(encoder, tower, device=device, bf16=bf16)
        for module in (encoder, tower, result.projection):
            cast(nn.Module, module).to("cpu")
        encoder.info = replace(
            encoder.info,
            objective="text-contrastive" if arm == "text" else "image-contrastive",
            init_from=work.backbone.name,
            revision=None,
        )
        with quiet():
            encoder.save(work.folder / arm)
        network, note = (None, "") if arm == "text" else _write_images(work, arm, encoder, result, eyes)
        if note:
            console.print(f"{arm}/open_clip is not written: {note}", style="yellow", highlight=False)
        made[arm] = Made(encoder.info, network, _parameters(encoder), not getattr(encoder, "separator", None))
        arms[arm] = {
            "losses": [round(loss, 5) for loss in result.losses],
            "image": after.image,
            "translation": after.translation,
            "digest": weights_digest(encoder),
            "open_clip": note or network is not None,
        }
    shown = work.recipe.steps * work.recipe.batch_size
    said = toml(work.backbone, made, shown)
    (work.folder / "backbones.toml").write_text(said, encoding="utf-8")
    return {
        "fingerprint": fingerprint(work.recipe, work.captions, eyes),
        "ancestor": ancestor,
        "eyes": eyes.digest if eyes else None,
        "pictures": held_out.pictures,
        "source": held_out.source,
        "before": {"image": before.image, "translation": before.translation},
        "arms": arms,
        "versions": versions(),
    }


def _announce(work: Work, held_out: HeldOut, console: Console) -> None:
    captions, numerics = work.captions, work.numerics
    console.print(
        f"{work.backbone.name}: {len(captions.keys('train'))} pictures to train on, {held_out.pictures} held out, in "
        f"{', '.join(captions.languages)} ({numerics.device}, {numerics.precision})",
        highlight=False,
    )
    if not isinstance(captions, Captions):
        return
    if captions.left_out:
        console.print(
            f"left out for want of a pair of captions: {captions.left_out} of {len(captions.of)} pictures",
            style="yellow",
            highlight=False,
        )
    if captions.name.startswith("task "):
        console.print(
            f"do not score these arms on {captions.name}: they learn from its test set",
            style="yellow",
            highlight=False,
        )


def _eyed(encoder: Encoder, recipe: Recipe, eyes: Eyes | None, learned: Projection | None) -> ImageTower:
    """The image side of an arm that never trained one: as it started, with the text projection that was ``learned``.

    The text arm of a tower from scratch is scored with the untrained one: it has seen nothing, and finds pictures by chance.
    """
    if eyes is None:
        tower = fresh_tower(encoder, recipe)
        tower.text = tower.text if learned is None else learned.text
        return tower
    if learned is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            learned = Projection(encoder.info.hidden_size, eyes.dim)
    return eyes.tower(learned.text)


def _parameters(encoder: Encoder) -> int:
    return sum(parameter.numel() for parameter in cast(nn.Module, encoder).parameters())


def _write_images(
    work: Work, arm: str, encoder: Encoder, result: Grounded, eyes: Eyes | None
) -> tuple[str | None, str]:
    """The arm with its image side: where its text network lies in it, or why open_clip cannot hold it.

    A tower that learned here and fits nowhere else is kept in xtremex's own form.
    """
    place = Path(arm) / "open_clip"
    try:
        texts = _one_a_language(work.captions)
        network = write_open_clip(
            work.folder / place, work.final / place, encoder, result.projection, eyes, texts
        )
        return network, ""
    except Unfit as unfit:
        shutil.rmtree(work.folder / place, ignore_errors=True)
        if result.tower is not None:
            result.tower.save(work.folder / arm / "tower", work.captions.fingerprint())
        return None, str(unfit)


def _one_a_language(captions: CaptionSet) -> Sequence[str]:
    found: dict[str, str] = {}
    for key in captions.keys("held-out"):
        for language, texts in captions.captions(key).items():
            found.setdefault(language, texts[0])
    return list(found.values())
