"""What a figure shows, as data: one description, drawn twice (`svg` for the page, `figures` for papers)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Bars", "Cell", "Curve", "Curves", "Figure", "Heat", "Intervals", "Line", "Mark", "Plot"]


@dataclass(frozen=True)
class Cell:
    """One square of the map. ``tone`` is value / limit in [-1, 1]."""

    text: str
    tip: str
    tone: float
    verdict: str
    """A :data:`~.results.Verdict`, or empty for a cell without an estimate."""
    italic: bool = False
    """An exploratory estimate, where a design was registered."""


@dataclass(frozen=True)
class Heat:
    """The map of effects: conditions in rows, targets in columns."""

    heading: str
    alt: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    limit: float
    """Points at the ends of the colour scale; shared by the maps of a pair."""
    plus: str
    minus: str
    mean_row: bool
    """Whether the last row is the mean over conditions."""
    mean_column: bool


@dataclass(frozen=True)
class Mark:
    """A point with its interval. ``start`` is where a change begins (retention)."""

    series: int
    value: float
    low: float | None
    high: float | None
    tip: str
    hollow: bool = False
    start: float | None = None


@dataclass(frozen=True)
class Line:
    """One row of an interval plot; a heading has no marks."""

    label: str
    marks: tuple[Mark, ...] = ()
    heading: bool = False


@dataclass(frozen=True)
class Intervals:
    """Points with intervals on one axis, one line a row."""

    heading: str
    alt: str
    axis: str
    series: tuple[str, ...]
    styles: tuple[str, ...]
    """A style name per series: see ``svg.MARKERS``."""
    lines: tuple[Line, ...]
    reference: float | None = 0.0
    reference_label: str = ""
    band: float | None = None
    """Half-width of the equivalence margin, drawn around 0."""
    narrow: bool = False
    """Drawn for a phone: where what stands at the right end must not be scrolled out of sight."""


@dataclass(frozen=True)
class Bars:
    """Shares that sum to 1, one stacked bar per row."""

    heading: str
    alt: str
    parts: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...], str], ...]
    """Label, shares in the order of ``parts``, tooltip."""


@dataclass(frozen=True)
class Curve:
    """One line over whole-numbered places (layers, numbers of seeds)."""

    label: str
    style: str
    """See ``svg.MARKERS``."""
    dashed: bool
    points: tuple[tuple[int, float, str], ...]
    """Place, value, tooltip; places ascend."""
    fixed: int | None = None
    """The place with an open marker; None where it is off the line."""
    chosen: int | None = None
    """The place with a filled marker."""


@dataclass(frozen=True)
class Curves:
    """Lines over whole-numbered places."""

    heading: str
    alt: str
    axis: str
    value_axis: str
    curves: tuple[Curve, ...]
    base: float | None = None
    """A value that the axis is to show; None: the lines fill the height."""


Plot = Heat | Intervals | Bars | Curves


@dataclass(frozen=True)
class Figure:
    """Plots that belong together: a ``<figure>`` of the page and a file of ``figures/``."""

    name: str
    """``effect_map``, ``dose``, ``forest_languages``, ``gains``, ``layers``, ``retention``, ``variance`` or ``power``."""
    file: str
    """File stem: the name, and the pair where there are several."""
    pair: str
    caption: str
    plots: tuple[Plot, ...]
