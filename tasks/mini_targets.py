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
from .mini_names import LANGUAGES, Item, Name, balanced, codes, draw, joined, part, render
from .mini_text import TOPICS, Message, english_messages, messages

__all__ = [
    "ENTITY_TAGS",
    "INFERENCE_LABELS",
    "entities",
    "inference",
    "mining",
    "pictures",
    "retrieval",
    "spans",
    "topic",
]

INFERENCE_LABELS = ("both", "one", "neither")
"""How many of the two named items are among the three."""
ENTITY_TAGS = ("O", "DATE", "LANGUAGE", "TERRITORY", "UNIT")
"""IO tags: neighbouring entities are always separated by a word outside."""

_SIZES = {"train": 640, "dev": 60, "test": 60}
_PARALLEL_SENTENCES = 120
_MINING_DEV = 30
_PICTURES = 100
_TOPIC_DEV = 20
_SMALLEST = "data"
_NEAR = 5
"""Ranks of length within which one name may stand for another."""


def _rng(task: str, split: str, seed: int) -> random.Random:
    if split not in _SIZES:
        raise unknown("split", split, _SIZES)
    return random.Random(f"xtremex/mini/{task}/{split}/{seed}")


@cache
def _by_length(split: str) -> tuple[Name, ...]:
    """Territories and languages of a split, from short to long names (summed over the languages of the suite)."""
    pool = [Name("territory", code) for code in codes("territory", split)]
    pool += [Name("language", code) for code in codes("language", split)]
    return tuple(
        sorted(pool, key=lambda name: (sum(len(render(name, lg)) for lg in LANGUAGES), name.kind, name.code))
    )


def _stranger(known: Sequence[Name], like: Name, split: str, rng: random.Random) -> Name:
    """A name outside ``known``, about as long as ``like``."""
    pool = _by_length(split)
    rank = pool.index(like)
    near = pool[max(0, rank - _NEAR) : rank + _NEAR + 1]
    return rng.choice([name for name in near if name not in known])


def inference(split: str, language: str, seed: int) -> list[TextExample]:
    """ "Are these two among those three?": territories and languages; labels ``INFERENCE_LABELS``, balanced.

    Two of the three are drawn whatever the label, then none, one or both give way to a stranger of the same length:
    neither the lengths of the two lists nor their difference tell the label.
    """
    rng = _rng("inference", split, seed)
    examples = []
    for i, label in enumerate(balanced(len(INFERENCE_LABELS), _SIZES[split], rng)):
        three = rng.sample(_by_length(split), 3)
        two = rng.sample(three, 2)
        for j in range(label):
            two[j] = _stranger([*three, *two], two[j], split, rng)
        rng.shuffle(two)
        text, pair = (
            joined([render(item, language) for item in listed], language)[0] for listed in (three, two)
        )
        examples.append(TextExample(i, text, pair, label))
    return examples


@cache
def _topic_messages(split: str) -> dict[str, tuple[Message, ...]]:
    """topic -> messages of two words and more. Test and dev are parallel, training uses untranslated messages as well.

    Each message of the smallest topic is matched by one of about the same length from every other topic.
    """
    parallel = _by_topic(messages())
    held: dict[str, list[Message]] = {name: [] for name in TOPICS}
    for part_of, size in (("test", _SIZES["test"] // len(TOPICS)), ("dev", _TOPIC_DEV)):
        pools = {name: [m for m in parallel[name] if m not in held[name]] for name in TOPICS}
        reference = random.Random(f"xtremex/mini/topic/{part_of}").sample(pools[_SMALLEST], size)
        chosen = _matched(reference, pools)
        if split == part_of:
            return chosen
        for name in TOPICS:
            held[name] += chosen[name]
    seen = {_bare(m.text["en"]) for found in held.values() for m in found}
    pools = {
        name: [m for m in found if _bare(m.text["en"]) not in seen]
        for name, found in _by_topic(english_messages()).items()
    }
    return _matched(pools[_SMALLEST], pools)


def _by_topic(found: Sequence[Message]) -> dict[str, list[Message]]:
    return {name: [m for m in found if m.topic == name and m.words >= 2] for name in TOPICS}


def _matched(reference: Sequence[Message], pools: dict[str, list[Message]]) -> dict[str, tuple[Message, ...]]:
    """For each message of ``reference``, longest first, the unused message of every topic nearest to it in length."""
    order = sorted(reference, key=lambda m: (-len(m.text["en"]), m.text["en"]))
    chosen = {}
    for name, pool in pools.items():
        free = {m.text["en"]: m for m in pool}
        found = []
        for wanted in order:
            length = len(wanted.text["en"])
            best = min(free, key=lambda text: (abs(len(text) - length), text))
            found.append(free.pop(best))
        chosen[name] = tuple(found)
    return chosen


def _bare(text: str) -> str:
    """Equal for texts that differ in case, spaces or punctuation only."""
    return "".join(c for c in text.casefold() if c.isalnum())


def topic(split: str, language: str, seed: int) -> list[TextExample]:
    """What an interface message is about (``mini_text.TOPICS``, told by the application it comes from); balanced.

    The messages are the same for every ``seed``, which only orders them: there are no more of them.
    """
    rng = _rng("topic", split, seed)
    chosen = [m for found in _topic_messages(split).values() for m in found]
    rng.shuffle(chosen)
    return [TextExample(i, _said(m, language), None, TOPICS.index(m.topic)) for i, m in enumerate(chosen)]


def _said(message: Message, language: str) -> str:
    try:
        return message.text[language]
    except KeyError:
        raise unknown("language of the message", language, message.text) from None


@cache
def _phrases(split: str) -> tuple[Message, ...]:
    """Short interface messages (one to three words), the words outside entities.

    Those about data are left out: they name months and kinds of numbers.
    """
    pool = {
        m.text["en"]: m for m in messages() if m.topic != "data" and m.words <= 3 and len(m.text["en"]) <= 24
    }
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
        kinds = [
            rng.choice(("territory", "language", "date", "unit", "phrase")) for _ in range(rng.randint(3, 5))
        ]
        things = [
            rng.choice(_phrases(split)) if kind == "phrase" else draw(rng, kind, split) for kind in kinds
        ]
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
    """Messages of two to six words, in a fixed shuffled order: 120 for retrieval, the next 120 for mining.

    Longer ones leave nothing to see: mUSE finds 97 % of the translations of messages of three words and more.
    """
    order = sorted((m for m in messages() if 2 <= m.words <= 6), key=lambda m: m.text["en"])
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
