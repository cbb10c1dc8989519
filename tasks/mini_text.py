"""Real text: interface messages that people translated, and English prose with its authors' markup.

* ``messages()``: placeholder-free messages of ``django`` and ``django-allauth`` with a translation in every language of
  the suite (compiled gettext catalogues; Portuguese is ``pt_BR``, Chinese ``zh_Hans``).
* ``sentences()``: sentences of the language reference in the standard library's ``pydoc_data.topics``. The text belongs to
  the Python release, so ``prose_digest()`` enters the version of every task made of it.

Sources: django (BSD-3-Clause), django-allauth (MIT), Python documentation (PSF-2.0).
"""

from __future__ import annotations

import gettext
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from ..errors import DataError, MissingDependency
from .mini_names import LANGUAGES, package

__all__ = ["TOPICS", "Message", "Sentence", "english_messages", "messages", "prose_digest", "sentences"]

TOPICS = ("account", "site", "data")
"""What a message is about: accounts and signing in, running a site, entering and storing data."""

_CATALOGUES = {
    "allauth": ("allauth/locale", "account"),
    "auth": ("django/contrib/auth/locale", "account"),
    "admin": ("django/contrib/admin/locale", "site"),
    "admindocs": ("django/contrib/admindocs/locale", "site"),
    "flatpages": ("django/contrib/flatpages/locale", "site"),
    "redirects": ("django/contrib/redirects/locale", "site"),
    "sites": ("django/contrib/sites/locale", "site"),
    "core": ("django/conf/locale", "data"),
    "gis": ("django/contrib/gis/locale", "data"),
    "postgres": ("django/contrib/postgres/locale", "data"),
}
_FOLDERS = {"pt": "pt_BR", "zh": "zh_Hans"}
_UNWANTED = re.compile(r"[%{}<>\n|\\]|https?:|\x04|&\w+;|::")
_PLACEHOLDER = re.compile(r"%\((?P<name>\w+)\)[sd]")
_LONGEST = 26


@dataclass(frozen=True)
class Message:
    """One message in several languages. ``text["en"]`` is the original."""

    topic: str
    text: dict[str, str]

    @property
    def words(self) -> int:
        """Number of words of the English original."""
        return len(self.text["en"].split())


@dataclass(frozen=True)
class Sentence:
    """One sentence of prose as words, with each word's markup: "" (none), "code" or "term" (emphasised)."""

    topic: str
    words: tuple[str, ...]
    marks: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def _catalogue(folder: str, language: str) -> dict[str, str]:
    root = package(folder.partition("/")[0], "django-allauth" if folder.startswith("allauth") else "django")
    path = (
        Path(root.__file__).parent.parent
        / folder
        / _FOLDERS.get(language, language)
        / "LC_MESSAGES/django.mo"
    )
    try:
        with path.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)
    except OSError as error:
        raise DataError(
            f"cannot read the message catalogue {path}: {error.strerror or error}",
            'pip install --force-reinstall "xtremex[mini]"',
        ) from error
    # `_catalog` is what gettext.find() users rely on to enumerate messages; the public interface has lookups only.
    table: dict[str | tuple[str, int], str] = catalogue.__dict__["_catalog"]
    return {key: text for key, text in table.items() if isinstance(key, str)}


def _tidy(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").split())


@cache
def _language_names() -> frozenset[str]:
    """Names of languages, which Django's catalogue holds for its own settings."""
    table = package("django.conf.locale", "django").LANG_INFO
    return frozenset(entry["name"] for entry in table.values() if "name" in entry)


def _usable(text: str) -> bool:
    return (
        bool(text)
        and text not in _language_names()
        and not _UNWANTED.search(text)
        and any(c.isalpha() for c in text)
    )


@cache
def english_messages() -> tuple[Message, ...]:
    """English messages, translated or not, without repetitions, in catalogue order. Only ``text["en"]``.

    A placeholder is read as its name: "%(value)s is not a number" is "value is not a number".
    """
    seen: set[str] = set()
    found = []
    for folder, topic in _CATALOGUES.values():
        keys = {key for language in ("de", "fr") for key in _catalogue(folder, language)}
        for key in sorted(keys):
            text = _tidy(_PLACEHOLDER.sub(lambda match: match["name"].replace("_", " "), key))
            if _usable(text) and text.casefold() not in seen and len(text.split()) <= _LONGEST:
                seen.add(text.casefold())
                found.append(Message(topic, {"en": text}))
    return tuple(found)


@cache
def messages() -> tuple[Message, ...]:
    """Messages translated into every language of the suite, distinct in each of them, in catalogue order."""
    seen: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    found = []
    for folder, topic in _CATALOGUES.values():
        tables = {language: _catalogue(folder, language) for language in LANGUAGES if language != "en"}
        for key in sorted(set.intersection(*(set(table) for table in tables.values()))):
            if not _usable(key) or len(key.split()) > _LONGEST:
                continue
            texts = {"en": _tidy(key)} | {lg: _tidy(table[key]) for lg, table in tables.items()}
            folded = {language: _folded(text) for language, text in texts.items()}
            if not all(_usable(text) for text in texts.values()):
                continue
            # an untranslated message gives retrieval away; a repeated translation makes it ambiguous
            if any(folded[language] == folded["en"] for language in LANGUAGES if language != "en"):
                continue
            if any(folded[language] in seen[language] for language in LANGUAGES):
                continue
            for language in LANGUAGES:
                seen[language].add(folded[language])
            found.append(Message(topic, {language: texts[language] for language in LANGUAGES}))
    return tuple(found)


def _folded(text: str) -> str:
    """Equal for texts that differ in case, spaces or final punctuation only."""
    return "".join(c for c in text.casefold() if c.isalnum())


_SENTENCE_END = re.compile(r"(?<=[a-z)\"*][.?])\s+(?=[A-Z\"*])")
_MARKED = re.compile(r'(?P<code>(?<![\w"])"[^"\n]+"(?!"))|(?P<term>(?<![\w*])\*[^*\n]+\*(?![\w*]))')
_FIRST_WORD = re.compile(r"[A-Z][a-z']*,?$")
_TYPOGRAPHY = str.maketrans({"\u2019": "'", "\u201c": "'", "\u201d": "'", "\u2014": "-", "\u2013": "-"})
_SHORTEST, _LONGEST_SENTENCE = 7, 24


@cache
def sentences() -> tuple[Sentence, ...]:
    """English sentences of 7 to 24 words, in the order of topics; markup removed and kept beside the words."""
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        raise MissingDependency(
            "this Python was installed without `pydoc_data`, the text of the mini suite's English tasks",
            "install the complete standard library (Debian: apt install python3-full)",
        ) from None
    found, seen = [], set()
    for topic in sorted(topics):
        for paragraph in re.split(r"\n\s*\n", topics[topic]):
            if not _is_prose(paragraph):
                continue
            text = " ".join(paragraph.split()).removeprefix("* ").translate(_TYPOGRAPHY)
            for raw in _SENTENCE_END.split(text):
                sentence = _parsed(topic, raw)
                if sentence is not None and sentence.text not in seen:
                    seen.add(sentence.text)
                    found.append(sentence)
    return tuple(found)


def _is_prose(paragraph: str) -> bool:
    """Running text: one margin, a capital first, a full stop last; not code, grammar, headings or tables."""
    lines = paragraph.strip("\n").split("\n")
    margins = {len(line) - len(line.lstrip()) for line in lines[1:]}
    return (
        len(margins) <= 1
        and bool(re.match(r'\s*(\* )?["*]?[A-Z]', lines[0]))
        and lines[-1].endswith((".", '."', ".)"))
        and not any(sign in paragraph for sign in ("::", ">>>", "***", "===", "---"))
    )


def _parsed(topic: str, raw: str) -> Sentence | None:
    words: list[str] = []
    marks: list[str] = []
    position = 0
    for match in (*_MARKED.finditer(raw), None):
        plain = raw[position : match.start()] if match else raw[position:]
        _append(words, marks, plain, "", glued=position > 0 and bool(plain) and not plain[0].isspace())
        if match:
            mark = "code" if match["code"] else "term"
            glued = bool(words) and match.start() > 0 and not raw[match.start() - 1].isspace()
            _append(words, marks, match.group()[1:-1], mark, glued=glued)
            position = match.end()
    text = " ".join(words)
    if (
        not _SHORTEST <= len(words) <= _LONGEST_SENTENCE
        or not text.endswith(".")
        or not _FIRST_WORD.match(words[0])
    ):
        return None
    if any(sign in text for sign in ('"', "*", "`", "<", ">", "{", "}", "|", "\\")) or not text.isascii():
        return None
    return Sentence(topic, tuple(words), tuple(marks))


def _append(words: list[str], marks: list[str], text: str, mark: str, *, glued: bool) -> None:
    """Add the words of ``text``; ``glued`` text continues the last word (the full stop after a literal)."""
    for i, word in enumerate(text.split()):
        if i == 0 and glued and words:
            words[-1] += word
            marks[-1] = marks[-1] or mark
        else:
            words.append(word)
            marks.append(mark)


@cache
def prose_digest() -> str:
    """Eight hexadecimal digits that change with the text of ``sentences()`` (a Python release may change it)."""
    lines = "\n".join(f"{s.topic}\t{s.text}\t{' '.join(s.marks)}" for s in sentences())
    return sha256(lines.encode()).hexdigest()[:8]
