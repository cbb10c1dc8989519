"""Tables of what stands beside the effects: other roads to the answer, derived contrasts, replicability, scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from . import wording as w
from .outline import ALL, Outline
from .results import Estimate
from .secondary import ITT, LogOdds, Tested
from .tables import (
    Block,
    Row,
    Table,
    Text,
    exploratory,
    figure,
    row,
    status,
    status_column,
    status_note,
    tagged,
    text,
    where,
)

__all__ = [
    "absent",
    "cell_languages",
    "derived",
    "replicability",
    "replication",
    "scale",
    "secondary",
]

_MANY = 4
"""Languages that are listed by code; more are counted."""
_FIRST = "this report"
_WHAT = {
    "without-collapsed": "no collapsed runs",
    "without-restarted": "no failed runs",
}
_LEFT_OUT = {"source": "no source", "untrained": "no controls"}


def _codes(languages: Sequence[str]) -> str:
    return ", ".join(languages) if len(languages) <= _MANY else w.count(len(languages), "language")


def secondary(outline: Outline, role: str = "") -> Table:
    """The grand effect by other roads: new languages (T3), failed runs treated otherwise, without a language family.

    ``role`` chooses the contrasts; all by default.
    """
    r, blocks = outline.results, []
    used: list[Estimate | Tested] = []
    flat = False
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            first = outline.estimates.get((pair, contrast.name, ALL, ALL))
            if first is None or role not in ("", contrast.role):
                continue
            mine = (pair, contrast.name)

            def view(name: str, sub: str, x: Estimate | Tested, first: Estimate = first) -> Row:
                used.append(x)
                told = _told(outline, x.p), _told(outline, first.p)
                same = told[0] == told[1] and (not any(told) or x.value * first.value > 0)
                said = (
                    "–" if name == _FIRST else "differs" if not same else "same" if any(told) else "also n.s."
                )
                return row(
                    Text(name, f"[{sub}]" if sub else ""),
                    Text(w.points(x.value), w.interval(x.low, x.high)),
                    Text(w.p_value(x.p), f"[df {w.number(x.df, 1)}]"),
                    Text(said, strong=said == "differs"),
                )

            rows = [view(_FIRST, f"tier {first.tier}", first)]
            t3 = outline.generalisation.get((pair, contrast.name, ALL, ALL))
            if t3 is not None:
                told = f"{t3.tier}, {w.count(t3.languages, 'language')}"
                rows.append(view("new languages", told, t3))
                flat = flat or math.isclose(t3.se, first.se)
            rows += [
                view(_WHAT.get(x.what, x.what), w.count(x.dropped, "run"), x)
                for x in r.sensitivity
                if (x.pair, x.contrast) == mine
            ]
            rows += [
                view(_LEFT_OUT.get(x.what) or f"no {x.family}", _codes(x.left_out), x)
                for x in r.leave_out
                if (x.pair, x.contrast) == mine
            ]
            if len(rows) > 1:
                blocks.append(Block(where(outline, pair, tagged(*_named(contrast))), tuple(rows)))
    left = {x.what for x in r.leave_out}
    itt = any(x.what == ITT for x in r.sensitivity)
    return Table(
        "secondary",
        "The same effect by other roads: for new languages, with failed runs treated otherwise, without some of the "
        "languages",
        (*text("View"), *figure("Effect", "p"), *text("Conclusion")),
        tuple(blocks),
        f"Points with {outline.level} intervals; mean over intermediates and targets. {w.basis(outline, used)}; p not "
        "adjusted."
        + (" Source: the language of training." if "source" in left else "")
        + (" Controls: languages that pre-training did not cover." if "untrained" in left else "")
        + f" Conclusion: the same where both are significant at {outline.alpha:g} with one sign; also n.s. where neither "
        "is, which confirms nothing. Languages of one family are no independent evidence."
        + (" Where the variance between languages was estimated as 0, tier T3 is T2." if flat else "")
        + (" Intention-to-treat: target stages that were restarted score the best baseline." if itt else ""),
        slim=True,
    )


def _named(contrast) -> tuple[str, str]:
    return contrast.name, contrast.role


def _told(outline: Outline, p: float | None) -> bool:
    return p is not None and p < outline.alpha


def absent(outline: Outline) -> tuple[str, ...]:
    """A sentence for each view that this design cannot give."""
    found: dict[tuple[str, str], list[str]] = {}
    for x in outline.results.absent:
        named = f"{x.pair}, {x.contrast}" if outline.several else x.contrast
        found.setdefault((_WHAT.get(x.view, x.view), x.reason), []).append(named)
    return tuple(
        f"Not given: {view} ({', '.join(names)}): {reason}." for (view, reason), names in found.items()
    )


def derived(outline: Outline, role: str) -> Table:
    """``trend`` or ``placebo-difference``: contrasts made from others, for the mean and per condition."""
    blocks, used = [], []
    for pair in outline.pairs:
        names = dict.fromkeys(e.contrast for e in outline.results.further if (e.pair, e.role) == (pair, role))
        for name in names:
            found = [
                e
                for c in (ALL, *outline.conditions)
                if (e := outline.further.get((pair, name, c, ALL))) is not None
            ]
            used += found
            rows = tuple(
                row(
                    "mean" if e.condition == ALL else e.condition,
                    Text(w.points(e.value), strong=e.verdict.startswith("different")),
                    w.interval(e.low, e.high),
                    w.p_value(e.p),
                    w.p_value(e.p_adjusted),
                    Text(w.verdict(e.verdict), tone=e.verdict),
                    w.number(e.mde),
                    *status(outline, e),
                    w.number(e.df, 1),
                    exploratory=exploratory(e),
                )
                for e in found
            )
            blocks.append(Block(where(outline, pair, name), rows))
    trend = role == "trend"
    return Table(
        "trend" if trend else "placebo_difference",
        "Dose: slope of the gains over the ladder of arms, points per step"
        if trend
        else "The primary arm against the placebo arm: what training on true pairs adds over training on scrambled ones",
        (
            *text("Intermediate"),
            *figure("Per step" if trend else "Effect", f"{outline.level} CI", "p", "adj. p"),
            *text("Verdict"),
            *figure("MDE"),
            *status_column(outline),
            *figure("df"),
        ),
        tuple(blocks),
        w.test_note(used) + status_note(used),
    )


def replicability(outline: Outline) -> Table:
    """In how many targets there is an effect, per condition."""
    blocks = []
    tested = [
        e for e in outline.results.estimates if e.pair in outline.pairs and e.family in ("targets", "map")
    ]
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            mine = {
                x.condition: x
                for x in outline.results.replicability
                if (x.pair, x.contrast) == (pair, contrast.name)
            }
            rows = [
                row(
                    "mean" if c == ALL else c,
                    Text(f"{x.count} of {x.targets}", strong=x.count > 0),
                    str(x.positive) if x.count else "–",
                    w.p_value(x.p[0] if x.p else None),
                    w.p_value(x.p[-1] if x.p else None),
                )
                for c in (ALL, *outline.conditions)
                if (x := mine.get(c)) is not None
            ]
            blocks.append(Block(where(outline, pair, tagged(*_named(contrast))), tuple(rows)))
    return Table(
        "replicability",
        "In how many targets is there an effect? Partial conjunctions per intermediate condition",
        (*text("Intermediate"), *figure("Targets", "Above 0", "p (any)", "p (all)")),
        tuple(blocks),
        'Targets: the largest u for which "an effect in at least u targets" holds at '
        f"{outline.alpha:g} (Bonferroni combination, valid for targets that share checkpoints); above 0: how many of "
        "these effects are positive; p: of an effect in any target, in all, from the unadjusted p-values of the cells "
        f"({w.basis(outline, tested)}); not adjusted for the number of intermediates.",
        slim=True,
    )


def replication(outline: Outline) -> Table:
    """One contrast over pairs; empty where there is one pair."""
    rows, used = [], []
    known = {**outline.estimates, **outline.further}
    for x in outline.results.replication:
        places = ((pair, x.contrast, x.condition, ALL) for pair in x.pairs)
        used += [known[place] for place in places if place in known]
        values = "; ".join(f"{pair} {w.points(v)}" for pair, v in zip(x.pairs, x.values, strict=True))
        rows.append(
            row(
                tagged(x.contrast, x.role),
                "mean" if x.condition == ALL else x.condition,
                values,
                w.p_value(x.p),
                "yes" if x.agree else "no",
                Text("yes" if x.shown else "no", strong=x.shown),
            )
        )
    return Table(
        "replication",
        "Does it hold in every pair of encoders?",
        (*text("Contrast", "Intermediate", "Effects"), *figure("p (largest)"), *text("Same sign", "Shown")),
        (Block("", tuple(rows)),),
        f"Points. {w.basis(outline, used)}. p: the largest over the pairs, of conditions after Holm within each pair. "
        f"Shown: every pair has an effect of the same sign, and that p is below {outline.alpha:g}.",
    )


def _places(found: Iterable[Estimate]) -> list[tuple[Estimate, LogOdds]]:
    """Means, and cells whose conclusion hangs on the scale; each with its log-odds."""
    return [(e, o) for e in found if (o := e.logit) and (ALL in (e.condition, e.target) or e.scale_dependent)]


def scale(outline: Outline) -> Table:
    """The effects in other units: log-odds, run SDs, probability of superiority."""
    blocks, used = [], []
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            cells = (
                outline.estimates.get((pair, contrast.name, c, t))
                for c in (ALL, *outline.conditions)
                for t in (ALL, *outline.targets)
            )
            found = _places(e for e in cells if e is not None)
            used += [o for e, o in found]
            rows = [
                row(
                    "mean" if e.condition == ALL else e.condition,
                    "mean" if e.target == ALL else outline.task(e.target),
                    w.points(e.value),
                    *(w.points(o.value, 3), w.interval(o.low, o.high, 3), w.p_value(o.p), w.number(o.df, 1)),
                    Text("yes" if e.scale_dependent else "no", strong=e.scale_dependent),
                    w.points(e.standardised),
                    w.number(e.superiority),
                    exploratory=exploratory(e),
                )
                for e, o in found
            ]
            blocks.append(Block(where(outline, pair, tagged(*_named(contrast))), tuple(rows)))
    return Table(
        "scale",
        "The effects in other units: log-odds, SDs of a run, probability of superiority",
        (
            *text("Intermediate", "Target"),
            *figure("Points", "Log-odds", f"{outline.level} CI", "p", "df"),
            *text("Depends on scale"),
            *figure("Run SDs", "Superiority"),
        ),
        tuple(blocks),
        "All means, and the cells whose sign or significance (not adjusted) differs between points and log-odds. p: of the "
        f"log-odds, not adjusted ({w.basis(outline, used)}{', moderated in the map' if outline.results.priors else ''}). "
        "Superiority: probability that a run of the first arm gains more than a run of the second.",
        fold=True,
    )


def cell_languages(outline: Outline) -> Table:
    """Languages within the cells of the map that were found."""
    groups: dict[str, list[Row]] = {}
    used = [x for x in outline.results.cell_languages if x.pair in outline.pairs]
    for x in used:
        place = where(outline, x.pair, tagged(x.contrast, x.role), outline.cell(x.condition, x.target))
        groups.setdefault(place, []).append(
            row(
                f"{x.name} ({x.language})" if x.name != x.language else x.language,
                w.points(x.value),
                w.interval(x.low, x.high),
                w.p_value(x.p),
                w.p_value(x.p_adjusted),
                w.number(x.df, 1),
            )
        )
    return Table(
        "cell_languages",
        "Languages within the cells that were found (exploratory)",
        (*text("Language"), *figure("Effect", f"{outline.level} CI", "p", "adj. p", "df")),
        tuple(Block(title, tuple(rows)) for title, rows in groups.items()),
        f"Points. {w.basis(outline, used)}; adj. p: Benjamini-Hochberg over the languages of the cell, times cells tested "
        "/ cells found.",
        fold=True,
    )
