"""Every metric of every kind is a ratio of sums: no order, no batching and no division of a test set changes it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from test_kind_imagetext import StubTower
from tiny_checkpoints import write
from toy_encoder import WORDS, ToyEncoder
from toy_tasks import toy_task

from xtremex.adapters.huggingface import HuggingFaceEncoder
from xtremex.tasks.base import (
    ChoiceExample,
    ImageExample,
    Model,
    Outcomes,
    PairExample,
    SpanExample,
    TagExample,
    Task,
    TextExample,
)
from xtremex.tasks.kinds import kind

PIECES = [*WORDS, "Größe", "Корабль", "横浜港に到着しました", "e\u0301", "(2008)", "北京", "x"]
SIZE = 18
# all universal tags but X, the one that makes seqeval-f1 look beyond its sentence (tasks/chunks.py)
TAGS = tuple("ADJ ADP ADV AUX CCONJ DET INTJ NOUN NUM PART PRON PROPN PUNCT SCONJ SYM VERB".split())


def text(rng: random.Random, most: int = 12) -> str:
    return " ".join(rng.choices(PIECES, k=rng.randint(1, most)))


def classification(rng: random.Random, number: int) -> TextExample:
    return TextExample(number, text(rng), text(rng), rng.randrange(3))


def choice(rng: random.Random, number: int) -> ChoiceExample:
    choices = tuple(text(rng, 4) for _ in range(rng.randint(2, 5)))
    return ChoiceExample(number, text(rng), choices, rng.randrange(len(choices)), text(rng, 3))


def tagging(rng: random.Random, number: int) -> TagExample:
    words = rng.choices(PIECES, k=rng.choice([1, 5, 30]))
    return TagExample(number, tuple(words), tuple(rng.choices([*TAGS, "NEW"], k=len(words))))


def span(rng: random.Random, number: int) -> SpanExample:
    context = text(rng, 25)
    starts = rng.sample(range(len(context)), min(2, len(context)))
    answers = tuple((start, context[start : start + rng.randint(1, 12)]) for start in starts)
    answers = tuple(answer for answer in answers if answer[1].strip())
    return SpanExample(number, text(rng, 5), context, answers if rng.random() < 0.8 else (), number // 3)


def pair(rng: random.Random, number: int) -> PairExample:
    # as translations, half of them begin alike: some are found, and no two sentences are equal
    shared = text(rng, 3)
    return PairExample(number, f"{shared} {text(rng, 4)}", f"{shared} {text(rng, 4)}")


def item(rng: random.Random, number: int) -> PairExample:
    made = pair(rng, number)
    sides = (None if number % 5 == 4 else made.text, None if number % 7 == 3 else made.translation)
    return PairExample(number, *sides)


def picture(rng: random.Random, number: int) -> ImageExample:
    return ImageExample(number, f"{0x1F600 + number // 2:X}", f"{text(rng)} {number}")


@dataclass(frozen=True)
class Case:
    kind: str
    generate: Any
    labels: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()


CASES = {
    "classification": Case("classification", classification, ("a", "b", "c")),
    "multiple-choice": Case("multiple-choice", choice),
    "tagging": Case("tagging", tagging, TAGS),
    "spans": Case("spans", span),
    "spans-unanswerable": Case("spans", span, (), (("unanswerable", True), ("segmentation", "mlqa"))),
    "retrieval": Case("retrieval", pair),
    "mining": Case("mining", item),
    "image-text": Case("image-text", picture),
}
TRAINED = [name for name in CASES if hasattr(kind(CASES[name].kind), "head")]
QUICK = settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.generate])


@cache
def examples(name: str, split: str) -> tuple[Any, ...]:
    rng = random.Random(f"{name}/{split}")
    return tuple(CASES[name].generate(rng, number) for number in range(SIZE))


def task(name: str, test: Any, dev: Any = None) -> Task:
    case = CASES[name]
    data = {"test": test, "dev": examples(name, "dev") if dev is None else dev}
    return toy_task(case.kind, data, case.labels, options=dict(case.options))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Model]:
    """A tiny XLM-R with a random head for each kind; the stub of an image tower is made for another width."""
    encoder = HuggingFaceEncoder.load(
        str(write(tmp_path_factory.mktemp("checkpoint") / "xlmr", "xlm-roberta"))
    )
    made = {}
    for name, case in CASES.items():
        torch.manual_seed(1)
        head = kind(case.kind).head(encoder, task(name, ())) if name in TRAINED else None
        made[name] = Model(encoder, head)
    made["image-text"] = Model(ToyEncoder(), tower=StubTower())
    return made


def evaluate(models: dict[str, Model], name: str, test: Any, batch_tokens: int = 256, **more: Any):
    declared = task(name, list(test), **more)
    return kind(CASES[name].kind).evaluate(models[name], declared, "test", "en", batch_tokens=batch_tokens)


@pytest.fixture(scope="module")
def wholes(models) -> Callable[[str], list[Outcomes]]:
    """The outcomes on the whole test set of a case, computed once."""
    return cache(lambda name: evaluate(models, name, examples(name, "test")))


def rows(outcomes: Outcomes) -> dict[int, tuple[Any, ...]]:
    """What every example contributes: cluster, prediction, numerator and denominator of each metric."""
    sums = [side for metric in sorted(outcomes.metrics) for side in outcomes.metrics[metric]]
    columns = [
        outcomes.example.tolist(),
        outcomes.cluster.tolist(),
        outcomes.predictions,
        *map(np.ndarray.tolist, sums),
    ]
    found = {row[0]: row[1:] for row in zip(*columns, strict=True)}
    assert len(found) == len(outcomes.example)
    return found


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_examples_tell(wholes, name):
    for outcomes in wholes(name):
        assert set(outcomes.metrics) == set(kind(CASES[name].kind).metrics)
        for metric, (num, den) in outcomes.metrics.items():
            assert num.dtype == den.dtype == np.float64 and (den >= 0).all(), metric
            assert outcomes.score(metric) == pytest.approx(num.sum() / den.sum())
        num, den = outcomes.metrics[kind(CASES[name].kind).metrics[0]]
        assert 0 < num.sum() < den.sum()


@pytest.mark.parametrize("name", sorted(CASES))
@QUICK
@given(seed=st.integers(0, 10**6))
def test_the_order_of_examples_changes_no_score_and_moves_their_rows(models, wholes, name, seed):
    order = list(range(SIZE))
    random.Random(seed).shuffle(order)
    test, dev = examples(name, "test"), examples(name, "dev")
    shuffled = evaluate(models, name, [test[i] for i in order], dev=[dev[i] for i in order])
    for one, other in zip(wholes(name), shuffled, strict=True):
        assert rows(one) == rows(other)
        # mining has rows for the items with a text
        scored = set(one.example.tolist())
        assert other.example.tolist() == [test[i].id for i in order if test[i].id in scored]
        for metric in one.metrics:
            assert one.score(metric) == pytest.approx(other.score(metric), abs=1e-12)


@pytest.mark.parametrize("name", sorted(CASES))
@QUICK
@given(batch_tokens=st.integers(1, 5000))
def test_the_batches_change_no_row(models, wholes, name, batch_tokens):
    found = evaluate(models, name, examples(name, "test"), batch_tokens)
    for one, other in zip(wholes(name), found, strict=True):
        assert list(rows(one).items()) == list(rows(other).items())


@pytest.mark.parametrize("name", TRAINED)
@QUICK
@given(cuts=st.sets(st.integers(1, SIZE - 1), min_size=1, max_size=3))
def test_the_score_of_the_whole_is_the_ratio_of_the_sums_of_its_parts(models, wholes, name, cuts):
    test = examples(name, "test")
    (whole,) = wholes(name)
    bounds = [0, *sorted(cuts), len(test)]
    parts = [evaluate(models, name, test[a:b])[0] for a, b in zip(bounds, bounds[1:], strict=False)]
    assert [row for part in parts for row in rows(part).items()] == list(rows(whole).items())
    for metric in whole.metrics:
        num, den = (sum(part.metrics[metric][side].sum() for part in parts) for side in (0, 1))
        assert whole.score(metric) == pytest.approx(num / den, abs=1e-12)
