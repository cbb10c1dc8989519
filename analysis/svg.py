"""Plots as inline SVG for the page: colours come from the style sheet, so light, dark and print follow it.

Everything that can be pointed at holds a ``<title>``: without JavaScript the browser shows it, with it the
text becomes the tooltip and the accessible name.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from . import wording as w
from .plots import Bars, Curve, Curves, Heat, Intervals, Mark, Plot
from .svg_parts import advance, figure, pieces, room, shorten, tag, text, tick_label, ticks, wrap

__all__ = ["draw"]


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
    cell_h, gap = 38.0, 8.0
    cell_w = room((piece.strip() for name in plot.columns for piece in pieces(name)), 74.0, 104.0) + 4
    left = room(plot.rows, 78.0, 220.0) + 14
    heads = [wrap(name, cell_w - 4) for name in plot.columns]
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
            parts.append(text(x, top - 8 - 14 * (len(lines) - 1 - k), words, "middle", "label"))
    for i, name in enumerate(plot.rows):
        y = top + i * cell_h + extra_y[i]
        parts.append(text(left - 10, y + cell_h / 2 + 4, shorten(name, left - 14), "end", "label"))
        for j, cell in enumerate(plot.cells[i]):
            x = left + j * cell_w + extra_x[j]
            inside = {"x": x + 1.5, "y": y + 1.5, "width": cell_w - 3, "height": cell_h - 3, "rx": 2}
            shapes = [tag("rect", **inside, class_="ground")]
            if cell.verdict:
                sign = "plus" if cell.tone > 0 else "minus"
                shapes.append(
                    tag("rect", **inside, class_=sign, fill_opacity=min(1.0, abs(cell.tone)) * 0.72)
                )
            frame = {"different": "told", "different-but-negligible": "told slight"}.get(cell.verdict)
            if frame:
                shapes.append(tag("rect", **inside, class_=f"frame {frame}"))
            mark = "≈ " if cell.verdict == "equivalent" else ""
            style = "value strong" if frame else "value"
            words = text(x + cell_w / 2, y + cell_h / 2 + 4.5, mark + cell.text, "middle", style)
            shapes.append(tag("g", words, font_style="italic") if cell.italic else words)
            parts.append(
                tag(
                    "g", tag("title", cell.tip), *shapes, class_="hit", tabindex=0, role="img",
                    data_row=i, data_column=j,
                )
            )  # fmt: skip
    parts.append(_scale(plot, left, height - 30, min(width - left - 4, 300.0)))
    return figure(width, height, plot.alt, *parts)


def _scale(plot: Heat, x: float, y: float, width: float) -> Markup:
    """The colour scale, in steps, with what its ends mean."""
    steps = 24
    parts = []
    for k in range(steps):
        tone = 2 * (k + 0.5) / steps - 1
        parts.append(
            tag(
                "rect", x=x + k * width / steps, y=y, width=width / steps + 0.3, height=8,
                class_="plus" if tone > 0 else "minus", fill_opacity=abs(tone) * 0.72,
            )
        )  # fmt: skip
    limit = w.number(plot.limit, 1)
    parts += [
        text(x, y + 22, f"−{limit} {plot.minus} gains more", "start", "small"),
        text(x + width, y + 22, f"{plot.plus} gains more +{limit}", "end", "small"),
    ]
    return tag("g", *parts, aria_hidden="true")


# -- points with intervals -----------------------------------------------------------------------------------

_Shape = Callable[[float, float], Markup]


def _circle(x: float, y: float) -> Markup:
    return tag("circle", cx=x, cy=y, r=4.2)


def _path(*offsets: tuple[float, float]) -> _Shape:
    def shape(x: float, y: float) -> Markup:
        points = " ".join(f"{x + dx:.2f},{y + dy:.2f}" for dx, dy in offsets)
        return tag("polygon", points=points)

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
    parts = [tag("title", mark.tip)]
    # an invisible target, wide enough for a finger
    parts.append(tag("rect", x=x - 16, y=y - 7, width=32, height=14, class_="target"))
    if mark.start is not None:
        parts.append(tag("line", x1=place(mark.start), x2=x, y1=y, y2=y, class_="path"))
    if w.finite(mark.low, mark.high) and mark.low is not None and mark.high is not None:
        parts.append(tag("line", x1=place(mark.low), x2=place(mark.high), y1=y, y2=y, class_="whisker"))
    parts.append(MARKERS[style](x, y))
    hollow = " hollow" if mark.hollow else ""
    return tag(
        "g",
        *parts,
        class_=f"hit mark s-{style}{hollow}",
        tabindex=0,
        role="img",
        data_row=row,
        data_column=mark.series,
    )


def _legend(plot: Intervals, left: float, right: float) -> tuple[list[Markup], float]:
    """Entries from left to right, in as many lines as they need; and the height they take."""
    parts, x, y = [], left, 16.0
    for name, style in zip(plot.series, plot.styles, strict=True):
        wide = 15 + advance(name) + 22
        if x > left and x + wide > right:
            x, y = left, y + 18
        parts.append(tag("g", MARKERS[style](x + 5, y - 4), class_=f"mark s-{style}"))
        parts.append(text(x + 15, y, name, "start", "label"))
        x += wide
    return parts, y + 10


def _axis(plot: Intervals, place: Callable[[float], float], top: float, bottom: float) -> list[Markup]:
    low, high = extent(plot)
    marks = ticks(low, high)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    parts = []
    if plot.band is not None:
        x = place(-plot.band)
        parts.append(tag("rect", x=x, y=top, width=place(plot.band) - x, height=bottom - top, class_="band"))
    for value in marks:
        x = place(value)
        parts.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(text(x, bottom + 16, tick_label(value, step), "middle", "small"))
    if plot.reference is not None:
        x = place(plot.reference)
        parts.append(tag("line", x1=x, x2=x, y1=top - 4, y2=bottom, class_="zero"))
        if plot.reference_label:
            parts.append(text(x + 4, top + 2, plot.reference_label, "start", "small"))
    return parts


_PHONE = 356.0
"""Pixels that a phone of 390 has beside its margins."""


def _intervals(plot: Intervals) -> Markup:
    labels = [line.label for line in plot.lines if not line.heading]
    left = room(labels, 68.0, 230.0) + 16
    dodge = 11.0
    span = 420.0 + 0.35 * max(0.0, 190.0 - left)
    if plot.narrow:
        span = max(_PHONE - left - 16, 150.0)
    width = left + span + 16
    legend, below = ([], 0.0) if plot.series == ("",) else _legend(plot, left, left + span)
    y = 10 + below
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

    parts = [*legend, *_axis(plot, place, top, y)]
    for number, (line, start, tall, series) in enumerate(rows):
        if line.heading:
            parts.append(text(2, start + 19, line.label, "start", "group"))
            continue
        label = shorten(line.label, left - 16)
        parts.append(text(left - 12, start + tall / 2 + 4, label, "end", "label"))
        first = start + tall / 2 - dodge * (len(series) - 1) / 2
        for mark in line.marks:
            parts.append(
                _mark(
                    mark, plot.styles[mark.series], place, first + dodge * series.index(mark.series), number
                )
            )
    parts.append(text(left + span / 2, y + 34, plot.axis, "middle", "small"))
    return figure(width, y + 42, plot.alt, *parts)


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
        parts.append(tag("rect", x=x, y=4, width=place(plot.band) - x, height=bottom - 4, class_="band"))
    for value in ticks(-reach, reach, 7):
        parts.append(tag("line", x1=place(value), x2=place(value), y1=bottom, y2=bottom + 4, class_="grid"))
        parts.append(
            text(
                place(value),
                bottom + 17,
                w.number(value, 0 if reach > 3 else 1, sign=True),
                "middle",
                "small",
            )
        )
    parts.append(tag("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="grid"))
    for k, line in enumerate(plot.lines):
        y = tall * k
        parts.append(text(left, y + 16, line.label, "start", "label"))
        parts.append(tag("line", x1=place(0), x2=place(0), y1=y + 23, y2=y + 43, class_="zero"))
        for mark in line.marks:
            parts.append(_mark(mark, plot.styles[mark.series], place, y + 33, k))
    return figure(width, bottom + 22, plot.alt, *parts, fluid=True)


# -- stacked bars --------------------------------------------------------------------------------------------


def _bars(plot: Bars) -> Markup:
    left = room((label for label, _, _ in plot.rows), 68.0, 230.0) + 16
    span, tall, top = 380.0, 24.0, 32.0
    width, height = left + span + 24, top + tall * len(plot.rows) + 26
    parts = []
    x = left
    for k, name in enumerate(plot.parts):
        parts.append(tag("rect", x=x, y=8, width=10, height=10, class_=f"part p{k % 4}"))
        parts.append(text(x + 15, 17, name, "start", "label"))
        x += 15 + advance(name) + 24
    for i, (label, shares, tip) in enumerate(plot.rows):
        y = top + i * tall
        parts.append(text(left - 12, y + 15, shorten(label, left - 16), "end", "label"))
        x = left
        pieces = []
        for k, share in enumerate(shares):
            pieces.append(
                tag("rect", x=x, y=y + 3, width=share * span, height=tall - 7, class_=f"part p{k % 4}")
            )
            if share >= 0.12:
                pieces.append(
                    text(x + share * span / 2, y + 15.5, f"{100 * share:.0f} %", "middle", f"share p{k % 4}")
                )
            x += share * span
        parts.append(
            tag(
                "g",
                tag("title", tip),
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
        parts.append(text(left + value * span, bottom + 16, f"{100 * value:.0f} %", "middle", "small"))
    return figure(width, height, plot.alt, *parts)


# -- lines over whole numbers ---------------------------------------------------------------------------------------


def _curves(plot: Curves) -> Markup:
    left, span, tall = 46.0, 474.0, 190.0
    places = [place for curve in plot.curves for place, _, _ in curve.points]
    values = [value for curve in plot.curves for _, value, _ in curve.points]
    values += [] if plot.base is None else [plot.base]
    first, last = min(places), max(max(places), min(places) + 1)
    marks = ticks(min(values), max(values), 5)
    step = marks[1] - marks[0] if len(marks) > 1 else 1.0
    low, high = min([*marks, *values]) - 0.1 * step, max([*marks, *values]) + 0.1 * step
    low = low if plot.base is None else plot.base
    legend, below = _curve_legend(plot.curves, left, left + span)
    top = below + 12.0

    def across(place: float) -> float:
        return left + (place - first) / (last - first) * span

    def up(value: float) -> float:
        return top + (high - value) / (high - low) * tall

    parts = [*legend, text(2, top - 4, plot.value_axis, "start", "small")]
    for value in marks:
        parts.append(tag("line", x1=left, x2=left + span, y1=up(value), y2=up(value), class_="grid"))
        parts.append(text(left - 8, up(value) + 4, tick_label(value, step), "end", "small"))
    for value in ticks(first, last, 12):
        if value == int(value):
            parts.append(text(across(value), top + tall + 16, str(int(value)), "middle", "small"))
    for number, curve in enumerate(plot.curves):
        path = " ".join(f"{across(place):.2f},{up(value):.2f}" for place, value, _ in curve.points)
        dashed = " dashed" if curve.dashed else ""
        parts.append(tag("polyline", points=path, class_=f"curve s-{curve.style}{dashed}"))
        wide = min(32.0, span / (last - first))
        for k, (place, value, tip) in enumerate(curve.points):
            x, y = across(place), up(value)
            inside = [
                tag("title", tip),
                tag("rect", x=x - wide / 2, y=y - 7, width=wide, height=14, class_="target"),
            ]
            if place in (curve.fixed, curve.chosen):
                inside.append(MARKERS[curve.style](x, y))
            hollow = " hollow" if place != curve.chosen else ""
            parts.append(
                tag(
                    "g", *inside, class_=f"hit mark s-{curve.style}{hollow}", tabindex=0, role="img",
                    data_row=number, data_column=k,
                )
            )  # fmt: skip
    parts.append(text(left + span / 2, top + tall + 34, plot.axis, "middle", "small"))
    return figure(left + span + 16, top + tall + 42, plot.alt, *parts)


def _curve_legend(curves: tuple[Curve, ...], left: float, right: float) -> tuple[list[Markup], float]:
    """Entries from left to right, in as many lines as they need; and the height they take."""
    parts, x, y = [], left, 16.0
    for curve in curves:
        wide = 31 + advance(curve.label) + 18
        if x > left and x + wide > right:
            x, y = left, y + 18
        dashed = " dashed" if curve.dashed else ""
        parts.append(
            tag("line", x1=x, x2=x + 24, y1=y - 4, y2=y - 4, class_=f"curve s-{curve.style}{dashed}")
        )
        marker = MARKERS[curve.style](x + 12, y - 4)
        parts.append(tag("g", marker, class_=f"mark s-{curve.style}"))
        parts.append(text(x + 31, y, curve.label, "start", "label"))
        x += wide
    return parts, y + 8


def draw(plot: Plot) -> Markup:
    """The plot as one ``<svg>`` element."""
    if isinstance(plot, Heat):
        return _heat(plot)
    if isinstance(plot, Curves):
        return _curves(plot)
    return _intervals(plot) if isinstance(plot, Intervals) else _bars(plot)
