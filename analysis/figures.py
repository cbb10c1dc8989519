"""Plots as PDF and SVG files for papers, by matplotlib: TrueType fonts, the same bytes at every build."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import wording as w
from .plots import Bars, Curves, Figure, Heat, Intervals, Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

__all__ = ["write_figures"]

# Okabe & Ito (2008), distinguishable with every common colour vision
_STYLES: dict[str, tuple[str, str]] = {
    "primary": ("#111111", "o"),
    "vision": ("#0072B2", "o"),
    "placebo": ("#8a8a8a", "^"),
    "scrambled": ("#B0568F", "^"),
    "text": ("#4d4d4d", "s"),
    "distilled": ("#00795C", "D"),
    "other": ("#B34A00", "v"),
    "further": ("#8A6D00", "X"),
}
_PARTS = ("#3f6f9f", "#d9b36c", "#7aa37a", "#b58fb5")
_PLUS, _MINUS = "#0072B2", "#D55E00"

_SETTINGS: dict[RcKeyType, Any] = {
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    # ids of clip paths and markers come from this salt instead of a random number
    "svg.hashsalt": "xtremex",
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "text.parse_math": False,
}


_WIDTH = 4.6
_TALLEST = 13.0
"""Inches: scaled to a column of 7.7 cm, a page of 24.7 cm holds that and a caption of three lines."""


def _size(plot: Plot) -> tuple[float, float]:
    """Inches that the plot wants."""
    if isinstance(plot, Heat):
        return 1.3 + 0.72 * len(plot.columns), 0.85 + 0.36 * len(plot.rows)
    if isinstance(plot, Intervals):
        dodge = max((len(line.marks) for line in plot.lines), default=1)
        return _WIDTH, min(_TALLEST, 0.9 + len(plot.lines) * (0.15 + 0.065 * dodge))
    if isinstance(plot, Curves):
        return _WIDTH, 2.5 + 0.13 * ((len(plot.curves) - 1) // 2)
    return _WIDTH, 0.7 + 0.19 * len(plot.rows)


def _heat(axes: Axes, plot: Heat) -> None:
    from matplotlib.patches import Rectangle

    gap = 0.12
    for i, cells in enumerate(plot.cells):
        y = i + (gap if plot.mean_row and i == len(plot.rows) - 1 else 0)
        for j, cell in enumerate(cells):
            x = j + (gap if plot.mean_column and j == len(plot.columns) - 1 else 0)
            place = (x - 0.48, y - 0.46)
            axes.add_patch(Rectangle(place, 0.96, 0.92, facecolor="#f2f2f0", linewidth=0))
            if cell.verdict:
                colour = _PLUS if cell.tone > 0 else _MINUS
                alpha = min(1.0, abs(cell.tone)) * 0.72
                axes.add_patch(Rectangle(place, 0.96, 0.92, facecolor=colour, alpha=alpha, linewidth=0))
            told = cell.verdict.startswith("different")
            if told:
                dashes = "solid" if cell.verdict == "different" else (0, (3, 2))
                axes.add_patch(
                    Rectangle(
                        place, 0.96, 0.92, fill=False, edgecolor="black", linewidth=1.0, linestyle=dashes
                    )
                )
            mark = "≈ " if cell.verdict == "equivalent" else ""
            axes.text(
                x, y, mark + cell.text, ha="center", va="center", weight="bold" if told else "normal",
                style="italic" if cell.italic else "normal",
            )  # fmt: skip
    axes.set_xlim(-0.6, len(plot.columns) - 0.4 + gap * plot.mean_column)
    axes.set_ylim(len(plot.rows) - 0.4 + gap * plot.mean_row, -0.6)
    shift = [gap if plot.mean_column and j == len(plot.columns) - 1 else 0 for j in range(len(plot.columns))]
    axes.set_xticks(
        [j + shift[j] for j in range(len(plot.columns))],
        [
            name.replace("-", "-\n", 1) if len(name) > 11 else name.replace(" ", "\n", 1)
            for name in plot.columns
        ],
    )
    drop = [gap if plot.mean_row and i == len(plot.rows) - 1 else 0 for i in range(len(plot.rows))]
    axes.set_yticks([i + drop[i] for i in range(len(plot.rows))], list(plot.rows))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    scale = f"blue: {plot.plus} gains more; orange: {plot.minus} gains more; full colour at ±{plot.limit:.1f}"
    verdicts = {cell.verdict for cells in plot.cells for cell in cells}
    said = {
        "different": "framed, bold: different after correction",
        "different-but-negligible": "dashed: different, but negligible",
        "equivalent": "≈: equivalent",
    }
    scale += "".join(f"\n{words}" for verdict, words in said.items() if verdict in verdicts)
    if any(cell.italic for cells in plot.cells for cell in cells):
        scale += "\nitalics: exploratory"
    axes.set_xlabel(scale, fontsize=6.5)
    axes.set_title(plot.heading, loc="left", fontsize=8, weight="bold", pad=10)


def _intervals(axes: Axes, plot: Intervals) -> None:
    y, places, names, heads = 0.0, [], [], []
    for line in plot.lines:
        if line.heading:
            y += 0.35
            heads.append((y, line.label))
            y += 1
            continue
        series = sorted({mark.series for mark in line.marks})
        tall = max(1.0, 0.45 * len(series) + 0.35)
        y += (tall - 1) / 2
        for mark in line.marks:
            colour, shape = _STYLES[plot.styles[mark.series]]
            at = y + 0.45 * (series.index(mark.series) - (len(series) - 1) / 2)
            if mark.start is not None and mark.start != mark.value:
                axes.plot([mark.start, mark.value], [at, at], color=colour, linewidth=0.8, linestyle=":")
            if w.finite(mark.low, mark.high) and mark.low is not None and mark.high is not None:
                axes.plot([mark.low, mark.high], [at, at], color=colour, linewidth=0.9, solid_capstyle="butt")
            face = "white" if mark.hollow else colour
            axes.plot(
                [mark.value],
                [at],
                shape,
                color=colour,
                markersize=3.6,
                markerfacecolor=face,
                markeredgewidth=0.9,
            )
        places.append(y)
        names.append(line.label)
        y += 1 + (tall - 1) / 2
    axes.set_ylim(y - 0.4, -0.9)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    # inside: beside the axes, a long one would take their room
    for place, label in heads:
        axes.text(
            0.01, place, label, transform=axes.get_yaxis_transform(), va="center", weight="bold", zorder=3,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
        )  # fmt: skip
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color="#e2e2e2", linewidth=0.5)
    axes.set_axisbelow(True)
    if plot.reference is not None:
        axes.axvline(plot.reference, color="#333333", linewidth=0.8)
        if plot.reference_label:
            axes.text(plot.reference, -0.75, f" {plot.reference_label}", fontsize=6.5, va="center")
    axes.set_xlabel(plot.axis)
    if plot.heading:
        axes.set_title(plot.heading, loc="left", fontsize=8, weight="bold")
    if plot.series != ("",):
        entries = [(name, *_STYLES[style]) for name, style in zip(plot.series, plot.styles, strict=True)]
        _legend(axes, entries, max(map(len, names), default=0))


def _bars(axes: Axes, plot: Bars) -> None:
    for i, (_, shares, _) in enumerate(plot.rows):
        left = 0.0
        for k, share in enumerate(shares):
            axes.barh(i, share, left=left, color=_PARTS[k % len(_PARTS)], height=0.7)
            if share >= 0.12:
                colour = "white" if k % len(_PARTS) == 0 else "black"
                axes.text(
                    left + share / 2,
                    i,
                    f"{100 * share:.0f} %",
                    ha="center",
                    va="center",
                    fontsize=6.5,
                    color=colour,
                )
            left += share
    axes.set_ylim(len(plot.rows) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_yticks(range(len(plot.rows)), [label for label, _, _ in plot.rows])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_title(plot.heading, loc="left", fontsize=8, weight="bold", pad=16)
    entries = [(part, _PARTS[k % len(_PARTS)], "s") for k, part in enumerate(plot.parts)]
    _legend(axes, entries, max((len(label) for label, _, _ in plot.rows), default=0))


def _curves(axes: Axes, plot: Curves) -> None:
    from matplotlib.ticker import MaxNLocator

    for curve in plot.curves:
        colour, shape = _STYLES[curve.style]
        places = [place for place, _, _ in curve.points]
        values = [value for _, value, _ in curve.points]
        dashes = (0, (4, 2)) if curve.dashed else "solid"
        axes.plot(places, values, color=colour, linewidth=1.1, linestyle=dashes, label=curve.label)
        for place, face in ((curve.fixed, "white"), (curve.chosen, colour)):
            if place in places:
                axes.plot(
                    [place], [values[places.index(place)]], shape, color=colour, markersize=4,
                    markerfacecolor=face, markeredgewidth=0.9,
                )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if plot.base is not None:
        axes.set_ylim(bottom=plot.base)
    axes.grid(axis="y", color="#e2e2e2", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(plot.axis)
    axes.set_ylabel(plot.value_axis)
    axes.set_title(
        plot.heading, loc="left", fontsize=8, weight="bold", pad=6 + 10 * ((len(plot.curves) + 1) // 2)
    )
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, handlelength=2.4, columnspacing=1.2,
        borderaxespad=0.1, labelspacing=0.2,
    )  # fmt: skip


def _legend(axes: Axes, entries: Sequence[tuple[str, str, str]], beside: int) -> None:
    """Above the axes, whose labels on the left take ``beside`` characters."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=colour, marker=shape, linestyle="", markersize=4, label=name)
        for name, colour, shape in entries
    ]
    # a legend wider than what the labels leave of the figure is cut at its edge
    room = min(56, 76 - beside)
    columns = len(entries) if sum(len(name) + 4 for name, _, _ in entries) <= room else 2
    if 2 * (max(len(name) for name, _, _ in entries) + 4) > room:
        columns = 1
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False,
        handletextpad=0.2, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def write_figures(wanted: Sequence[Figure], folder: Path) -> list[Path]:
    """Write every figure as ``<file>.pdf`` and ``<file>.svg`` into ``folder`` and return the paths.

    Canvases are made directly and the settings hold inside a context: neither pyplot nor any global state of
    matplotlib is touched, so a caller's own style and open figures stay as they are.
    """
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    written = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        for item in wanted:
            sizes = [_size(plot) for plot in item.plots]
            canvas = Canvas(
                figsize=(max(width for width, _ in sizes), sum(height for _, height in sizes)),
                layout="constrained",
            )
            grid = canvas.subplots(
                len(sizes), 1, squeeze=False, height_ratios=[height for _, height in sizes]
            )
            for axes, plot in zip(grid[:, 0], item.plots, strict=True):
                if isinstance(plot, Heat):
                    _heat(axes, plot)
                elif isinstance(plot, Intervals):
                    _intervals(axes, plot)
                elif isinstance(plot, Curves):
                    _curves(axes, plot)
                else:
                    _bars(axes, plot)
            for kind, metadata in (("pdf", {"CreationDate": None}), ("svg", {"Date": None})):
                path = folder / f"{item.file}.{kind}"
                canvas.savefig(path, format=kind, metadata=metadata)
                written.append(path)
    return written
