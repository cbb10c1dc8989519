"""Plots as inline SVG for the page: colours come from the style sheet, so light, dark and print follow it.

Everything that can be pointed at holds a ``<title>``: without JavaScript the browser shows it, with it the
text becomes the tooltip and the accessible name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup, escape

from . import wording as w
from .plots import Bars, Heat, Intervals, Mark, Plot

__all__ = ["draw"]

_CHARACTER = 6.4
"""Average advance of a character at 12 px, generous: labels must not be cut."""


def _tag(name: str, *children: Markup | str, **attributes: object) -> Markup:
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


def _text(x: float, y: float, words: str, anchor: str = "start", class_: str | None = None) -> Markup:
    return _tag("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def _figure(width: float, height: float, alt: str, *children: Markup, fluid: bool = False) -> Markup:
    style = None if fluid else f"min-width:{width:.0f}px;max-width:{width * 1.15:.0f}px"
    return _tag(
        "svg", *children, viewBox=f"0 0 {width:.0f} {height:.0f}", role="group", aria_label=alt, style=style,
        class_="fluid" if fluid else None,
    )  # fmt: skip


def _wrap(words: str, limit: int) -> list[str]:
    """Lines of at most ``limit`` characters, broken at hyphens and spaces; a longer word is cut."""
    pieces = words.replace("-", "-\0").replace("_", "_\0").replace(" ", " \0").split("\0")
    lines = [""]
    for piece in pieces:
        if lines[-1] and len((lines[-1] + piece).rstrip()) > limit:
            lines.append("")
        lines[-1] += piece
    return [
        line.strip() if len(line.strip()) <= limit else line.strip()[: limit - 1] + "…" for line in lines
    ][:3]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers inside [low, high], at most about ``count``."""
    raw = max(high - low, 1e-9) / count
    step = 10 ** math.floor(math.log10(raw))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if m * step >= raw - 1e-12)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _tick_label(value: float, step: float) -> str:
    return w.number(value, 0 if step >= 1 and step == int(step) else 1 if step >= 0.1 else 2)


def extent(plot: Intervals) -> tuple[float, float]:
    """The range of the axis: all marks, the reference and the margin, with some air."""
    values = [
        v
        for line in plot.lines
        for mark in line.marks
        for v in (mark.value, mark.low, mark.high, mark.start)
        if v is not None and math.isfinite(v)
    ]
    values += [v for v in (plot.reference,) if v is not None]
    if plot.band is not None:
        values += [-plot.band, plot.band]
    low, high = min(values), max(values)
    air = 0.04 * (high - low) or 1.0
    return low - air, high + air


# -- heat map ------------------------------------------------------------------------------------------------


def _heat(plot: Heat) -> Markup:
    cell_w, cell_h, gap = 78.0, 38.0, 8.0
    left = max(92.0, min(190.0, _CHARACTER * max(len(name) for name in plot.rows) + 14))
    heads = [_wrap(name, 12) for name in plot.columns]
    top = 15.0 * max(map(len, heads)) + 10
    extra_x = [
        gap if plot.mean_column and i == len(plot.columns) - 1 else 0.0 for i in range(len(plot.columns))
    ]
    extra_y = [gap if plot.mean_row and i == len(plot.rows) - 1 else 0.0 for i in range(len(plot.rows))]
    width = left + cell_w * len(plot.columns) + sum(extra_x) + 4
    height = top + cell_h * len(plot.rows) + sum(extra_y) + 46
    parts: list[Markup] = []
    for j, lines in enumerate(heads):
        x = left + j * cell_w + extra_x[j] + cell_w / 2
        for k, words in enumerate(lines):
            parts.append(_text(x, top - 8 - 14 * (len(lines) - 1 - k), words, "middle", "label"))
    for i, name in enumerate(plot.rows):
        y = top + i * cell_h + extra_y[i]
        parts.append(_text(left - 10, y + cell_h / 2 + 4, name, "end", "label"))
        for j, cell in enumerate(plot.cells[i]):
            x = left + j * cell_w + extra_x[j]
            inside = {"x": x + 1.5, "y": y + 1.5, "width": cell_w - 3, "height": cell_h - 3, "rx": 2}
            shapes = [_tag("rect", **inside, class_="ground")]
            if cell.verdict:
                sign = "plus" if cell.tone > 0 else "minus"
                shapes.append(
                    _tag("rect", **inside, class_=sign, fill_opacity=min(1.0, abs(cell.tone)) * 0.72)
                )
            frame = {"different": "told", "different-but-negligible": "told slight"}.get(cell.verdict)
            if frame:
                shapes.append(_tag("rect", **inside, class_=f"frame {frame}"))
            mark = "≈ " if cell.verdict == "equivalent" else ""
            shapes.append(
                _text(
                    x + cell_w / 2,
                    y + cell_h / 2 + 4.5,
                    mark + cell.text,
                    "middle",
                    "value strong" if frame else "value",
                )
            )
            parts.append(
                _tag(
                    "g", _tag("title", cell.tip), *shapes, class_="hit", tabindex=0, role="img",
                    data_row=i, data_column=j,
                )
            )  # fmt: skip
    parts.append(_scale(plot, left, height - 30, min(width - left - 4, 300.0)))
    return _figure(width, height, plot.alt, *parts)


def _scale(plot: Heat, x: float, y: float, width: float) -> Markup:
    """The colour scale, in steps, with what its ends mean."""
    steps = 24
    parts = []
    for k in range(steps):
        tone = 2 * (k + 0.5) / steps - 1
        parts.append(
            _tag(
                "rect", x=x + k * width / steps, y=y, width=width / steps + 0.3, height=8,
                class_="plus" if tone > 0 else "minus", fill_opacity=abs(tone) * 0.72,
            )
        )  # fmt: skip
    limit = w.number(plot.limit, 1)
    parts += [
        _text(x, y + 22, f"−{limit} {plot.minus} gains more", "start", "small"),
        _text(x + width, y + 22, f"{plot.plus} gains more +{limit}", "end", "small"),
    ]
    return _tag("g", *parts, aria_hidden="true")


# -- points with intervals -----------------------------------------------------------------------------------

_Shape = Callable[[float, float], Markup]


def _circle(x: float, y: float) -> Markup:
    return _tag("circle", cx=x, cy=y, r=4.2)


def _path(*offsets: tuple[float, float]) -> _Shape:
    def shape(x: float, y: float) -> Markup:
        points = " ".join(f"{x + dx:.2f},{y + dy:.2f}" for dx, dy in offsets)
        return _tag("polygon", points=points)

    return shape


MARKERS: dict[str, _Shape] = {
    "primary": _circle,
    "vision": _circle,
    "placebo": _path((0, -5), (4.8, 4), (-4.8, 4)),
    "scrambled": _path((0, -5), (4.8, 4), (-4.8, 4)),
    "text": _path((-3.8, -3.8), (3.8, -3.8), (3.8, 3.8), (-3.8, 3.8)),
    "distilled": _path((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)),
    "other": _path((0, 5), (4.8, -4), (-4.8, -4)),
    "further": _path((-5, -1.8), (5, -1.8), (5, 1.8), (-5, 1.8)),
}
"""Every series has a shape of its own: colour is never the only difference."""


def _mark(mark: Mark, style: str, place: Callable[[float], float], y: float, row: int) -> Markup:
    x = place(mark.value)
    parts = [_tag("title", mark.tip)]
    # an invisible target, wide enough for a finger
    parts.append(_tag("rect", x=x - 16, y=y - 7, width=32, height=14, class_="target"))
    if mark.start is not None:
        parts.append(_tag("line", x1=place(mark.start), x2=x, y1=y, y2=y, class_="path"))
    if w.finite(mark.low, mark.high) and mark.low is not None and mark.high is not None:
        parts.append(_tag("line", x1=place(mark.low), x2=place(mark.high), y1=y, y2=y, class_="whisker"))
    parts.append(MARKERS[style](x, y))
    hollow = " hollow" if mark.hollow else ""
    return _tag(
        "g",
        *parts,
        class_=f"hit mark s-{style}{hollow}",
        tabindex=0,
        role="img",
        data_row=row,
        data_column=mark.series,
    )


def _legend(plot: Intervals, x: float, y: float) -> list[Markup]:
    parts = []
    for name, style in zip(plot.series, plot.styles, strict=True):
        parts.append(_tag("g", MARKERS[style](x + 5, y - 4), class_=f"mark s-{style}"))
        parts.append(_text(x + 15, y, name, "start", "label"))
        x += 15 + _CHARACTER * 1.05 * len(name) + 22
    return parts


def _axis(plot: Intervals, place: Callable[[float], float], top: float, bottom: float) -> list[Markup]:
    low, high = extent(plot)
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    parts = []
    if plot.band is not None:
        x = place(-plot.band)
        parts.append(_tag("rect", x=x, y=top, width=place(plot.band) - x, height=bottom - top, class_="band"))
    for value in marks:
        x = place(value)
        parts.append(_tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(_text(x, bottom + 16, _tick_label(value, step), "middle", "small"))
    if plot.reference is not None:
        x = place(plot.reference)
        parts.append(_tag("line", x1=x, x2=x, y1=top - 4, y2=bottom, class_="zero"))
        if plot.reference_label:
            parts.append(_text(x + 4, top + 2, plot.reference_label, "start", "small"))
    return parts


def _intervals(plot: Intervals) -> Markup:
    labels = [line.label for line in plot.lines if not line.heading]
    left = max(84.0, min(230.0, _CHARACTER * max(map(len, labels)) + 16))
    dodge = 11.0
    span = 420.0 + 0.35 * max(0.0, 190.0 - left)
    width = left + span + 16
    legend = 26.0 if len(plot.series) > 1 or plot.series != ("",) else 0.0
    y = 10 + legend
    top = y
    rows = []
    for line in plot.lines:
        series = sorted({mark.series for mark in line.marks})
        tall = 26.0 if line.heading else max(20.0, dodge * len(series) + 9)
        rows.append((line, y, tall, series))
        y += tall
    low, high = extent(plot)

    def place(value: float) -> float:
        return left + (value - low) / (high - low) * span

    parts = [*_legend(plot, left, 16), *_axis(plot, place, top, y)]
    for number, (line, start, tall, series) in enumerate(rows):
        if line.heading:
            parts.append(_text(2, start + 19, line.label, "start", "group"))
            continue
        parts.append(_text(left - 12, start + tall / 2 + 4, line.label, "end", "label"))
        first = start + tall / 2 - dodge * (len(series) - 1) / 2
        for mark in line.marks:
            parts.append(
                _mark(
                    mark, plot.styles[mark.series], place, first + dodge * series.index(mark.series), number
                )
            )
    parts.append(_text(left + span / 2, y + 34, plot.axis, "middle", "small"))
    return _figure(width, y + 42, plot.alt, *parts)


def strip(plot: Intervals) -> Markup:
    """The answers on one number line; drawn narrow, so that a phone shows it whole."""
    width, left, right, tall = 400.0, 12.0, 388.0, 46.0
    low, high = extent(plot)
    # symmetric: zero in the middle is what the eye compares with
    reach = max(abs(low), abs(high))

    def place(value: float) -> float:
        return left + (value + reach) / (2 * reach) * (right - left)

    bottom = tall * len(plot.lines) + 6
    parts = []
    if plot.band is not None:
        x = place(-plot.band)
        parts.append(_tag("rect", x=x, y=4, width=place(plot.band) - x, height=bottom - 4, class_="band"))
    for value in ticks(-reach, reach, 7):
        parts.append(_tag("line", x1=place(value), x2=place(value), y1=bottom, y2=bottom + 4, class_="grid"))
        parts.append(
            _text(
                place(value),
                bottom + 17,
                w.number(value, 0 if reach > 3 else 1, sign=True),
                "middle",
                "small",
            )
        )
    parts.append(_tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="grid"))
    for k, line in enumerate(plot.lines):
        y = tall * k
        parts.append(_text(left, y + 16, line.label, "start", "label"))
        parts.append(_tag("line", x1=place(0), x2=place(0), y1=y + 23, y2=y + 43, class_="zero"))
        for mark in line.marks:
            parts.append(_mark(mark, plot.styles[mark.series], place, y + 33, k))
    return _figure(width, bottom + 22, plot.alt, *parts, fluid=True)


# -- stacked bars --------------------------------------------------------------------------------------------


def _bars(plot: Bars) -> Markup:
    left = max(84.0, min(230.0, _CHARACTER * max(len(label) for label, _, _ in plot.rows) + 16))
    span, tall, top = 380.0, 24.0, 32.0
    width, height = left + span + 16, top + tall * len(plot.rows) + 26
    parts = []
    x = left
    for k, name in enumerate(plot.parts):
        parts.append(_tag("rect", x=x, y=8, width=10, height=10, class_=f"part p{k % 4}"))
        parts.append(_text(x + 15, 17, name, "start", "label"))
        x += 15 + _CHARACTER * len(name) + 24
    for i, (label, shares, tip) in enumerate(plot.rows):
        y = top + i * tall
        parts.append(_text(left - 12, y + 15, label, "end", "label"))
        x = left
        pieces = []
        for k, share in enumerate(shares):
            pieces.append(
                _tag("rect", x=x, y=y + 3, width=share * span, height=tall - 7, class_=f"part p{k % 4}")
            )
            if share >= 0.12:
                pieces.append(
                    _text(x + share * span / 2, y + 15.5, f"{100 * share:.0f} %", "middle", f"share p{k % 4}")
                )
            x += share * span
        parts.append(
            _tag(
                "g",
                _tag("title", tip),
                *pieces,
                class_="hit",
                tabindex=0,
                role="img",
                data_row=i,
                data_column=0,
            )
        )
    bottom = top + tall * len(plot.rows)
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts.append(_text(left + value * span, bottom + 16, f"{100 * value:.0f} %", "middle", "small"))
    return _figure(width, height, plot.alt, *parts)


def draw(plot: Plot) -> Markup:
    """The plot as one ``<svg>`` element."""
    if isinstance(plot, Heat):
        return _heat(plot)
    return _intervals(plot) if isinstance(plot, Intervals) else _bars(plot)
