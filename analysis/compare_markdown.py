"""A comparison of two outcome folders as Markdown, every matched cell included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .compare import Difference, RecordComparison
from .comparisons import ALL
from .render import markdown_code, markdown_escape
from .wording import interval, number, p_value, points, verdict

__all__ = ["comparison_markdown"]

_GROUPS = (
    ("Effects", "effect", ("grand", "conditions", "targets")),
    ("Effects by cell of the map", "effect", ("map",)),
    ("Scores, means over targets", "score", ("means",)),
    ("Scores by target", "score", ("cells",)),
)


def comparison_markdown(found: RecordComparison) -> str:
    """The whole comparison; ends with a line break."""
    level = f"{100 * (1 - found.alpha):g} % CI"
    lines = ["# Comparison", ""]
    for side, folder, signature in zip("AB", found.folders, found.signatures, strict=True):
        lines += [f"- {side}: {markdown_code(folder)}, {markdown_code(signature)}"]
    lines += ["", "## What is not the same", ""]
    if found.changes:
        lines += _table(("", "A", "B"), ([c.what, c.a, c.b] for c in found.changes))
    else:
        lines += ["Signatures, versions and settings are equal."]
    if found.notes:
        lines += ["", *(f"- {markdown_escape(note)}" for note in found.notes)]
    for title, what, families in _GROUPS:
        rows = [d for d in found.differences if d.what == what and d.family in families]
        if rows:
            lines += ["", f"## {title}", "", _note(rows, level), ""]
            columns = (
                "pair",
                what,
                "condition",
                "target",
                "A",
                "B",
                "B - A",
                level,
                "p",
                "p adjusted",
                "verdict",
            )
            names = ("arm" if c == "score" else "contrast" if c == "effect" else c for c in columns)
            lines += _table(tuple(names), map(_row, rows))
    return "\n".join(lines) + "\n"


def _note(rows: Sequence[Difference], level: str) -> str:
    tiers = ", ".join(dict.fromkeys(d.tier for d in rows))
    margins = ", ".join(f"±{m:g}" for m in dict.fromkeys(d.margin for d in rows))
    corrections = dict.fromkeys(
        "Benjamini-Hochberg" if d.family in ("map", "cells") else "Holm" for d in rows
    )
    return (
        f"Points; {level} by MWV-t, tier {tiers}; p adjusted by {' and '.join(corrections)} within each family; "
        f"margin of equivalence {margins}. Exploratory."
    )


def _row(d: Difference) -> list[str]:
    sign = points if d.what == "effect" else number
    return [
        d.pair,
        d.name,
        "mean" if d.condition == ALL else d.condition,
        "mean" if d.target == ALL else d.target,
        sign(d.a),
        sign(d.b),
        points(d.value),
        interval(d.low, d.high),
        p_value(d.p),
        p_value(d.p_adjusted),
        "same runs" if d.same_runs else verdict(d.verdict),
    ]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return lines + ["| " + " | ".join(map(markdown_escape, row)) + " |" for row in rows]
