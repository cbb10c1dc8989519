"""Grounding: from one ancestor to arms that differ in one thing, what stood beside the words in training.

Every item is a picture with two of its names, in two languages drawn at random. The arms see the same items
in the same order for the same number of optimizer steps:

- ``text``       CE(a, b): the two names against each other, no picture;
- ``vision``     CE(a, picture) + CE(b, picture);
- ``scrambled``  the same with pictures assigned at random, the placebo: one fixed permutation under which no
  picture keeps its base emoji. Every name still has one picture, the same in all languages, so this arm can
  learn, passes gradients of the same kind, and even brings translations together, as ``vision`` does; only
  what the pictures show no longer agrees with what the names say.

CE is the symmetric contrastive loss over the batch (Radford et al. 2021, §2.3) with a learned temperature.
Losses are *summed*, so that every caption stands in exactly one contrast of weight one in every arm: against
another caption in ``text``, against a picture in the two others (with mUSE the encoder's gradient norm over
the first 20 steps is 5.7 in ``text`` and 5.7 in ``vision``, 200 steps move its weights by 2.3 and 2.6 %).
Items of a batch have distinct base emoji, hence distinct names, so no negative is a false one.

This module imports torch only when something is trained: plans read configurations and fingerprints.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Literal, NamedTuple

from ..errors import MissingDependency, SuiteError, XtremexError, unknown
from . import openmoji

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..adapters.base import Encoder
    from .tower import Tower

__all__ = [
    "OBJECTIVES",
    "Grounded",
    "GroundingConfig",
    "Item",
    "assignment",
    "fingerprint",
    "ground",
    "items",
]

OBJECTIVES = ("text", "vision", "scrambled")
_MARGIN = 1 / 12


@dataclass(frozen=True)
class GroundingConfig:
    """All that determines a grounded arm besides the encoder, the device and the precision."""

    objective: str
    """``text``, ``vision`` or ``scrambled``; the only field in which the arms of a pair differ."""
    steps: int = 150
    batch_size: int = 64
    """Items (a picture and two names) per optimizer step."""
    seed: int = 0
    encoder_lr: float = 3e-4
    tower_lr: float = 5e-3
    """Peak learning rate of the tower and the projections."""
    weight_decay: float = 0.01
    """Decoupled, on matrices and kernels only."""
    warmup: float = 0.1
    """Share of the steps in which rates rise linearly; afterwards they fall along a half cosine to zero."""
    max_norm: float = 1.0
    """Gradients are clipped to this norm, encoder and tower each by themselves."""
    tower: str = "test_resnet"
    """The image network, a model name of ``timm``; trained from scratch."""
    image_size: int = 32
    """Pixels on a side."""
    dim: int = 128
    """Size of the shared space."""
    languages: tuple[str, ...] = ("en", "ar", "de", "es", "fr", "it", "ja", "ko", "pt", "ru", "tr", "zh")
    """Languages that names are drawn from. Persian and Indonesian are left out by default: they are the
    controls outside mUSE's pre-training."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "languages", tuple(self.languages))  # a list when read from TOML
        if self.objective not in OBJECTIVES:
            raise unknown("grounding objective", self.objective, OBJECTIVES)
        for language in self.languages:
            if language not in openmoji.LANGUAGES:
                raise unknown("picture-name language", language, openmoji.LANGUAGES, "grounding.languages")
        if len(set(self.languages)) != len(self.languages) or len(self.languages) < 2:
            raise SuiteError(
                f"grounding.languages: {list(self.languages)} are not two or more distinct languages",
                f"choose from {', '.join(openmoji.LANGUAGES)}",
            )
        for name, least in (("steps", 1), ("batch_size", 2), ("image_size", 16), ("dim", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise SuiteError(
                    f"grounding.{name}: {getattr(self, name)} is too small", f"the least is {least}"
                )
        if not 0 <= self.warmup <= 1:
            raise SuiteError(f"grounding.warmup: {self.warmup} is not a share of the steps", "use 0 to 1")


class Item(NamedTuple):
    """One training item: what is shown, and two of its names."""

    picture: str
    """Picture key (see :mod:`.openmoji`)."""
    first: str
    second: str


@dataclass(frozen=True)
class Grounded:
    """What grounding leaves besides the changed encoder."""

    tower: Tower | None
    """The frozen image tower, in evaluation mode; None for the text arm."""
    fingerprint: str
    """Equal over the arms of a pair."""
    losses: list[float]
    """Loss of every step, per contrast (nats; chance is ``log(batch_size)``)."""


def items(config: GroundingConfig) -> tuple[tuple[Item, ...], ...]:
    """The items of every optimizer step, ``steps`` x ``batch_size``.

    A pure function of ``steps``, ``batch_size``, ``seed`` and ``languages``. An epoch takes one picture of
    every base emoji of the train split in random order; a rest smaller than a batch is dropped.
    ``SuiteError`` where a batch is larger than the number of bases.
    """
    return _items(config.steps, config.batch_size, config.seed, config.languages)


@lru_cache(maxsize=4)
def _items(
    steps: int, batch_size: int, seed: int, languages: tuple[str, ...]
) -> tuple[tuple[Item, ...], ...]:
    bases: dict[str, list[str]] = defaultdict(list)
    for key in _train_keys():
        bases[openmoji.base(key)].append(key)
    if batch_size > len(bases):
        raise SuiteError(
            f"grounding.batch_size: {batch_size} items, but only {len(bases)} distinct train pictures",
            f"use at most {len(bases)}",
        )
    names = {language: openmoji.names(language) for language in languages}
    draw = random.Random(f"xtremex grounding items {seed}")
    batches: list[tuple[Item, ...]] = []
    while len(batches) < steps:
        order = sorted(bases)
        draw.shuffle(order)
        epoch = []
        for key in (draw.choice(bases[base]) for base in order):
            first, second = draw.sample(languages, 2)
            epoch.append(Item(key, names[first][key], names[second][key]))
        batches += [
            tuple(epoch[i : i + batch_size]) for i in range(0, len(epoch) - batch_size + 1, batch_size)
        ]
    return tuple(batches[:steps])


@lru_cache(maxsize=1)
def _train_keys() -> tuple[str, ...]:
    return tuple(key for key in openmoji.keys() if openmoji.split(key) == "train")


@lru_cache(maxsize=4)
def assignment(seed: int) -> dict[str, str]:
    """The placebo's pictures: a permutation of the train pictures under which none keeps its base emoji."""
    keys = _train_keys()
    draw = random.Random(f"xtremex grounding assignment {seed}")
    while True:  # about one draw in five passes
        shown = list(keys)
        draw.shuffle(shown)
        if all(openmoji.base(key) != openmoji.base(other) for key, other in zip(keys, shown, strict=True)):
            return dict(zip(keys, shown, strict=True))


def fingerprint(config: GroundingConfig) -> str:
    """sha256 of all but the objective: items in order, assignment, hyper-parameters, package versions."""
    settings = asdict(config)
    del settings["objective"]
    said = {
        "settings": settings,
        "pictures": openmoji.fingerprint(),
        "items": items(config),
        "assignment": assignment(config.seed),
    }
    return sha256(json.dumps(said, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def ground(
    encoder: Encoder,
    config: GroundingConfig,
    *,
    device: str = "cpu",
    precision: Literal["fp32", "bf16"] = "fp32",
    progress: Callable[[int, int, float], None] | None = None,
) -> Grounded:
    """Train ``encoder`` in place (weights with ``requires_grad``) and, except for ``text``, an image tower.

    Names enter as the encoder's own sentence vectors (``pooled``) through one linear projection that every
    arm starts from the same weights and that the text arm throws away. With one thread the result is the
    same, bit for bit, on the same machine. The encoder is left on ``device`` in evaluation mode; torch's
    generators are restored.

    Args:
        precision: ``bf16`` runs the networks under autocast; weights, projections and losses stay float32.
        progress: called after every step with (steps done, steps, loss per contrast).

    Raises:
        MissingDependency: timm, open_clip or the packages of the pictures are not installed.
        XtremexError: the loss is no longer a number.
    """
    import torch

    gpus = range(torch.cuda.device_count()) if device.startswith("cuda") else ()
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(config.seed)
        return _ground(encoder, config, device, precision == "bf16", progress)


def _ground(
    encoder: Encoder,
    config: GroundingConfig,
    device: str,
    bf16: bool,
    progress: Callable[[int, int, float], None] | None,
) -> Grounded:
    import torch
    from torch import nn

    from .tower import Projection, Tower, TowerConfig

    if not isinstance(encoder, nn.Module):
        raise TypeError(f"an adapter must be a torch module, not {type(encoder).__name__}")
    batches = items(config)  # refused data end here, before anything is built
    contrast = _contrast()
    tower = None
    if config.objective == "text":
        projection = Projection(encoder.info.hidden_size, config.dim)
    else:
        shape = TowerConfig(config.tower, config.image_size, encoder.info.hidden_size, config.dim)
        projection = tower = Tower(shape)
    encoder.to(device).train()
    projection.to(device).train()
    show = _pictures(config)
    pieces = ((encoder, config.encoder_lr), (projection, config.tower_lr))
    optimizer = torch.optim.AdamW(_groups(pieces, config.weight_decay), betas=(0.9, 0.98), eps=1e-6)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    # dropout, where an encoder has it, draws from here on; building a tower must not shift it
    torch.manual_seed(config.seed)

    losses: list[float] = []
    for step, batch in enumerate(batches):
        names = [item.first for item in batch] + [item.second for item in batch]
        inputs = _tokens(encoder, names, device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            pooled = encoder(*inputs).pooled
            seen = tower.encode(show(step, batch).to(device)) if tower is not None else None
        first, second = projection.text_features(pooled.float()).chunk(2)
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
    if tower is not None:
        tower.eval().requires_grad_(False)
    return Grounded(tower, fingerprint(config), losses)


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


def _pictures(config: GroundingConfig) -> Callable[[int, Sequence[Item]], Tensor]:
    """A function from (step, items) to pixels, uint8 (B, 3, S, S), each moved a little by chance."""
    import torch
    from torch.nn import functional

    size = config.image_size
    margin = max(1, round(size * _MARGIN))
    shown = assignment(config.seed) if config.objective == "scrambled" else {}

    def show(step: int, batch: Sequence[Item]) -> Tensor:
        draw = random.Random(f"xtremex grounding shifts {config.seed} {step}")
        pixels = []
        for item in batch:
            x, y = draw.randint(0, 2 * margin), draw.randint(0, 2 * margin)
            whole = functional.pad(
                openmoji.picture(shown.get(item.picture, item.picture), size), [margin] * 4, value=255
            )
            pixels.append(whole[:, y : y + size, x : x + size])
        return torch.stack(pixels)

    return show


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


def _rate(step: int, config: GroundingConfig) -> float:
    warm = round(config.warmup * config.steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))
