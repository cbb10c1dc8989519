"""Toy tasks for the trained kinds, seeded and in memory, and the least training loop that learns them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from xtremex.tasks.base import (
    ChoiceExample,
    Model,
    Outcomes,
    SpanExample,
    TagExample,
    Task,
    TextExample,
    TrainedKind,
)
from xtremex.tasks.kinds import kind

THINGS = "house river dog tree car bottle window garden mountain letter".split()
PLACES = "paris london berlin rome madrid tokyo moscow cairo".split()
NAMES = "anna ben carla david emma frank grace henry".split()


_NUMBERS = itertools.count()


class MemorySource:
    """Examples by split or by (split, language); counts how often it is asked."""

    def __init__(self, data: dict[Any, Sequence[Any]]) -> None:
        self.data = data
        self.loads = 0
        # not id(self): the address of a dead source is given to the next one, and its cached test set with it
        self.number = next(_NUMBERS)

    def load(self, task: Task, split: str, language: str) -> list[Any]:
        self.loads += 1
        return list(self.data[split, language] if (split, language) in self.data else self.data[split])

    def fingerprint(self) -> str:
        return f"memory:{self.number}"


def toy_task(kind_name: str, data: dict[Any, Sequence[Any]], labels: Sequence[str] = (), **more: Any) -> Task:
    fields: dict[str, Any] = {"metrics": kind(kind_name).metrics} | more
    return Task(
        name=f"toy-{kind_name}",
        kind=kind_name,
        source=MemorySource(data),
        version="1",
        licence="CC0-1.0",
        languages=("en",),
        labels=tuple(labels),
        **fields,
    )


def same_sort(rng: random.Random, index: int) -> TextExample:
    """Do both texts name a place? Neither text alone tells."""
    first, second = rng.random() < 0.7, rng.random() < 0.7
    one, two = (rng.choice(PLACES if place else THINGS) for place in (first, second))
    return TextExample(index, f"it was in {one}", f"today in {two}", int(first and second))


def single(rng: random.Random, index: int) -> TextExample:
    label = rng.randrange(2)
    return TextExample(index, f"the {rng.choice((THINGS, PLACES)[label])} today", None, label)


def choice(rng: random.Random, index: int) -> ChoiceExample:
    """The one choice with a place, or, when asked for a person, with a name."""
    options = [rng.choice(PLACES), *rng.sample(THINGS, 2)]
    rng.shuffle(options)
    label = next(i for i, option in enumerate(options) if option in PLACES)
    choices = tuple(f"it was {option}" for option in options)
    return ChoiceExample(index, f"{rng.choice(NAMES)} saw", choices, label, "where was it?")


def tags(rng: random.Random, index: int) -> TagExample:
    pools = (("O", THINGS), ("O", ["the", "in"]), ("B-LOC", PLACES), ("B-PER", NAMES))
    drawn = [rng.choice(pools) for _ in range(rng.randint(3, 8))]
    return TagExample(index, tuple(rng.choice(pool) for _, pool in drawn), tuple(tag for tag, _ in drawn))


def span(rng: random.Random, index: int) -> SpanExample:
    """The place or the person of a list, as the question asks."""
    pools = [PLACES, NAMES, THINGS, THINGS]
    rng.shuffle(pools)
    items = [rng.choice(pool) for pool in pools]
    asked, pool = rng.choice((("where was it?", PLACES), ("who was it?", NAMES)))
    answer = next(item for item in items if item in pool)
    context = ", ".join(items) + "."
    return SpanExample(index, asked, context, ((context.index(answer), answer),), index // 2)


GENERATORS: dict[str, tuple[str, tuple[str, ...], Callable[[random.Random, int], Any]]] = {
    "pair": ("classification", ("no", "yes"), same_sort),
    "single": ("classification", ("thing", "place"), single),
    "choice": ("multiple-choice", (), choice),
    "tags": ("tagging", ("O", "B-LOC", "I-LOC", "B-PER", "I-PER"), tags),
    "span": ("spans", (), span),
}


def make(name: str, train: int = 400, test: int = 60, **more: Any) -> Task:
    kind_name, labels, generate = GENERATORS[name]
    data = {}
    for split, size in (("train", train), ("dev", test), ("test", test)):
        rng = random.Random(f"{name}/{split}")
        data[split] = [generate(rng, index) for index in range(size)]
    return toy_task(kind_name, data, labels, **more)


def fit(
    encoder: Any, task: Task, *, steps: int, encoder_lr: float, head_lr: float, bf16: bool = False
) -> tuple[nn.Module, Outcomes]:
    """Train with AdamW on batches of 16 and score the test split; the loop that the engine refines."""
    trained: TrainedKind = kind(task.kind)
    torch.manual_seed(0)
    head = trained.head(encoder, task)
    examples = task.source.load(task, "train", "en")
    features = trained.features(examples, task, encoder)
    weights = [p for p in encoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "lr": encoder_lr}, {"params": head.parameters(), "lr": head_lr}],
        weight_decay=0.0,
    )
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / 5) * (1 - s / steps))
    rng = random.Random(0)
    encoder.train()
    for _ in range(steps):
        drawn = rng.sample(range(len(examples)), 16)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = trained.loss(encoder, head, [feature for i in drawn for feature in features[i]])
        assert loss.dtype == torch.float32
        optimizer.zero_grad()
        (loss / sum(trained.weight(examples[i]) for i in drawn)).backward()
        optimizer.step()
        rates.step()
    (outcomes,) = trained.evaluate(Model(encoder, head), task, "test", "en", batch_tokens=2048)
    return head, outcomes
