"""Generators of the mini suite's five English intermediate tasks: ``function(split, language, seed) -> list[Example]``.

Three of them talk about events (when, where, how long, how many) drawn from the *train*, *dev* or *test* share of the
names, so nothing they train on is asked for by a target's test set. Two are real prose: the language reference of
Python, with its authors' markup as gold.
"""

from __future__ import annotations

import random
from calendar import monthrange
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

from ..errors import DataError, unknown
from .base import ChoiceExample, SpanExample, TagExample, TextExample
from .mini_names import Day, Item, Name, Quantity, balanced, codes, days, part, render
from .mini_text import Sentence, sentences

__all__ = [
    "PARAPHRASE_LABELS",
    "QUANTITY_LABELS",
    "TERM_TAGS",
    "endings",
    "paraphrase",
    "quantity",
    "reading",
    "terms",
]

QUANTITY_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("different", "paraphrase")
TERM_TAGS = ("O", "CODE", "TERM")
_STOPS = ".,;:"

_SIZES = {"train": 640, "dev": 60, "test": 60}
_CHOICES = 4

T = TypeVar("T")

_EVENTS = (
    "meeting", "course", "concert", "lecture", "workshop", "match", "exhibition", "conference", "festival", "market",
    "race", "ceremony",
)  # fmt: skip
_FACTS = ("place", "day", "duration", "distance")
_UNITS = {
    "duration": ("duration-minute", "duration-hour", "duration-week", "duration-month"),
    "distance": ("length-kilometer", "length-meter", "length-mile", "length-foot"),
}


def _rng(task: str, split: str, language: str, seed: int) -> random.Random:
    if split not in _SIZES:
        raise unknown("split", split, _SIZES)
    if language != "en":
        raise unknown("language of the intermediate tasks", language, ("en",))
    return random.Random(f"xtremex/mini/{task}/{split}/{seed}")


@dataclass(frozen=True)
class _Event:
    """What can be said about an event."""

    noun: str
    facts: dict[str, Item]


def _event(rng: random.Random, split: str) -> _Event:
    return _Event(rng.choice(_EVENTS), {fact: _value(fact, rng, split) for fact in _FACTS})


def _value(fact: str, rng: random.Random, split: str) -> Item:
    if fact == "place":
        return Name("territory", rng.choice(codes("territory", split)))
    if fact == "day":
        return Day(rng.choice(days()))
    return Quantity(rng.randint(3, 60), rng.choice(_UNITS[fact]))


def _neighbour(fact: str, value: Item, rng: random.Random, split: str) -> Item:
    """Another value of the same kind: another place, month, number or unit, all else equal."""
    if isinstance(value, Name):
        return _other(codes("territory", split), value.code, rng, lambda code: Name("territory", code))
    if isinstance(value, Day):
        day = value.day
        months = [month for month in range(1, 13) if day.day <= monthrange(day.year, month)[1]]
        return _other(months, day.month, rng, lambda month: replace(value, day=day.replace(month=month)))
    if rng.random() < 0.7:
        return _other(_UNITS[fact], value.unit, rng, lambda unit: replace(value, unit=unit))
    return _other(range(3, 61), value.number, rng, lambda number: replace(value, number=number))


def _other(pool: Sequence[T], old: T, rng: random.Random, make: Callable[[T], Item]) -> Item:
    return make(rng.choice([value for value in pool if value != old]))


def _changed(event: _Event, fact: str, rng: random.Random, split: str) -> _Event:
    return replace(event, facts=event.facts | {fact: _neighbour(fact, event.facts[fact], rng, split)})


# Two ways to state each fact, in the long and the short form of dates and units.
_FORMAL = {
    "place": "The {noun} takes place in {value}.",
    "day": "The {noun} starts on {value}.",
    "duration": "The {noun} lasts {value}.",
    "distance": "The {noun} is {value} away.",
}
_CASUAL = {
    "place": "{value} hosts the {noun}.",
    "day": "{value} is when the {noun} opens.",
    "duration": "For {value} the {noun} goes on.",
    "distance": "It is {value} to the {noun}.",
}


def _formal(event: _Event, fact: str) -> str:
    return _FORMAL[fact].format(noun=event.noun, value=render(event.facts[fact], "en"))


def _casual(event: _Event, fact: str) -> str:
    return _CASUAL[fact].format(noun=event.noun, value=render(event.facts[fact], "en", "short"))


def quantity(split: str, language: str, seed: int) -> list[TextExample]:
    """Inference over dates and quantities: two facts of an event, then one statement (``QUANTITY_LABELS``).

    Entailed: one of the facts in other words. Neutral: a fact of another kind. Contradicted: one of the facts with
    another place, month, number or unit.
    """
    rng = _rng("quantity", split, language, seed)
    examples = []
    for i, label in enumerate(balanced(3, _SIZES[split], rng)):
        event = _event(rng, split)
        order = list(_FACTS)
        rng.shuffle(order)
        given, wanted = order[:2], order[2] if label == 1 else rng.choice(order[:2])
        claimed = _changed(event, wanted, rng, split) if label == 2 else event
        text = " ".join(_formal(event, fact) for fact in given)
        examples.append(TextExample(i, text, _casual(claimed, wanted), label))
    return examples


def paraphrase(split: str, language: str, seed: int) -> list[TextExample]:
    """Do two texts say the same? The second is the first in other words and order, or a near neighbour of that.

    Near neighbours differ in one fact or in both: another place, month, number or unit.
    """
    rng = _rng("paraphrase", split, language, seed)
    examples = []
    for i, label in enumerate(balanced(2, _SIZES[split], rng)):
        event = _event(rng, split)
        facts = rng.sample(_FACTS, 2)
        other = event
        if not label:
            for fact in facts if rng.random() < 0.5 else [rng.choice(facts)]:
                other = _changed(other, fact, rng, split)
        text = " ".join(_formal(event, fact) for fact in facts)
        pair = " ".join(_casual(other, fact) for fact in reversed(facts))
        examples.append(TextExample(i, text, pair, label))
    return examples


_QUESTIONS = {
    "place": "Where does the {noun} take place?",
    "day": "When does the {noun} start?",
    "duration": "How long does the {noun} last?",
    "distance": "How far is it to the {noun}?",
}


def reading(split: str, language: str, seed: int) -> list[SpanExample]:
    """Three statements about three events, and a question about one of them; the answer is a stretch of the text.

    In half of the examples two statements are of the kind that is asked for, and only the event tells them apart.
    """
    rng = _rng("reading", split, language, seed)
    examples = []
    for i in range(_SIZES[split]):
        asked, second, third = rng.sample(_FACTS, 3)
        facts = [asked, asked if rng.random() < 0.5 else second, third]
        rng.shuffle(facts)
        events = [replace(_event(rng, split), noun=noun) for noun in rng.sample(_EVENTS, 3)]
        wanted = rng.choice([j for j, fact in enumerate(facts) if fact == asked])
        said = [_formal(event, fact) for event, fact in zip(events, facts, strict=True)]
        value = render(events[wanted].facts[asked], "en")
        start = len(" ".join([*said[:wanted], ""])) + said[wanted].rindex(value)
        question = _QUESTIONS[asked].format(noun=events[wanted].noun)
        examples.append(SpanExample(i, question, " ".join(said), ((start, value),), cluster=i))
    return examples


@cache
def _prose(split: str) -> tuple[Sentence, ...]:
    """The sentences of one split; of those that begin alike ("Changed in version 3.1:") only the first is kept."""
    by_start: dict[str, Sentence] = {}
    for sentence in sentences():
        by_start.setdefault(_halves(sentence)[0], sentence)
    return tuple(by_start[start] for start in part(list(by_start), split, "prose"))


def _halves(sentence: Sentence) -> tuple[str, str]:
    cut = len(sentence.words) // 2
    return " ".join(sentence.words[:cut]), " ".join(sentence.words[cut:])


def endings(split: str, language: str, seed: int) -> list[ChoiceExample]:
    """The first half of a real sentence and four second halves, one of them its own; the others are as long."""
    rng = _rng("endings", split, language, seed)
    halves = [_halves(sentence) for sentence in _prose(split)]
    if len(halves) < 2 * _CHOICES:
        raise DataError(
            f"only {len(halves)} sentences of prose were found in this Python's `pydoc_data.topics` (split {split})",
            "install the complete standard library of a supported Python",
        )
    rng.shuffle(halves)
    by_length = sorted({ending for _, ending in halves}, key=lambda ending: (len(ending), ending))
    place = {ending: i for i, ending in enumerate(by_length)}
    examples = []
    chosen = halves[: _SIZES[split]]
    for i, ((start, ending), label) in enumerate(
        zip(chosen, balanced(_CHOICES, len(chosen), rng), strict=True)
    ):
        near = [by_length[j % len(by_length)] for j in range(place[ending] - 10, place[ending] + 11)]
        choices = rng.sample([other for other in dict.fromkeys(near) if other != ending], _CHOICES - 1)
        choices.insert(label, ending)
        examples.append(ChoiceExample(i, start, tuple(choices), label))
    return examples


def terms(split: str, language: str, seed: int) -> list[TagExample]:
    """Which words of a sentence did its authors mark up as code or emphasise as a term? IO tags ``TERM_TAGS``."""
    rng = _rng("terms", split, language, seed)
    marked = [sentence for sentence in _prose(split) if any(sentence.marks)]
    rng.shuffle(marked)
    examples = []
    for i, sentence in enumerate(marked[: _SIZES[split]]):
        words: list[str] = []
        tags: list[str] = []
        for word, mark in zip(sentence.words, sentence.marks, strict=True):
            core = word.rstrip(_STOPS)
            for part_of_word, tag in ((core, mark.upper() or "O"), (word[len(core) :], "O")):
                if part_of_word:
                    words.append(part_of_word)
                    tags.append(tag)
        examples.append(TagExample(i, tuple(words), tuple(tags)))
    return examples
