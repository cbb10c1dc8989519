"""Names, dates and quantities in sixteen languages, from the locale data of ``babel`` (Unicode CLDR).

Open-class items (territories, languages) are split into train, dev and test by code, so that a name met in a test
set was never trained on, in any language. Closed-class words (months, weekdays, units, connectives) recur.

Source: ``babel`` 2.18 (BSD-3-Clause), which holds CLDR (Unicode-3.0).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib import import_module
from typing import Any, Literal

from ..errors import MissingDependency, unknown

__all__ = [
    "LANGUAGES",
    "LANGUAGE_FAMILIES",
    "LANGUAGE_NAMES",
    "UNITS",
    "UNTRAINED",
    "Day",
    "Item",
    "Name",
    "Quantity",
    "Width",
    "balanced",
    "codes",
    "days",
    "draw",
    "joined",
    "package",
    "part",
    "render",
    "template",
]

LANGUAGE_NAMES = {
    "en": "English",
    "ar": "Arabic",
    "de": "German",
    "es": "Spanish",
    "fr": "French",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "zh": "Chinese",
    "fa": "Persian",
    "id": "Indonesian",
}
LANGUAGE_FAMILIES = {
    "en": "Germanic",
    "ar": "Semitic",
    "de": "Germanic",
    "es": "Romance",
    "fr": "Romance",
    "it": "Romance",
    "ja": "Japonic",
    "ko": "Koreanic",
    "nl": "Germanic",
    "pl": "Slavic",
    "pt": "Romance",
    "ru": "Slavic",
    "tr": "Turkic",
    "zh": "Sinitic",
    "fa": "Iranian",
    "id": "Austronesian",
}
LANGUAGES = tuple(LANGUAGE_NAMES)
UNTRAINED = ("fa", "id")
"""Controls: languages that the encoder of the suite never saw in pre-training."""

UNITS = (
    "length-kilometer",
    "length-meter",
    "length-centimeter",
    "mass-kilogram",
    "mass-gram",
    "mass-tonne",
    "volume-liter",
    "volume-milliliter",
    "duration-second",
    "duration-minute",
    "duration-hour",
    "duration-week",
    "duration-month",
    "power-watt",
    "digital-byte",
)
"""CLDR unit ids with their own words in every language."""

Width = Literal["long", "short"]

_SHARES = (("train", 0.55), ("dev", 0.15), ("test", 0.30))
_LONGEST_NAME = 22
"""Characters; longer names ("South Georgia & South Sandwich Islands") would make an item's length its identity."""
_GROUPINGS = frozenset(("EU", "EZ", "UN", "QO", "UM", "XA", "XB", "ZZ"))
_UNSPOKEN = frozenset(("ae", "cu", "ia", "ie", "io", "pi", "vo", "sh"))
_INVISIBLE = str.maketrans({"\u200e": None, "\u200f": None, "\u00a0": " ", "\u202f": " ", "\u2019": "'"})


@dataclass(frozen=True)
class Name:
    """A territory (ISO 3166 code) or a language (ISO 639-1 code)."""

    kind: Literal["territory", "language"]
    code: str


@dataclass(frozen=True)
class Day:
    """A date, said as a month and a day, or in full with its year."""

    day: date
    year: bool = False


@dataclass(frozen=True)
class Quantity:
    """A number with a CLDR unit; numbers from 3 up, because one and two may be said without a digit."""

    number: int
    unit: str


Item = Name | Day | Quantity


def package(name: str, distribution: str) -> Any:
    """Import ``name``; ``MissingDependency`` with the pip line where its distribution is absent."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name.partition(".")[0]:
            raise
        raise MissingDependency(
            f"the tasks of the mini suite need the package `{distribution}`, which is not installed",
            'pip install "xtremex[mini]"',
        ) from None


@cache
def _locale(language: str) -> Any:
    if language not in LANGUAGE_NAMES:
        raise unknown("language of the mini suite", language, LANGUAGES)
    return package("babel", "babel").Locale.parse(language)


def _clean(text: str) -> str:
    """Without direction marks and with plain spaces and apostrophes, as people type."""
    return " ".join(text.translate(_INVISIBLE).split())


@cache
def _names(kind: str, language: str) -> dict[str, str]:
    locale = _locale(language)
    table = locale.territories if kind == "territory" else locale.languages
    return {code: _clean(name) for code, name in table.items() if len(code) == 2 and code.isalpha()}


@cache
def _kept() -> dict[str, tuple[str, ...]]:
    """kind -> codes whose names are short, plain and unmistakable in every language."""
    kept: dict[str, list[str]] = {"territory": [], "language": []}
    taken: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for kind, excluded in (("territory", _GROUPINGS), ("language", _UNSPOKEN)):
        tables = {language: _names(kind, language) for language in LANGUAGES}
        for code in sorted(set.intersection(*(set(table) for table in tables.values())) - excluded):
            names = {language: table[code].casefold() for language, table in tables.items()}
            if not all(_plain(name) for name in names.values()):
                continue
            # A name inside another one ("Guinea", "Equatorial Guinea") could be found in two places.
            earlier = {language: _same_kind(taken[language], kind) for language in LANGUAGES}
            if any(name in other or other in name for lg, name in names.items() for other in earlier[lg]):
                continue
            # One word for a territory and a language ("Nauru") would make a tag ambiguous.
            if any(name == other.partition(":")[2] for lg, name in names.items() for other in taken[lg]):
                continue
            kept[kind].append(code)
            for language, name in names.items():
                taken[language].append(f"{kind}:{name}")
    return {kind: tuple(found) for kind, found in kept.items()}


def _same_kind(taken: Sequence[str], kind: str) -> list[str]:
    return [entry.partition(":")[2] for entry in taken if entry.startswith(kind)]


def _plain(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and not any(mark in name for mark in "()&,،、/")


def part(items: Sequence[str], split: str, salt: str) -> tuple[str, ...]:
    """The share of ``items`` that belongs to ``split`` (train 55 %, dev 15 %, test 30 %), in a fixed shuffled order."""
    order = sorted(items)
    random.Random(f"xtremex/mini/1/{salt}").shuffle(order)
    start = 0.0
    for name, share in _SHARES:
        if name == split:
            return tuple(order[round(start * len(order)) : round((start + share) * len(order))])
        start += share
    raise unknown("split", split, [name for name, _ in _SHARES])


@cache
def codes(kind: Literal["territory", "language"], split: str) -> tuple[str, ...]:
    """The territories or languages of one split."""
    return part(_kept()[kind], split, kind)


@cache
def days() -> tuple[date, ...]:
    """Every day of 2023 to 2026."""
    first = date(2023, 1, 1)
    return tuple(first + timedelta(days=i) for i in range(4 * 365 + 1))


def draw(rng: random.Random, kind: str, split: str) -> Item:
    """One item of ``kind``: "territory", "language", "date" or "unit"."""
    if kind == "territory":
        return Name("territory", rng.choice(codes("territory", split)))
    if kind == "language":
        return Name("language", rng.choice(codes("language", split)))
    if kind == "date":
        return Day(rng.choice(days()), year=rng.random() < 0.3)
    if kind == "unit":
        return Quantity(rng.randint(3, 99), rng.choice(UNITS))
    raise unknown("kind of item", kind, ("territory", "language", "date", "unit"))


def balanced(labels: int, count: int, rng: random.Random) -> list[int]:
    """``count`` labels in random order, each class equally often (to within one)."""
    found = [i % labels for i in range(count)]
    rng.shuffle(found)
    return found


def render(item: Item, language: str, width: Width = "long") -> str:
    """``item`` as ``language`` writes it; ``width`` shortens months ("Mar 5") and units ("3 km")."""
    if isinstance(item, Name):
        return _names(item.kind, language)[item.code]
    if isinstance(item, Day):
        return _day(item, language, width)
    return _quantity(item, language, width)


def _day(item: Day, language: str, width: Width) -> str:
    dates = package("babel.dates", "babel")
    month = "MMMM" if width == "long" else "MMM"
    if item.year:
        shape = "long" if width == "long" else "medium"
        return _clean(dates.format_date(item.day, shape, locale=_locale(language)))
    return _clean(dates.format_skeleton(f"{month}d", item.day, locale=_locale(language)))


def _quantity(item: Quantity, language: str, width: Width) -> str:
    units = package("babel.units", "babel")
    # Where CLDR lets a form inherit (the plural from "other", the long width from the short one), babel answers with
    # the unit's id instead: ask for 100, which every locale says in the form "other", then for the short width.
    for shape in (width, "short"):
        for number in (item.number, 100):
            text = _clean(units.format_unit(number, item.unit, shape, "#", locale=_locale(language)))
            if item.unit not in text:
                return text.replace(str(number), str(item.number))
    raise unknown("unit", item.unit, UNITS, where=f"locale data of `{language}`")


@cache
def template(language: str, count: int) -> str:
    """The list pattern of ``language`` for ``count`` items, with ``{0}``, ``{1}`` ...: "{0}, {1}, and {2}"."""
    lists = package("babel.lists", "babel")
    # placeholders are single signs, so that patterns that touch their items ("{0} و{1}") survive
    slots = [chr(0xE000 + i) for i in range(count)]
    pattern = _clean(lists.format_list(slots, "standard", locale=_locale(language)))
    for i, slot in enumerate(slots):
        pattern = pattern.replace(slot, f"{{{i}}}")
    return pattern


def joined(parts: Sequence[str], language: str) -> tuple[str, tuple[int, ...]]:
    """``parts`` as a list in ``language``, and the character at which each part starts."""
    text, starts = "", []
    for piece in _pieces(template(language, len(parts))):
        if isinstance(piece, int):
            starts.append(len(text))
            text += parts[piece]
        else:
            text += piece
    return text, tuple(starts)


@cache
def _pieces(pattern: str) -> tuple[str | int, ...]:
    pieces: list[str | int] = []
    for i, chunk in enumerate(pattern.replace("}", "{").split("{")):
        if i % 2:
            pieces.append(int(chunk))
        elif chunk:
            pieces.append(chunk)
    return tuple(pieces)
