"""What the tests of the report share: a reader of pages, digests, names that try to break out."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from xtremex.analysis import report

__all__ = ["FIGURES", "HOSTILE", "TABLES", "Page", "digests", "no_figures"]

FIGURES = ("effect_map", "forest_languages", "gains", "power", "retention", "variance")
TABLES = (
    *(
        "conditions",
        "effects",
        "failures",
        "gains",
        "grand",
        "means",
        "placebo_difference",
        "power",
        "replicability",
        "retention",
        "scores",
    ),
    "secondary",
)
HOSTILE: dict[str, Any] = {
    "pairs": ("<script>alert(1)</script>&_%", "b"),
    "conditions": ('n<l>i&"_%$#{}~^', "[Türkçe]"),
    "targets": ("mini-a_b|c", "mini-<img src=x onerror=alert(1)>", "$x^2$"),
    "title": "<b>T</b> & _%",
    "notice": "</style><script>alert(2)</script>",
    "warnings": ("<a href='http://evil.example'>x</a> https://evil.example 漢字",),
    "signature": "a_b|c%d&e<script>~^\\{}",
}


class Page(HTMLParser):
    """Tags, attributes, headings and visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.headings: list[int] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "tags must nest"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@contextmanager
def no_figures() -> Iterator[None]:
    """Reports without the files of figures/: most of the time of a build goes there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "write_figures", lambda wanted, folder: [])
        yield
