"""Tables for one column of a paper (7.7 cm): the companions of a number stand below it, what all rows share in the note."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .outline import Outline
from .secondary_tables import derived
from .tables import (
    ABSENT,
    MEAN,
    Block,
    Row,
    Table,
    Text,
    effects,
    figure,
    grand,
    row,
    text,
)

__all__ = ["derived_paper", "grand_paper", "means_paper"]


def _slim(outline: Outline, whole: Table) -> Table:
    """Of name, effect, interval, p, adjusted p, verdict and MDE, three go below their neighbours."""

    def narrow(r: Row) -> Row:
        name, effect, interval, p, adjusted, verdict, mde, *_ = r.cells
        label, _, role = name.text.partition(" (")
        said = [*([role.rstrip(")")] if role else []), *(["expl."] if r.exploratory else [])]
        return row(
            Text(label, f"[{', '.join(said)}]" if said else ""),
            Text(effect.text, interval.text, effect.strong),
            Text(p.text, f"[{adjusted.text}]" if adjusted.text != ABSENT else ""),
            Text(verdict.text.removeprefix("different but "), f"[MDE {mde.text}]"),
            exploratory=r.exploratory,
        )

    first, effect, *_ = whole.columns
    columns = (first, effect, *figure("p"), *text("Verdict"))
    slight = any("negligible" in cell.text for b in whole.blocks for r in b.rows for cell in r.cells)
    negligible = " Negligible: not 0, but smaller than the margin." if slight else ""
    note = f" In brackets: {outline.level} interval, adjusted p, MDE.{negligible}"
    blocks = tuple(Block(b.title, tuple(map(narrow, b.rows))) for b in whole.blocks)
    return Table(whole.name, whole.caption, columns, blocks, whole.note + note, slim=True)


def grand_paper(outline: Outline) -> Table:
    """The answers; df and seeds are in the note."""
    whole = grand(outline)

    def last(cells: tuple[Any, ...]) -> tuple[Any, ...]:
        """The verdict behind the p-values, as in the tables beside this one."""
        name, verdict, effect, interval, p, adjusted, *rest = cells
        return (name, effect, interval, p, adjusted, verdict, *rest)

    blocks = tuple(
        replace(b, rows=tuple(replace(r, cells=last(r.cells)) for r in b.rows)) for b in whole.blocks
    )
    return _slim(outline, replace(whole, columns=last(whole.columns), blocks=blocks))


def derived_paper(outline: Outline, role: str) -> Table:
    """``trend`` or ``placebo-difference``, for the mean and per condition."""
    return _slim(outline, derived(outline, role))


def means_paper(outline: Outline) -> Table:
    """What a column holds of the map of the primary contrasts: its margins, per target and per intermediate."""
    families = {e.family for e in outline.results.estimates} - {"map", "grand"}
    caption = "Effect per target (mean over intermediates) and per intermediate (mean over targets)"
    primary = {(p, c.name) for p in outline.pairs for c in outline.contrasts(p) if c.role == "primary"}
    mine = {key: e for key, e in outline.estimates.items() if key[:2] in primary}
    whole = effects(replace(outline, estimates=mine), families, "means", caption, fold=False)
    blocks = []
    for block in whole.blocks:
        kinds: dict[str, list[Row]] = {}
        for r in block.rows:
            condition, target, *numbers = r.cells
            mean = condition.text == MEAN
            kinds.setdefault("targets" if mean else "intermediates", []).append(
                Row((target if mean else condition, *numbers), r.rule, r.exploratory)
            )
        blocks += [
            Block(", ".join(filter(None, (block.title, kind))), tuple(rows)) for kind, rows in kinds.items()
        ]
    narrow = replace(whole, columns=(*text("Mean"), *whole.columns[2:]), blocks=tuple(blocks))
    return _slim(outline, narrow)
