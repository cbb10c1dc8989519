"""Grounding: from one ancestor to arms that differ in one thing, what stood beside the words in training.

Every item is a picture with two of its captions, in two languages drawn at random (:mod:`.captions`); of OpenMoji's
drawings these are names. The arms see the same items in the same order for the same number of optimizer steps:

- ``text``       CE(a, b): the two names against each other, no picture;
- ``vision``     CE(a, picture) + CE(b, picture);
- ``scrambled``  the same with pictures assigned at random, the placebo: one fixed permutation under which no
  picture keeps its group. Every name still has one picture, the same in all languages, so this arm can
  learn, passes gradients of the same kind, and even brings translations together, as ``vision`` does; only
  what the pictures show no longer agrees with what the names say.

CE is the symmetric contrastive loss over the batch (Radford et al. 2021, §2.3) with a learned temperature.
Losses are *summed*, so that every caption stands in exactly one contrast of weight one in every arm: against
another caption in ``text``, against a picture in the two others (with mUSE the encoder's gradient norm over
the first 20 steps is 5.7 in ``text`` and 5.7 in ``vision``, 200 steps move its weights by 2.3 and 2.6 %).
Items of a batch are of distinct groups, hence have distinct names, so no negative is a false one.

The image side is a network that learns from scratch (:class:`.tower.Tower`), or a pretrained one that is frozen
(:class:`.eyes.Eyes`; Zhai et al. 2022, LiT): then only the encoder and its projection learn, and each picture is looked
at once, without shifts.

This module imports torch only when something is trained: plans read configurations and fingerprints.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..errors import MissingDependency, SuiteError, XtremexError
from . import openmoji
from .captions import CaptionSet, OpenMoji, derangement, draw_pair
from .recipe import OBJECTIVES, GroundingConfig, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..adapters.base import Encoder
    from .eyes import Eyes
    from .tower import Projection, Tower

__all__ = [
    "OBJECTIVES",
    "Grounded",
    "GroundingConfig",
    "Item",
    "Recipe",
    "assignment",
    "fingerprint",
    "fresh_tower",
    "ground",
    "items",
    "pooled",
]

_MARGIN = 1 / 12


class Item(NamedTuple):
    """One training item: what is shown, and two of its captions."""

    picture: str
    """Picture key of the caption set."""
    first: str
    second: str


@dataclass(frozen=True)
class Grounded:
    """What grounding leaves besides the changed encoder."""

    tower: Tower | None
    """The frozen image tower, in evaluation mode; None for the text arm, and where eyes were frozen from the start."""
    projection: Projection
    """The text side's map into the shared space, with its temperature; the tower itself where there is one."""
    fingerprint: str
    """Equal over the arms of a pair."""
    losses: list[float]
    """Loss of every step, per contrast (nats; chance is ``log(batch_size)``)."""


def items(config: Recipe, captions: CaptionSet | None = None) -> tuple[tuple[Item, ...], ...]:
    """The items of every optimizer step, ``steps`` x ``batch_size``.

    A pure function of ``steps``, ``batch_size``, ``seed`` and the captions (None: the built-in ones, in the languages of a
    :class:`GroundingConfig`). An epoch takes one picture of every group of the train split in random order; a rest smaller
    than a batch is dropped. ``SuiteError`` where a batch is larger than the number of groups.
    """
    return _items(config.steps, config.batch_size, config.seed, _captions(config, captions))


def _captions(config: Recipe, captions: CaptionSet | None) -> CaptionSet:
    if captions is not None:
        return captions
    return OpenMoji(config.languages if isinstance(config, GroundingConfig) else openmoji.LANGUAGES)


@lru_cache(maxsize=4)
def _items(steps: int, batch_size: int, seed: int, captions: CaptionSet) -> tuple[tuple[Item, ...], ...]:
    groups: dict[str, list[str]] = defaultdict(list)
    for key in captions.keys("train"):
        groups[captions.group(key)].append(key)
    if batch_size > len(groups):
        raise SuiteError(
            f"grounding.batch_size: {batch_size} items, but only {len(groups)} distinct train pictures",
            f"use at most {len(groups)}",
        )
    draw = random.Random(f"xtremex grounding items {seed}")
    batches: list[tuple[Item, ...]] = []
    while len(batches) < steps:
        order = sorted(groups)
        draw.shuffle(order)
        epoch = [
            Item(key, *draw_pair(draw, captions.captions(key)))
            for key in (draw.choice(groups[group]) for group in order)
        ]
        batches += [
            tuple(epoch[i : i + batch_size]) for i in range(0, len(epoch) - batch_size + 1, batch_size)
        ]
    return tuple(batches[:steps])


def assignment(seed: int, captions: CaptionSet | None = None) -> Mapping[str, str]:
    """The placebo's pictures: a permutation of the train pictures under which none keeps its group (of the built-in set
    its base emoji)."""
    return _assignment(seed, OpenMoji() if captions is None else captions)


@lru_cache(maxsize=4)
def _assignment(seed: int, captions: CaptionSet) -> dict[str, str]:
    return derangement(captions, random.Random(f"xtremex grounding assignment {seed}"))


def fingerprint(config: Recipe, captions: CaptionSet | None = None, eyes: Eyes | None = None) -> str:
    """sha256 of all but the objective: items in order, assignment, hyper-parameters, pictures, a frozen tower's weights."""
    settings = asdict(config)
    del settings["objective"]
    chosen = _captions(config, captions)
    said = {
        "settings": settings,
        "pictures": chosen.fingerprint(),
        "items": items(config, chosen),
        "assignment": assignment(config.seed, chosen),
    }
    if eyes is not None:
        said["eyes"] = eyes.digest
    return sha256(json.dumps(said, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def ground(
    encoder: Encoder,
    config: Recipe,
    captions: CaptionSet | None = None,
    eyes: Eyes | None = None,
    *,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    chunk: int = 0,
    progress: Callable[[int, int, float], None] | None = None,
) -> Grounded:
    """Train ``encoder`` in place (weights with ``requires_grad``) and, except for ``text``, an image tower.

    Captions enter as the encoder's own sentence vectors (``pooled``) through one linear projection that every
    arm starts from the same weights and that no text encoder keeps. With one thread the result is the
    same, bit for bit, on the same machine. The encoder is left on ``device`` in evaluation mode; torch's
    generators are restored.

    Args:
        captions: None takes the built-in pictures.
        eyes: a frozen image side; None trains ``config.tower`` from scratch.
        chunk: captions in one forward pass, those of like length together, which saves padding and changes no more than
            the last bits; 0: all of a step at once, as suites do.
        precision: ``bf16`` runs the networks under autocast; weights, projections and losses stay float32.
        progress: called after every step with (steps done, steps, loss per contrast).

    Raises:
        MissingDependency: timm, open_clip or the packages of the pictures are not installed.
        SuiteError: a batch larger than the set, or a set that has no placebo.
        XtremexError: the loss is no longer a number.
    """
    import torch

    gpus = range(torch.cuda.device_count()) if device.startswith("cuda") else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(config.seed)
        bf16 = precision == "bf16"
        return _ground(encoder, config, _captions(config, captions), eyes, device, bf16, chunk, progress)


def fresh_tower(encoder: Encoder, config: Recipe) -> Tower:
    """The image tower that the picture arms of an encoder start from, in evaluation mode."""
    import torch

    from .tower import Tower, TowerConfig

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Tower(
            TowerConfig(config.tower, config.image_size, encoder.info.hidden_size, config.dim)
        ).eval()


def _ground(
    encoder: Encoder,
    config: Recipe,
    captions: CaptionSet,
    eyes: Eyes | None,
    device: str,
    bf16: bool,
    chunk: int,
    progress: Callable[[int, int, float], None] | None,
) -> Grounded:
    import torch
    from torch import nn

    from .tower import Projection, Tower, TowerConfig

    if not isinstance(encoder, nn.Module):
        raise TypeError(f"an adapter must be a torch module, not {type(encoder).__name__}")
    batches = items(config, captions)  # refused data end here, before anything is built
    shown = assignment(config.seed, captions) if config.objective == "scrambled" else {}
    contrast = _contrast()
    tower, look = None, None
    if config.objective == "text" or eyes is not None:
        projection = Projection(encoder.info.hidden_size, config.dim if eyes is None else eyes.dim)
    else:
        shape = TowerConfig(config.tower, config.image_size, encoder.info.hidden_size, config.dim)
        projection = tower = Tower(shape)
    encoder.to(device).train()
    projection.to(device).train()
    if tower is not None:
        look = _learning(tower, config, captions, shown, device)
    elif eyes is not None and config.objective != "text":
        look = _looked_up(eyes, batches, captions, shown, device)
    pieces = ((encoder, config.encoder_lr), (projection, config.tower_lr))
    optimizer = torch.optim.AdamW(_groups(pieces, config.weight_decay), betas=(0.9, 0.98), eps=1e-6)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    # dropout, where an encoder has it, draws from here on; building a tower must not shift it
    torch.manual_seed(config.seed)

    losses: list[float] = []
    for step, batch in enumerate(batches):
        names = [item.first for item in batch] + [item.second for item in batch]
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            vectors = _vectors(encoder, names, device, chunk or len(names))
            seen = look(step, batch) if look is not None else None
        first, second = projection.text_features(vectors.float()).chunk(2)
        scale = projection.scale()
        if seen is None:
            loss, contrasts = contrast(first, second, scale), 1
        else:
            loss, contrasts = contrast(seen, first, scale) + contrast(seen, second, scale), 2
        value = loss.item() / contrasts
        if not math.isfinite(value):
            raise XtremexError(
                f"grounding the {config.objective} arm: the loss is {value} at step {step + 1}",
                f"lower grounding.encoder_lr ({config.encoder_lr}) or grounding.tower_lr ({config.tower_lr})",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for module, _ in pieces:
            nn.utils.clip_grad_norm_(module.parameters(), config.max_norm)
        optimizer.step()
        schedule.step()
        losses.append(value)
        if progress is not None:
            progress(step + 1, config.steps, value)
    encoder.eval()
    projection.eval().requires_grad_(False)
    return Grounded(tower, projection, fingerprint(config, captions, eyes), losses)


def _contrast() -> nn.Module:
    from ..adapters import _compat

    _compat.prepare()
    try:
        from open_clip import ClipLoss
    except ModuleNotFoundError as error:
        if error.name != "open_clip":
            raise
        raise MissingDependency(
            "grounding needs the package `open_clip_torch`, which is not installed",
            'pip install "xtremex[vision]"',
        ) from None
    return ClipLoss()


def _learning(
    tower: Tower, config: Recipe, captions: CaptionSet, shown: Mapping[str, str], device: str
) -> Callable[[int, Sequence[Item]], Tensor]:
    """A function from (step, items) to what a learning tower makes of their pictures, (B, D)."""
    show = _pictures(config, captions, shown)
    return lambda step, batch: tower.encode(show(step, batch).to(device))


def _looked_up(
    eyes: Eyes,
    batches: Sequence[Sequence[Item]],
    captions: CaptionSet,
    shown: Mapping[str, str],
    device: str,
) -> Callable[[int, Sequence[Item]], Tensor]:
    """A function from (step, items) to what frozen eyes saw of their pictures, (B, D), each looked at once."""
    wanted = sorted({shown.get(item.picture, item.picture) for batch in batches for item in batch})
    seen = eyes.features([captions.shown(key) for key in wanted], device)
    row = {key: place for place, key in enumerate(wanted)}
    return lambda step, batch: seen[[row[shown.get(item.picture, item.picture)] for item in batch]]


def _pictures(
    config: Recipe, captions: CaptionSet, shown: Mapping[str, str]
) -> Callable[[int, Sequence[Item]], Tensor]:
    """A function from (step, items) to pixels, uint8 (B, 3, S, S), each moved a little by chance."""
    import torch
    from torch.nn import functional

    from .pictures import picture

    size = config.image_size
    margin = max(1, round(size * _MARGIN))

    def show(step: int, batch: Sequence[Item]) -> Tensor:
        draw = random.Random(f"xtremex grounding shifts {config.seed} {step}")
        pixels = []
        for item in batch:
            x, y = draw.randint(0, 2 * margin), draw.randint(0, 2 * margin)
            drawn = picture(captions.shown(shown.get(item.picture, item.picture)), size)
            whole = functional.pad(drawn, [margin] * 4, value=255)
            pixels.append(whole[:, y : y + size, x : x + size])
        return torch.stack(pixels)

    return show


def pooled(
    encoder: Encoder, texts: Sequence[str], *, device: str, bf16: bool = False, batch_size: int = 128
) -> Tensor:
    """The encoder's own sentence vectors as grounding sees them, (N, H) float32 on the CPU; evaluation mode."""
    import torch

    with torch.inference_mode(), torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        return _vectors(encoder, texts, device, batch_size).float().cpu()


def _vectors(encoder: Any, texts: Sequence[str], device: str, chunk: int) -> Tensor:
    """Sentence vectors of any number of texts, (N, H), ``chunk`` at a time."""
    import torch

    if 0 < len(texts) <= chunk:
        return encoder(*_tokens(encoder, texts, device)).pooled
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    parts = [torch.zeros(0, encoder.info.hidden_size, device=device)]
    for start in range(0, len(order), chunk):
        inputs = _tokens(encoder, [texts[place] for place in order[start : start + chunk]], device)
        parts.append(encoder(*inputs).pooled)
    back = sorted(range(len(order)), key=order.__getitem__)
    return torch.cat(parts)[back]


def _tokens(encoder: Encoder, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
    info = encoder.info
    encoded = encoder.tokenizer(
        [info.text_prefix + text for text in texts],
        padding="max_length" if info.pad_to else "longest",
        truncation=True,
        max_length=info.pad_to or info.max_length,
        return_tensors="pt",
    )
    return encoded["input_ids"].to(device), encoded["attention_mask"].to(device)


def _groups(pieces: Sequence[tuple[nn.Module, float]], decay: float) -> Iterator[dict[str, object]]:
    """Parameter groups: decay on matrices and kernels, none on biases, norms and temperatures."""
    for module, rate in pieces:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        yield {"params": [p for p in trained if p.ndim >= 2], "lr": rate, "weight_decay": decay}
        yield {"params": [p for p in trained if p.ndim < 2], "lr": rate, "weight_decay": 0.0}


def _rate(step: int, config: Recipe) -> float:
    warm = round(config.warmup * config.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
