"""What every SVG drawing is made of: tags, text, the outer element, wrapped labels, round ticks."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

from markupsafe import Markup, escape

from . import wording as w

__all__ = ["advance", "figure", "pieces", "room", "shorten", "tag", "text", "tick_label", "ticks", "wrap"]

# advances at 12 px of DejaVu Sans, the widest of the usual system fonts
_ADVANCES = {"ijlI": 3.6, " .,:;'|!-()[]ftr": 4.95, "wm@%MWÆŒ": 12.0}
_ADVANCE = {character: width for group, width in _ADVANCES.items() for character in group}


def advance(words: str) -> float:
    """Pixels that a label of 12 px takes at most, in the fonts that systems have: a drawing cuts what it has no room for."""
    return sum(map(_advance, words))


def _advance(character: str) -> float:
    if character in _ADVANCE:
        return _ADVANCE[character]
    if unicodedata.combining(character):
        return 0.0
    if character.islower() or character.isdigit():
        return 7.7
    return 12.5 if unicodedata.east_asian_width(character) in "WF" else 10.1


def shorten(words: str, limit: float) -> str:
    """The label, or as much of it as ``limit`` pixels hold, with an ellipsis."""
    if advance(words) <= limit:
        return words
    kept = words
    while kept and advance(kept) + 12 > limit:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def room(labels: Iterable[str], least: float, most: float) -> float:
    """Pixels for a column of labels, between two bounds; beyond ``most``, labels are to be shortened."""
    return max(least, min(most, max(map(advance, labels), default=0.0)))


def tag(name: str, *children: Markup | str, **attributes: object) -> Markup:
    """An element, escaped; ``_`` in a name is ``-`` (``class_`` is ``class``), attributes that are None are left out."""
    parts = [
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    ]
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), Markup("").join(parts), inside)


def _number(value: object) -> object:
    """Floats with at most two decimals: short files, and the same bytes on every machine."""
    if isinstance(value, float):
        short = f"{value:.2f}".rstrip("0").rstrip(".")
        return "0" if short == "-0" else short
    return value


def text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """Words at a place in pixels; ``anchor`` is SVG's: start, middle, end."""
    return tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def figure(width: float, height: float, alt: str, *children: Markup, fluid: bool = False) -> Markup:
    """The drawing, in pixels, with its text for those who do not see it; ``fluid``: as wide as its place."""
    style = None if fluid else f"min-width:{width:.0f}px;max-width:{width * 1.15:.0f}px"
    return tag(
        "svg", *children, viewBox=f"0 0 {width:.0f} {height:.0f}", role="group", aria_label=alt, style=style,
        class_="fluid" if fluid else None,
    )  # fmt: skip


def pieces(words: str) -> list[str]:
    """What a line may end after: hyphens, underscores and spaces."""
    return words.replace("-", "-\0").replace("_", "_\0").replace(" ", " \0").split("\0")


def wrap(words: str, limit: float) -> list[str]:
    """At most three lines of at most ``limit`` pixels, broken at hyphens and spaces; a longer word is shortened."""
    lines = [""]
    for piece in pieces(words):
        if lines[-1] and advance((lines[-1] + piece).rstrip()) > limit:
            lines.append("")
        lines[-1] += piece
    kept = lines[:2] + ["".join(lines[2:])] if len(lines) > 3 else lines
    return [shorten(line.strip(), limit) for line in kept]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers inside [low, high], at most about ``count``."""
    raw = max(high - low, 1e-9) / count
    step = 10 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if m * step >= raw - 1e-12)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float, step: float) -> str:
    return w.number(value, 0 if step >= 1 and step == int(step) else 1 if step >= 0.1 else 2)
