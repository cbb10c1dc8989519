"""Generators of the mini suite's five English intermediate tasks: ``function(split, language, seed) -> list[Example]``.

Three of them talk about events (when, where, how long, how many) drawn from the *train*, *dev* or *test* share of the
names, so nothing they train on is asked for by a target's test set. Two are real prose: the language reference of
Python, with its authors' markup as gold.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import date
from functools import cache

from ..errors import DataError, unknown
from .base import ChoiceExample, SpanExample, TagExample, TextExample
from .mini_names import UNITS, Day, Name, Quantity, codes, days, part, render
from .mini_text import Sentence, sentences

__all__ = ["PARAPHRASE_LABELS", "QUANTITY_LABELS", "TERM_TAGS", "endings", "paraphrase", "quantity", "reading", "terms"]

QUANTITY_LABELS = ("entailment", "neutral", "contradiction")
PARAPHRASE_LABELS = ("different", "paraphrase")
TERM_TAGS = ("O", "CODE", "TERM")

_SIZES = {"train": 640, "dev": 90, "test": 90}
_CHOICES = 4

_EVENTS = (
    "meeting", "course", "concert", "lecture", "workshop", "match", "exhibition", "conference", "festival", "market",
    "race", "ceremony",
)  # fmt: skip
_DURATIONS = tuple(unit for unit in UNITS if unit in ("duration-minute", "duration-hour", "duration-week", "duration-month"))
_LOADS = tuple(unit for unit in UNITS if unit.startswith(("mass", "volume", "length")))


def _rng(task: str, split: str, language: str, seed: int) -> random.Random:
    if split not in _SIZES:
        raise unknown("split", split, _SIZES)
    if language != "en":
        raise unknown("language of the intermediate tasks", language, ("en",))
    return random.Random(f"xtremex/mini/{task}/{split}/{seed}")


@dataclass(frozen=True)
class _Event:
    """What can be said about an event. Each value has a near neighbour: the same kind of thing, slightly different."""

    noun: str
    place: Name
    day: Day
    duration: Quantity
    load: Quantity


def _event(rng: random.Random, split: str) -> _Event:
    return _Event(
        rng.choice(_EVENTS),
        Name("territory", rng.choice(codes("territory", split))),
        Day(rng.choice(days())),
        Quantity(rng.randint(3, 60), rng.choice(_DURATIONS)),
        Quantity(rng.randint(3, 99), rng.choice(_LOADS)),
    )


FACTS = ("place", "day", "duration", "load")


def _changed(event: _Event, fact: str, rng: random.Random, split: str) -> _Event:
    """``event`` with a near neighbour of one fact: another place, month, unit or number."""
    while True:
        other = _event(rng, split)
        if fact == "place":
            changed = replace(event, place=other.place)
        elif fact == "day":
            changed = replace(event, day=replace(event.day, day=_near(event.day.day, rng)))
        else:
            value: Quantity = getattr(event, fact)
            new: Quantity = getattr(other, fact)
            changed = replace(event, **{fact: replace(value, unit=new.unit)})
        if changed != event:
            return changed


def _near(day: date, rng: random.Random) -> date:
    return day.replace(day=min(day.day, 28), month=rng.choice([m for m in range(1, 13) if m != day.month]))


# Two ways to state each fact: in full, and as another writer would.
_FORMAL = {
    "place": "The {noun} takes place in {place}.",
    "day": "The {noun} starts on {day}.",
    "duration": "The {noun} lasts {duration}.",
    "load": "The {noun} needs {load} of material.",
}
_CASUAL = {
    "place": "{place} hosts the {noun}.",
    "day": "{day} is when the {noun} opens.",
    "duration": "For {duration} the {noun} goes on.",
    "load": "{load} of supplies are wanted for the {noun}.",
}


def _said(event: _Event, fact: str, style: dict[str, str]) -> str:
    width = "long" if style is _FORMAL else "short"
    return style[fact].format(
        noun=event.noun,
        place=render(event.place, "en"),
        day=render(event.day, "en", width),
        duration=render(event.duration, "en", width),
        load=render(event.load, "en", width),
    )


def _balanced(labels: int, count: int, rng: random.Random) -> list[int]:
    found = [i % labels for i in range(count)]
    rng.shuffle(found)
    return found


def quantity(split: str, language: str, seed: int) -> list[TextExample]:
    """Inference over dates and quantities: two facts of an event, then one statement (``QUANTITY_LABELS``).

    Entailed: one of the facts in other words. Neutral: a fact of another kind. Contradicted: one of the facts with
    another month, unit or place.
    """
    rng = _rng("quantity", split, language, seed)
    examples = []
    for i, label in enumerate(_balanced(3, _SIZES[split], rng)):
        event = _event(rng, split)
        order = list(FACTS)
        rng.shuffle(order)
        given, wanted = order[:2], order[2] if label == 1 else rng.choice(order[:2])
        claimed = _changed(event, wanted, rng, split) if label == 2 else event
        text = " ".join(_said(event, fact, _FORMAL) for fact in given)
        examples.append(TextExample(i, text, _said(claimed, wanted, _CASUAL), label))
    return examples


def paraphrase(split: str, language: str, seed: int) -> list[TextExample]:
    """Do two texts say the same? The second is the first in other words and order, or a near neighbour of that.

    Near neighbours differ in one fact only: another place, month or unit.
    """
    rng = _rng("paraphrase", split, language, seed)
    examples = []
    for i, label in enumerate(_balanced(2, _SIZES[split], rng)):
        event = _event(rng, split)
        facts = rng.sample(FACTS, 2)
        other = event if label else _changed(event, rng.choice(facts), rng, split)
        text = " ".join(_said(event, fact, _FORMAL) for fact in facts)
        pair = " ".join(_said(other, fact, _CASUAL) for fact in reversed(facts))
        examples.append(TextExample(i, text, pair, label))
    return examples


_QUESTIONS = {
    "place": "Where does the {noun} take place?",
    "day": "When does the {noun} start?",
    "duration": "How long does the {noun} last?",
    "load": "How much does the {noun} need?",
}


def reading(split: str, language: str, seed: int) -> list[SpanExample]:
    """Three statements about three events, and a question about one of them; the answer is a stretch of the text."""
    rng = _rng("reading", split, language, seed)
    examples = []
    for i in range(_SIZES[split]):
        nouns = rng.sample(_EVENTS, 3)
        facts = rng.sample(FACTS, 3)
        events = [replace(_event(rng, split), noun=noun) for noun in nouns]
        wanted = rng.randrange(3)
        context, answer = "", (0, "")
        for j, (event, fact) in enumerate(zip(events, facts, strict=True)):
            said = _said(event, fact, _FORMAL)
            value = render(getattr(event, fact), "en")
            if j == wanted:
                answer = (len(context) + said.index(value), value)
            context += said + " "
        question = _QUESTIONS[facts[wanted]].format(noun=nouns[wanted])
        examples.append(SpanExample(i, question, context.rstrip(), (answer,), cluster=i))
    return examples


@cache
def _prose(split: str) -> tuple[Sentence, ...]:
    by_text = {sentence.text: sentence for sentence in sentences()}
    return tuple(by_text[text] for text in part(list(by_text), split, "prose"))


def endings(split: str, language: str, seed: int) -> list[ChoiceExample]:
    """The first half of a real sentence and four second halves, one of them its own; the others are as long."""
    rng = _rng("endings", split, language, seed)
    halves = []
    for sentence in _prose(split):
        cut = len(sentence.words) // 2
        halves.append((" ".join(sentence.words[:cut]), " ".join(sentence.words[cut:])))
    if len(halves) < 2 * _CHOICES:
        raise DataError(
            f"only {len(halves)} sentences of prose were found in this Python's `pydoc_data.topics` (split {split})",
            "install the complete standard library of a supported Python",
        )
    rng.shuffle(halves)
    by_length = sorted({ending for _, ending in halves}, key=lambda ending: (len(ending), ending))
    place = {ending: i for i, ending in enumerate(by_length)}
    examples = []
    labels = _balanced(_CHOICES, len(halves), rng)
    for i, ((start, ending), label) in enumerate(zip(halves, labels, strict=True)):
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
    return [
        TagExample(i, sentence.words, tuple(mark.upper() or "O" for mark in sentence.marks))
        for i, sentence in enumerate(marked)
    ]
