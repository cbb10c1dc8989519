"""Template environments: in each, every value is escaped for its format unless we made it as markup."""

from __future__ import annotations

import re
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

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
        return Environment(autoescape=True, **options)
    markdown = Environment(autoescape=False, finalize=_finalize, **options)
    markdown.filters["code"] = markdown_code
    return markdown
