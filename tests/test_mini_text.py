"""Interface messages and prose of the mini suite."""

from __future__ import annotations

import sys
import types

import pytest

from xtremex.errors import DataError, MissingDependency
from xtremex.tasks import mini_text as text
from xtremex.tasks.mini_names import LANGUAGES


def test_messages_are_parallel_and_distinct():
    found = text.messages()
    assert len(found) >= 500
    assert sum(2 <= message.words <= 6 for message in found) >= 250
    for message in found:
        assert tuple(message.text) == LANGUAGES
        assert all(value.strip() == value and value for value in message.text.values())
    for language in LANGUAGES:
        written = [message.text[language].casefold() for message in found]
        assert len(set(written)) == len(written), language


def test_messages_hold_no_placeholders_and_are_translated():
    for message in text.messages():
        for language, value in message.text.items():
            assert not set("%{}<>\n") & set(value), value
            assert language == "en" or value != message.text["en"]


def test_messages_name_no_languages():
    written = {message.text["en"] for message in text.messages()}
    assert not written & {"Brazilian Portuguese", "Simplified Chinese", "Mexican Spanish"}


@pytest.mark.parametrize(
    ("english", "language", "translation"),
    [
        ("Enter a valid email address.", "de", "Bitte gültige E-Mail-Adresse eingeben."),
        ("Enter a valid email address.", "pt", "Informe um endereço de email válido."),
    ],
)
def test_a_known_translation(english, language, translation):
    by_english = {message.text["en"]: message for message in text.messages()}
    assert by_english[english].text[language] == translation


def test_scripts_are_those_of_the_languages():
    blocks = {"ar": ("\u0600", "\u06ff"), "ja": ("\u3040", "\u9fff"), "ko": ("\uac00", "\ud7af"), "ru": ("\u0400", "\u04ff"),
              "zh": ("\u4e00", "\u9fff"), "fa": ("\u0600", "\u06ff")}  # fmt: skip
    for language, (first, last) in blocks.items():
        share = sum(any(first <= c <= last for c in m.text[language]) for m in text.messages()) / len(
            text.messages()
        )
        assert share > 0.97, language


def test_english_messages_cover_the_parallel_ones():
    english = {message.text["en"].casefold() for message in text.english_messages()}
    missing = [m.text["en"] for m in text.messages() if m.text["en"].casefold() not in english]
    assert not missing
    assert {message.topic for message in text.english_messages()} == set(text.TOPICS)


def test_unreadable_catalogue_names_the_file(monkeypatch):
    monkeypatch.setitem(text._FOLDERS, "de", "no_such_locale")
    with pytest.raises(DataError, match="no_such_locale"):
        text._catalogue("django/conf/locale", "de")


def test_sentences_are_prose_with_markup():
    found = text.sentences()
    assert len(found) >= 800
    assert len({sentence.text for sentence in found}) == len(found)
    for sentence in found:
        assert len(sentence.words) == len(sentence.marks)
        assert 7 <= len(sentence.words) <= 24
        assert sentence.text.endswith(".") and sentence.words[0][0].isupper()
        assert set(sentence.marks) <= {"", "code", "term"}
    marks = [mark for sentence in found for mark in sentence.marks]
    assert marks.count("code") > 500 and marks.count("term") > 50


@pytest.mark.parametrize(
    ("raw", "words", "marks"),
    [
        (
            'Each *lambda* body returns what "eval()" gives for the text.',
            "Each lambda body returns what eval() gives for the text.",
            {"lambda": "term", "eval()": "code"},
        ),
        (
            'It is wrong to write "async with" in class bodies ("None").',
            "It is wrong to write async with in class bodies (None).",
            {"async": "code", "with": "code", "(None).": "code"},
        ),
    ],
)
def test_markup_becomes_marks(raw, words, marks):
    sentence = text._parsed("topic", raw)
    assert sentence is not None
    assert sentence.text == words
    assert {word: mark for word, mark in zip(sentence.words, sentence.marks, strict=True) if mark} == marks


@pytest.mark.parametrize(
    ("paragraph", "prose"),
    [
        ("A flush paragraph of text\nthat goes on here.", True),
        ("   An indented description\n   of one method.", True),
        ("* An item of a list that\n  goes on here.", True),
        ("Title of a section\n******************", False),
        ('   if_stmt ::= "if" assignment_expression.', False),
        ("   >>> A = 1.", False),
        ("   class A:\n       a = 42.", False),
        ("For example:", False),
    ],
)
def test_prose_is_told_from_code(paragraph, prose):
    assert text._is_prose(paragraph) is prose


def test_digest_follows_the_text(monkeypatch):
    before = text.prose_digest()
    assert before == text.prose_digest() and len(before) == 8
    sentence = text.sentences()[0]
    text.prose_digest.cache_clear()
    monkeypatch.setattr(text, "sentences", lambda: (sentence,))
    assert text.prose_digest() != before
    monkeypatch.undo()
    text.prose_digest.cache_clear()
    assert text.prose_digest() == before


def test_python_without_prose(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setitem(sys.modules, "pydoc_data", types.ModuleType("pydoc_data"))
    text.sentences.cache_clear()
    with pytest.raises(MissingDependency, match="pydoc_data"):
        text.sentences()
    monkeypatch.undo()
    text.sentences.cache_clear()
    assert text.sentences()
