"""Generators of the mini suite's multilingual targets: ``function(split, language, seed) -> list[Example]``.

Every test item is drawn as codes (ISO territories and languages, dates, quantities) or taken as a translated message,
and only then written in a language: the same id is the same item in all of them. Text comes from locale data and
translators; no template sentence was written by hand.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from functools import cache

from ..errors import unknown
from .base import ImageExample, PairExample, SpanExample, TagExample, TextExample
from .mini_names import LANGUAGES, Item, Name, draw, joined, part, render
from .mini_text import TOPICS, Message, english_messages, messages

__all__ = ["ENTITY_TAGS", "INFERENCE_LABELS", "entities", "inference", "mining", "pictures", "retrieval", "spans", "topic"]

INFERENCE_LABELS = ("both", "one", "neither")
"""How many of the two named items are among the three."""
ENTITY_TAGS = ("O", "DATE", "LANGUAGE", "TERRITORY", "UNIT")
"""IO tags: neighbouring entities are always separated by a word outside."""

_SIZES = {"train": 640, "dev": 90, "test": 60}
_PARALLEL_SENTENCES = 120
_MINING_DEV = 30
_PICTURES = 100


def _rng(task: str, split: str, seed: int) -> random.Random:
    if split not in _SIZES:
        raise unknown("split", split, _SIZES)
    return random.Random(f"xtremex/mini/{task}/{split}/{seed}")


def balanced(labels: int, count: int, rng: random.Random) -> list[int]:
    """``count`` labels in random order, each class equally often (to within one)."""
    found = [i % labels for i in range(count)]
    rng.shuffle(found)
    return found


def _distinct_names(rng: random.Random, split: str, count: int) -> list[Item]:
    found: list[Item] = []
    while len(found) < count:
        item = draw(rng, rng.choice(("territory", "language")), split)
        if item not in found:
            found.append(item)
    return found


def inference(split: str, language: str, seed: int) -> list[TextExample]:
    """ "Are these two among those three?": territories and languages; labels ``INFERENCE_LABELS``, balanced.

    Both lists are drawn from one pool whatever the label, so their lengths say nothing.
    """
    rng = _rng("inference", split, seed)
    examples = []
    for i, label in enumerate(balanced(len(INFERENCE_LABELS), _SIZES[split], rng)):
        items = _distinct_names(rng, split, 5)
        three = items[:3]
        two = three[: 2 - label] + items[3 : 3 + label]
        rng.shuffle(three)
        rng.shuffle(two)
        text, pair = (joined([render(item, language) for item in listed], language)[0] for listed in (three, two))
        examples.append(TextExample(i, text, pair, label))
    return examples


@cache
def _topic_messages(split: str) -> tuple[Message, ...]:
    """Messages of two words and more; test and dev are parallel, training uses untranslated messages as well."""
    share = {"test": _SIZES["test"] // len(TOPICS), "dev": 20}
    chosen: list[Message] = []
    for name in TOPICS:
        pool = {m.text["en"]: m for m in messages() if m.topic == name and m.words >= 2}
        order = sorted(pool)
        random.Random(f"xtremex/mini/topic/{name}").shuffle(order)
        test, dev = order[: share["test"]], order[share["test"] : share["test"] + share["dev"]]
        if split == "test":
            chosen += [pool[key] for key in test]
        elif split == "dev":
            chosen += [pool[key] for key in dev]
        else:
            held = {_bare(key) for key in test + dev}
            chosen += [
                m for m in english_messages() if m.topic == name and m.words >= 2 and _bare(m.text["en"]) not in held
            ]
    return tuple(chosen)


def _bare(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def topic(split: str, language: str, seed: int) -> list[TextExample]:
    """What an interface message is about (``mini_text.TOPICS``, told by the application it comes from); balanced."""
    rng = _rng("topic", split, seed)
    by_topic = {name: [m for m in _topic_messages(split) if m.topic == name] for name in TOPICS}
    size = min(len(found) for found in by_topic.values())
    chosen = [m for found in by_topic.values() for m in rng.sample(found, size)]
    rng.shuffle(chosen)
    return [TextExample(i, _said(m, language), None, TOPICS.index(m.topic)) for i, m in enumerate(chosen)]


def _said(message: Message, language: str) -> str:
    try:
        return message.text[language]
    except KeyError:
        raise unknown("language of the message", language, message.text) from None


@cache
def _phrases(split: str) -> tuple[Message, ...]:
    """Short interface messages (one to three words), the words outside entities."""
    pool = {m.text["en"]: m for m in messages() if m.words <= 3 and len(m.text["en"]) <= 24}
    return tuple(pool[key] for key in part(list(pool), split, "phrases"))


# letters with their vowel signs (Arabic, Persian); apostrophes, dots and joiners hold a word together
_LETTER = r"[^\W\d_][\u064b-\u065f\u0670]*"
_WORD = re.compile(rf"\d+|(?:{_LETTER})+(?:['\u2019\u200c.-](?:{_LETTER})+)*|[^\w\s]|_")


def split_words(text: str) -> list[str]:
    """Words as a treebank cuts them: runs of letters, numbers and single signs ("3月5日" is four words)."""
    return _WORD.findall(text)


def entities(split: str, language: str, seed: int) -> list[TagExample]:
    """Lists of three to five things in words with IO tags: territories, languages, dates, units, and phrases outside."""
    rng = _rng("entities", split, seed)
    examples = []
    for i in range(_SIZES[split]):
        kinds = [rng.choice(("territory", "language", "date", "unit", "phrase")) for _ in range(rng.randint(3, 5))]
        things = [rng.choice(_phrases(split)) if kind == "phrase" else draw(rng, kind, split) for kind in kinds]
        words: list[str] = []
        tags: list[str] = []
        texts = [_said(t, language) if isinstance(t, Message) else render(t, language) for t in things]
        line, starts = joined(texts, language)
        end = 0
        for kind, start, text in zip(kinds, starts, texts, strict=True):
            _tag(line[end:start], "O", words, tags)
            _tag(text, "O" if kind == "phrase" else kind.upper(), words, tags)
            end = start + len(text)
        _tag(line[end:], "O", words, tags)
        examples.append(TagExample(i, tuple(words), tuple(tags)))
    return examples


def _tag(text: str, tag: str, words: list[str], tags: list[str]) -> None:
    found = split_words(text)
    words += found
    tags += [tag] * len(found)


def spans(split: str, language: str, seed: int) -> list[SpanExample]:
    """ "Find this item": the question names one of the things in a list; the answer is its place in the list.

    Dates and quantities are asked for in their short form ("3 km" for "3 kilometers").
    """
    rng = _rng("spans", split, seed)
    examples = []
    for i in range(_SIZES[split]):
        kinds = ["territory", "territory", "language", "language", "date", "unit"]
        rng.shuffle(kinds)
        things: list[Item] = []
        for kind in kinds[:5]:
            item = draw(rng, kind, split)
            while item in things:
                item = draw(rng, kind, split)
            things.append(item)
        wanted = rng.randrange(len(things))
        texts = [render(thing, language) for thing in things]
        context, starts = joined(texts, language)
        question = render(things[wanted], language, "short")
        examples.append(SpanExample(i, question, context, ((starts[wanted], texts[wanted]),), cluster=i))
    return examples


@cache
def _parallel_sentences() -> tuple[Message, ...]:
    """Messages of three words and more, in a fixed shuffled order: 120 for retrieval, the next 120 for mining."""
    order = sorted((m for m in messages() if m.words >= 3), key=lambda m: m.text["en"])
    random.Random("xtremex/mini/parallel").shuffle(order)
    return tuple(order)


def retrieval(split: str, language: str, seed: int) -> list[PairExample]:
    """Translated messages and their English originals (120, test only), distinct in every language."""
    if split != "test":
        raise unknown("split of mini-retrieval", split, ("test",))
    chosen = _parallel_sentences()[:_PARALLEL_SENTENCES]
    return [PairExample(i, _said(m, language), m.text["en"]) for i, m in enumerate(chosen)]


def mining(split: str, language: str, seed: int) -> list[PairExample]:
    """Find the pairs among distractors: of 120 messages, 30 are dev and 90 test; a third have one side only.

    Of every six messages four are pairs, one lacks its translation and one lacks its original.
    """
    chosen = _parallel_sentences()[_PARALLEL_SENTENCES : 2 * _PARALLEL_SENTENCES]
    if split not in ("dev", "test"):
        raise unknown("split of mini-mining", split, ("dev", "test"))
    wanted = range(_MINING_DEV) if split == "dev" else range(_MINING_DEV, len(chosen))
    examples = []
    for i in wanted:
        text, translation = _said(chosen[i], language), chosen[i].text["en"]
        examples.append(PairExample(i, None if i % 6 == 4 else text, None if i % 6 == 5 else translation))
    return examples


def pictures(split: str, language: str, seed: int) -> list[ImageExample]:
    """Pictures that grounding never showed, with their names (100 in test, drawn by ``seed``; ids are shared)."""
    from ..models import openmoji

    keys = [key for key in openmoji.keys() if openmoji.split(key) == split]
    chosen = sorted(_rng("pictures", split, seed).sample(keys, min(_PICTURES, len(keys))), key=keys.index)
    names = openmoji.names(language)
    return [ImageExample(i, key, names[key]) for i, key in enumerate(chosen)]
