"""Template environments: in each, every value is escaped for its format unless we made it as markup."""

from __future__ import annotations

import re
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from .bibliography import REFERENCES, render
from .wording import typeset

__all__ = ["environment", "markdown_code", "markdown_escape"]

_SPECIAL = re.compile(r"([\\`*_\[\]|~#])")


def markdown_escape(value: Any) -> str:
    """A value as GitHub Markdown text on one line: neither markup nor HTML can come from it."""
    words = " ".join(str(value).split())
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    words = _SPECIAL.sub(r"\\\1", words)
    # GitHub links bare addresses by itself
    return words.replace("://", ":\u200b//").replace("www.", "www\u200b.")


def markdown_code(value: Any) -> Markup:
    """A value as a code span: shown as it is, and easy to copy."""
    return Markup("`{}`".format(" ".join(str(value).split()).replace("`", "'") or " "))


def _cited_html(value: str) -> Markup:
    """Text whose citation marks become links into the list of references."""

    def link(key: str) -> str:
        return Markup('<a href="#ref-{}">{}</a>').format(key, REFERENCES[key].short)

    return Markup(render(value, lambda x: str(escape(x)), lambda keys: f"({'; '.join(map(link, keys))})"))


def _cited_markdown(value: str) -> Markup:
    """Text whose citation marks become ``[@key; @key]``, as pandoc reads them."""

    def plain(words: str) -> str:
        # the blanks around a mark are outside of what is escaped
        before, after = words[: len(words) - len(words.lstrip())], words[len(words.rstrip()) :]
        return f"{before}{markdown_escape(words)}{after}" if words.strip() else words

    return Markup(render(value, plain, lambda keys: f"[{'; '.join('@' + key for key in keys)}]"))


def _finalize(value: Any) -> str:
    return value if isinstance(value, Markup) else markdown_escape(value)


def environment(form: Literal["html", "markdown"]) -> Environment:
    """Jinja for one output format; undefined names are errors."""
    loader = PackageLoader(__package__ or "xtremex.analysis", "templates")
    options: dict[str, Any] = {
        "loader": loader,
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    if form == "html":
        html = Environment(autoescape=True, **options)
        html.filters["cited"] = _cited_html
        html.filters["typeset"] = typeset
        return html
    markdown = Environment(autoescape=False, finalize=_finalize, **options)
    markdown.filters["code"] = markdown_code
    markdown.filters["cited"] = _cited_markdown
    markdown.filters["typeset"] = typeset
    return markdown
