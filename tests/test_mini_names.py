"""Names, dates and quantities of the mini suite."""

from __future__ import annotations

import random
from datetime import date

import pytest

from xtremex.errors import MissingDependency, UnknownName
from xtremex.tasks import mini_names as names

SPLITS = ("train", "dev", "test")


@pytest.mark.parametrize("kind", ["territory", "language"])
def test_items_are_split_without_overlap(kind):
    parts = [set(names.codes(kind, split)) for split in SPLITS]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert min(len(part) for part in parts) >= 15
    for language in names.LANGUAGES:
        written = [
            {names.render(names.Name(kind, code), language).casefold() for code in part} for part in parts
        ]
        assert not (written[0] & written[1] or written[0] & written[2] or written[1] & written[2]), language


@pytest.mark.parametrize("language", names.LANGUAGES)
def test_names_are_unmistakable(language):
    """No name occurs in another of its kind, and no territory is called like a language."""
    found = {}
    for kind in ("territory", "language"):
        codes = [code for split in SPLITS for code in names.codes(kind, split)]
        found[kind] = [names.render(names.Name(kind, code), language).casefold() for code in codes]
        for i, name in enumerate(found[kind]):
            assert name == name.strip() and name
            assert not any(name in other for j, other in enumerate(found[kind]) if i != j), name
    assert not set(found["territory"]) & set(found["language"])


def test_known_forms():
    first = names.Day(date(2026, 3, 5))
    full = names.Day(date(2026, 3, 5), year=True)
    assert names.render(first, "en") == "March 5"
    assert names.render(first, "en", "short") == "Mar 5"
    assert names.render(full, "de") == "5. März 2026"
    assert names.render(full, "zh") == "2026年3月5日"
    assert names.render(names.Name("territory", "DE"), "tr") == "Almanya"
    assert names.render(names.Name("language", "de"), "ru") == "немецкий"


@pytest.mark.parametrize(
    ("number", "unit", "language", "text"),
    [
        (3, "length-kilometer", "ru", "3 километра"),
        (5, "length-kilometer", "ru", "5 километров"),
        (5, "duration-hour", "pl", "5 godzin"),
        (22, "duration-hour", "pl", "22 godziny"),
        (5, "duration-hour", "ja", "5 時間"),  # CLDR inherits this form, which babel does not follow
        (3, "length-kilometer", "zh", "3公里"),
        (21, "volume-liter", "ar", "21 لتر"),
        (100, "mass-gram", "en", "100 grams"),
    ],
)
def test_quantities_are_inflected(number, unit, language, text):
    assert names.render(names.Quantity(number, unit), language) == text


@pytest.mark.parametrize("language", names.LANGUAGES)
def test_every_unit_is_worded_in_every_language(language):
    for unit in names.UNITS:
        for number in (3, 5, 11, 21, 99):
            for width in ("long", "short"):
                text = names.render(names.Quantity(number, unit), language, width)
                assert str(number) in text and unit not in text
                assert any(c.isalpha() for c in text)


@pytest.mark.parametrize("language", names.LANGUAGES)
def test_lists_keep_their_parts(language):
    for count in (2, 3, 5):
        parts = [f"X{i}Y" for i in range(count)]
        text, starts = names.joined(parts, language)
        assert [text[start : start + 3] for start in starts] == parts
    assert "\u200f" not in text


def test_lists_in_words():
    assert names.joined(["A", "B", "C"], "en") == ("A, B, and C", (0, 3, 10))
    assert names.joined(["A", "B", "C"], "de")[0] == "A, B und C"
    assert names.joined(["A", "B"], "zh")[0] == "A和B"


def test_balanced_labels():
    found = names.balanced(3, 61, random.Random("x"))
    assert sorted(found.count(label) for label in range(3)) == [20, 20, 21]
    assert found != sorted(found)


def test_every_language_is_described():
    assert set(names.LANGUAGE_NAMES) == set(names.LANGUAGE_FAMILIES) == set(names.LANGUAGES)
    assert len(names.LANGUAGES) == 16 and names.LANGUAGES[0] == "en"
    assert set(names.UNTRAINED) < set(names.LANGUAGES)


def test_unknown_names_answer_with_their_neighbours():
    with pytest.raises(UnknownName, match="did you mean `de`|known: ar"):
        names.render(names.Name("territory", "DE"), "deu")
    with pytest.raises(UnknownName, match="unknown split `tset`"):
        names.codes("territory", "tset")


def test_missing_package_names_the_pip_line(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError("No module named 'babel'", name="babel")

    monkeypatch.setattr(names, "import_module", absent)
    with pytest.raises(MissingDependency) as caught:
        names.package("babel.dates", "babel")
    assert "`babel`" in caught.value.message
    assert 'pip install "xtremex[mini]"' in caught.value.hint


def test_a_fault_inside_a_package_is_not_called_missing(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(names, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="other") as caught:
        names.package("babel.dates", "babel")
    assert not isinstance(caught.value, MissingDependency)
