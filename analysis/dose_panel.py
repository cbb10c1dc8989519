"""Dose: the gains along a ladder of arms, the least dose first, and the slope over it."""

from __future__ import annotations

from . import wording as w
from .outline import ALL, Outline
from .plots import Intervals, Line, Mark, Plot

__all__ = ["dose_panel", "ladder"]


def ladder(outline: Outline, pair: str) -> tuple[str, ...]:
    """Arms by dose; empty where the suite names no ladder."""
    about = next((p for p in outline.suite.get("pairs", ()) if p["name"] == pair), {})
    known = {arm for p, arm, _, _ in outline.gains if p == pair}
    return tuple(arm for arm in about.get("ladder", ()) if arm in known)


def dose_panel(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    """Caption and two plots: the gain of each step, and the slope per condition."""
    steps = ladder(outline, pair)
    trends = [e for e in outline.results.further if (e.pair, e.role) == (pair, "trend") and w.finite(e.value)]
    if len(steps) < 2 or not trends:
        return "", []
    lines = []
    for number, arm in enumerate(steps):
        g = outline.gains.get((pair, arm, ALL, ALL))
        if g is not None and w.finite(g.value):
            tip = (
                f"Step {number}, {arm}: gain {w.points(g.value)} points, {outline.level} CI "
                f"{w.interval(g.low, g.high)}; {w.count(g.seeds, 'seed')}"
            )
            lines.append(Line(f"{number}: {arm}", (Mark(0, g.value, g.low, g.high, tip),)))
    if len(lines) < 2:
        return "", []
    said = "; ".join(f"{line.label} {w.points(line.marks[0].value)}" for line in lines)
    gains = Intervals(
        "Gain by step",
        f"Gain along the ladder of arms: {said} points.",
        "gain, points",
        ("",),
        ("vision",),
        tuple(lines),
    )
    order = {c: i for i, c in enumerate((ALL, *outline.conditions))}
    slopes = [
        Line(
            outline.condition(e.condition),
            (Mark(0, e.value, e.low, e.high, w.describe(outline, e), hollow=e.status == "exploratory"),),
        )
        for e in sorted(trends, key=lambda e: order.get(e.condition, len(order)))
    ]
    apart = any(e.status == "exploratory" for e in trends)
    first = trends[0]
    slope = Intervals(
        "Slope by intermediate",
        f"Slope of the gains, points per step: {outline.condition(first.condition)} {w.points(first.value)} "
        f"{w.interval(first.low, first.high)}. All values are in the table below.",
        "points per step: right, a higher dose gains more",
        ("",),
        ("primary",),
        tuple(slopes),
    )
    caption = (
        f"Dose: arms from the least to the most ({' < '.join(steps)}), one ancestor and one schedule, with "
        f"{outline.level} intervals: the gain of each arm (mean over intermediates and targets), and the slope of the gains "
        "(mean over targets). The slope is linear in the step, whatever the true doses."
        + (" Open markers: exploratory." if apart else "")
    )
    return caption, [gains, slope]
