"""How numbers are written: one place for signs, digits, p-values and verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from .outline import ALL, Outline
from .results import Estimate
from .secondary import Tested

__all__ = [
    "ABSENT",
    "VERDICTS",
    "basis",
    "bounds",
    "count",
    "describe",
    "duration",
    "families",
    "finite",
    "freedom",
    "interval",
    "margins",
    "meanings",
    "moderated",
    "number",
    "p_value",
    "points",
    "score",
    "size",
    "span",
    "test_note",
    "tiers",
    "typeset",
    "verdict",
]

ABSENT = "n/a"
_MINUS = "\N{MINUS SIGN}"

VERDICTS = {
    "different": "the adjusted p is below α, and the effect is not shown to be negligible",
    "equivalent": "the effect is smaller than the margin (two one-sided tests, not adjusted for their number)",
    "different-but-negligible": "not 0, but smaller than the margin",
    "inconclusive": "these seeds and examples could not tell; see the detectable effect",
}


def meanings(estimates: Iterable[Estimate]) -> tuple[tuple[str, str], ...]:
    """(verdict, what it means) of the verdicts that occur, with the margins of these estimates."""
    rows = list(estimates)
    used = {e.verdict for e in rows}
    return tuple(
        (verdict(v), meaning + (f": {margins(rows)}" if "margin" in meaning else ""))
        for v, meaning in VERDICTS.items()
        if v in used
    )


def margins(estimates: Iterable[Estimate]) -> str:
    """``±1 point for effects on one target, ±0.5 points for means over targets``: what equivalence was tested against."""
    found: dict[str, dict[float, None]] = {}
    for e in estimates:
        what = "means over targets" if e.target == ALL else "effects on one target"
        found.setdefault(what, {})[e.margin] = None
    said = {what: " or ".join(f"±{m:g}" for m in sorted(known)) for what, known in found.items()}
    order = [what for what in ("effects on one target", "means over targets") if what in said]
    return ", ".join(
        f"{said[what]} {'point' if said[what] == '±1' else 'points'} for {what}" for what in order
    )


def finite(*values: float | None) -> bool:
    return all(v is not None and math.isfinite(v) for v in values)


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """``-1.234`` as ``−1.23``; what is not a finite number as ``n/a``; never ``−0.00``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return (_MINUS if value < 0 else "+" if sign else "") + text


def points(value: float | None, digits: int = 2) -> str:
    """A difference in points, with its sign."""
    return number(value, digits, sign=True)


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    if not finite(low, high):
        return ABSENT
    return f"[{number(low, digits)}, {number(high, digits)}]"


def bounds(low: float | None, high: float | None) -> str:
    """An interval in points with one decimal; up to three where a bound that is not 0 would read as 0."""

    def bound(value: float) -> str:
        digits = next((d for d in (1, 2, 3) if round(abs(value), d) > 0), 1)
        return number(value, digits)

    if low is None or high is None or not finite(low, high):
        return ABSENT
    return f"[{bound(low)}, {bound(high)}]"


_HYPHENS = re.compile(r"(?<![^\s(\[])-(?=\.?\d)")


def typeset(words: str) -> str:
    """A sentence made for terminals (``-1.63``) with the minus signs that tables have."""
    return _HYPHENS.sub(_MINUS, words)


def p_value(p: float | None) -> str:
    """``.042``: without the leading zero, which a probability never needs; ``<.001`` below."""
    if p is None or not math.isfinite(p):
        return ABSENT
    return "<.001" if p < 0.001 else "1.000" if p >= 0.9995 else f"{p:.3f}"[1:]


def score(fraction: float | None) -> str:
    """A score in [0, 1] as points with one decimal."""
    return ABSENT if fraction is None else number(100 * fraction, 1)


def verdict(name: str) -> str:
    return name.replace("-", " ")


def span(values: Iterable[float | None], digits: int = 0) -> str:
    """``3`` or ``3 to 5``: the range of what is finite."""
    kept = [v for v in values if v is not None and math.isfinite(v)]
    if not kept:
        return ABSENT
    low, high = number(min(kept), digits), number(max(kept), digits)
    return low if low == high else f"{low} to {high}"


def duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


_CORRECTIONS = {"holm": "Holm", "bh": "Benjamini-Hochberg", "none": "none"}
_FREEDOMS = {"welch": "Welch-Satterthwaite", "pooled": "pooled (one run variance for all cells)"}


def correction(name: str) -> str:
    return _CORRECTIONS.get(name, name)


def families(estimates: Iterable[Estimate]) -> str:
    """``map: Benjamini-Hochberg over 36 tests``; contrasts are named where they differ (the placebo)."""
    found: dict[str, dict[str, list[str]]] = {}
    for e in estimates:
        how = (
            "uncorrected"
            if e.correction == "none"
            # a correction over one test corrects nothing, and is not to sound as if
            else "uncorrected (one test)"
            if e.family_size == 1
            else f"{correction(e.correction)} over {count(e.family_size, 'test')}"
        )
        contrasts = found.setdefault(e.family, {}).setdefault(how, [])
        if e.contrast not in contrasts:
            contrasts.append(e.contrast)
    return "; ".join(
        f"{family}: "
        + ", ".join(
            how + (f" ({', '.join(names)})" if len(kinds) > 1 else "") for how, names in kinds.items()
        )
        for family, kinds in found.items()
    )


def describe(outline: Outline, e: Estimate) -> str:
    """Everything that one estimate says, on one line: the text of a tooltip."""
    adjusted = ""
    if e.p_adjusted is not None and e.correction != "none":
        adjusted = (
            f", adjusted {p_value(e.p_adjusted)} ({correction(e.correction)}, {count(e.family_size, 'test')})"
        )
    shared = outline.overlaps.get((e.condition, e.target))
    return (
        f"{outline.cell(e.condition, e.target)} ({e.contrast}): {points(e.value)} points, "
        f"{outline.level} CI {interval(e.low, e.high)}; p = {p_value(e.p)}"
        + ("" if e.p_unmoderated is None else f" (moderated; unmoderated {p_value(e.p_unmoderated)})")
        + f"{adjusted}; {verdict(e.verdict)}; "
        f"detectable {number(e.mde)}; {e.tier}, {count(e.seeds, 'seed')}, df {number(e.df, 1)}"
        + ("" if e.status == "unregistered" else f"; {e.status}")
        + (f"; shared data: {'; '.join(shared)}" if shared else "")
    ).replace("p = <", "p < ")


def test_note(estimates: Iterable[Estimate], mde: bool = True) -> str:
    """The line under a table: tier, seeds, df, family, correction and margin of every p-value in it.

    ``mde``: whether the table has a column of minimum detectable effects.
    """
    rows = list(estimates)
    if not rows:
        return ""
    return (
        f"Values in points (100 × metric). {_test(rows, freedom(rows))}; family and correction: "
        f"{families(rows)}. "
        + ("Run variances of the map are moderated (empirical Bayes). " if moderated(rows) else "")
        + (
            "Two seeds carry no verdict: such rows are inconclusive whatever their p. "
            if _provisional(rows)
            else ""
        )
        + f"Equivalence: two one-sided tests, not adjusted, margin {margins(rows)}."
        + (" MDE: minimum detectable effect at 80 % power." if mde else "")
    )


def tiers(rows: Iterable[Estimate | Tested]) -> str:
    return ", ".join(sorted({e.tier for e in rows}))


def _test(rows: Sequence[Estimate | Tested], kind: str) -> str:
    return f"MWV-t, tier {tiers(rows)}; seeds {span(e.seeds for e in rows)}; {kind} df {span((e.df for e in rows), 1)}"


def basis(outline: Outline, rows: Iterable[Estimate | Tested]) -> str:
    """Test, tier, seeds and df of estimates without a family; the kind of df is the suite's."""
    asked = str(outline.suite.get("analysis", {}).get("df", "welch"))
    kind = freedom(outline.results.estimates) or _FREEDOMS.get(asked, asked)
    return _test(list(rows), kind)


def _provisional(rows: Iterable[Estimate]) -> bool:
    return any(e.provisional for e in rows)


def freedom(rows: Iterable[Estimate]) -> str:
    """The kinds of degrees of freedom behind the rows, in words."""
    return " or ".join(sorted({_FREEDOMS.get(e.df_method, e.df_method) for e in rows}))


def moderated(rows: Iterable[Estimate]) -> bool:
    return any(e.p_unmoderated is not None for e in rows)


def count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
