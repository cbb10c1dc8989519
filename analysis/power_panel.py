"""What more seeds would buy: the detectable effect by number of seeds, as lines and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from . import wording as w
from .outline import ALL, Outline
from .outlook import NOTHING
from .plots import Curve, Curves, Plot
from .projection import Projected, floor, project
from .results import Estimate
from .tables import Block, Row, Table, Text, figure, row, text, where

__all__ = ["power", "power_panel"]

_STYLES = ("primary", "vision", "further", "distilled")
_LISTED = (3, 5, 10, 20)


def _middle(found: Sequence[Estimate]) -> Estimate | None:
    """The one with the median detectable effect (the larger of two), among those that can be projected."""
    able = sorted(
        (e for e in found if project(e) and w.finite(e.mde)), key=lambda e: (e.mde, e.condition, e.target)
    )
    return able[len(able) // 2] if able else None


def _kinds(outline: Outline, pair: str) -> list[tuple[str, Estimate]]:
    """The grand effect, and a typical one of each kind of the first contrast."""
    contrasts = outline.contrasts(pair)
    if not contrasts:
        return []
    mine = {(c, t): e for (p, k, c, t), e in outline.estimates.items() if (p, k) == (pair, contrasts[0].name)}
    kinds = (
        ("mean over all", [e for key, e in mine.items() if key == (ALL, ALL)]),
        ("one intermediate", [e for (c, t), e in mine.items() if c != ALL and t == ALL]),
        ("one target", [e for (c, t), e in mine.items() if c == ALL and t != ALL]),
        ("one cell", [e for (c, t), e in mine.items() if ALL not in (c, t)]),
    )
    return [(name, e) for name, found in kinds if (e := _middle(found)) is not None]


def power_panel(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    """Caption and plot; no plot where nothing has run variance."""
    kinds = _kinds(outline, pair)
    if not kinds:
        return "", []
    curves = []
    for (name, e), style in zip(kinds, _STYLES, strict=False):
        points = tuple((x.seeds, x.mde, _tip(outline, name, e, x)) for x in project(e, alpha=outline.alpha))
        curves.append(Curve(name, style, False, points, chosen=e.seeds))
    contrast = outline.contrasts(pair)[0].name
    first = [f"{name} {w.number(e.mde)}" for name, e in kinds]
    alt = (
        f"Detectable effect of {contrast} by number of seeds, at the seeds of this suite "
        f"{'; '.join(first)} points. Values are in the table below."
    )
    caption = (
        f"What more seeds would buy: the smallest effect of {contrast} found with 80 % power, by seeds per cell; filled "
        "markers: this suite. Projected from the estimated variances, which are uncertain themselves; the part of the "
        "shared test examples does not fall with seeds. Of several effects of a kind, the one with the median."
    )
    return caption, [Curves("", alt, "seeds per cell", "detectable effect, points", tuple(curves), base=0.0)]


def _tip(outline: Outline, name: str, e: Estimate, x: Projected) -> str:
    place = "" if (e.condition, e.target) == (ALL, ALL) else f" ({outline.cell(e.condition, e.target)})"
    return (
        f"{name}{place}: with {w.count(x.seeds, 'seed')} detectable {w.number(x.mde)} points, standard error "
        f"{w.number(x.se)}" + ("; this suite" if x.estimated else "")
    )


def power(outline: Outline) -> Table:
    """Detectable effects at a few numbers of seeds; the suite's own is bold."""
    own = {e.seeds for pair in outline.pairs for _, e in _kinds(outline, pair)}
    columns = sorted({*_LISTED, *own})
    blocks, unknown = [], []
    for pair in outline.pairs:
        rows: list[Row] = []
        for name, e in _kinds(outline, pair):
            values = {x.seeds: x for x in project(e, columns, outline.alpha)}
            cells = [Text(w.number(values[n].mde), strong=values[n].estimated) for n in columns]
            least = floor(e, outline.alpha)
            unknown += [name] if least is not None and least < NOTHING else []
            rows.append(row(name, *cells, w.ABSENT if name in unknown else w.number(least)))
        contrasts = outline.contrasts(pair)
        blocks.append(Block(where(outline, pair, contrasts[0].name if contrasts else ""), tuple(rows)))
    return Table(
        "power",
        "Detectable effect by seeds per cell, points",
        (*text("Effect"), *figure(*map(str, columns), "many")),
        tuple(blocks),
        "Points, 80 % power, not corrected for families. Bold: this suite's seeds. Many: what the shared test examples "
        "alone hide, whatever the seeds"
        + (
            f"; {w.ABSENT}: their part of the variance is estimated to be about 0 (at tier T1 left out)"
            if unknown
            else ""
        )
        + ". Of several effects of a kind, the one with the median.",
        slim=True,
    )
