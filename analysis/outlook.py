"""What would change the answer: a sentence or two for every primary contrast, from the numbers of its own estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from . import wording as w
from .equivalence import smallest_margin
from .outline import Outline
from .projection import floor, project, seeds_for_equivalence
from .results import FEWEST_FOR_A_VERDICT, Estimate

__all__ = ["NOTHING", "outlook"]

NOTHING = 0.005
"""Points below which a detectable effect would print as 0.00."""

_VARIED = {
    "T1": (("new seeds",), ("test examples", "languages")),
    "T2": (("new seeds", "new test examples"), ("languages",)),
    "T3": (("new seeds", "new test examples", "new languages"), ()),
}
"""Tier -> what the test allows for, and what it takes as it is beside pre-training, tasks and pairs."""


def outlook(outline: Outline) -> str:
    """Empty without a primary contrast, and where nothing varied."""
    grand = [a.estimate for a in outline.results.answers if a.estimate is not None and a.role == "primary"]
    pairs, contrasts = {e.pair for e in grand}, {e.contrast for e in grand}
    told = []
    for e in grand:
        named = [*([e.pair] if len(pairs) > 1 else []), *([e.contrast] if len(contrasts) > 1 else [])]
        where = f" ({', '.join(named)})" if named else ""
        said = _change(outline, e, len(pairs))
        told += [f"What would change it{where}: {said}"] if said else []
    return " ".join(told)


def _change(outline: Outline, e: Estimate, pairs: int) -> str:
    """What stands in the way of a verdict, or what the verdict rests on."""
    if e.tier == "T0":
        return (
            "more seeds. One seed says nothing of training the arms again; from "
            f"{FEWEST_FOR_A_VERDICT} in every cell on, runs carry a verdict about that."
        )
    if not (w.finite(e.se, e.df) and e.se > 0 and e.df > 0):
        return ""
    ahead = _ahead(outline, e)
    if e.provisional:
        return f"a third seed. Two leave each cell's run variance one degree of freedom, which carries no verdict.{ahead}"
    if e.verdict == "inconclusive":
        return _parts(e) + ahead
    return _overturned(outline, e, pairs)


def _ahead(outline: Outline, e: Estimate) -> str:
    """What more seeds could see; empty where that cannot be projected."""
    more = 10 if e.seeds < 10 else 2 * e.seeds
    ahead = {x.seeds: x for x in project(e, (more,), outline.alpha)}
    least = floor(e, outline.alpha)
    if more not in ahead or least is None:
        return ""
    limit = f"; below {w.number(least)} only more test examples help" if least >= NOTHING else ""
    count = seeds_for_equivalence(e, outline.alpha)
    none = (
        ""
        if count is None
        else f" To show that there is none beyond ±{w.number(e.margin)} takes about {count}."
    )
    return (
        f" With {more} seeds instead of {e.seeds} this design could see effects of {w.number(ahead[more].mde)} "
        f"points instead of {w.number(ahead[e.seeds].mde)}{limit}.{none}"
    )


def _parts(e: Estimate) -> str:
    """Where the variance comes from."""
    shares = {name: 100 * v for name, v in e.variance_shares.items() if w.finite(v)}
    run = shares.get("run", 0.0)
    if e.tier == "T3":
        return (
            f"more of what varies. {run:.0f} % of the variance comes from training runs, "
            f"{shares.get('examples', 0.0):.0f} % from test examples and {shares.get('languages', 0.0):.0f} % from the "
            f"choice of {w.count(e.languages, 'language')}; more of each lowers its own part only."
        )
    if e.tier == "T1":
        return "more seeds. At tier T1 all of the variance comes from training runs."
    if run <= 0:
        return "more test examples. None of the variance comes from training runs, so that more seeds would not lower it."
    return f"{run:.0f} % of the variance of the effect's estimate comes from training runs and the rest from test examples."


def _overturned(outline: Outline, e: Estimate, pairs: int) -> str:
    """What a verdict that is no longer open rests on."""
    varied, kept = _VARIED.get(e.tier, ((), ()))
    fixed = ("the pre-training and grounding of the arms", "the target tasks", *kept)
    margin = ""
    if e.verdict != "different":
        # rounded down: at the printed margin it is lost for certain
        least = math.floor(100 * smallest_margin(e.value, e.se, e.df, outline.alpha)) / 100
        lost = "these data could not tell" if e.verdict == "equivalent" else "it would not be negligible"
        at = f"; at ±{w.number(least)} or less {lost}" if least >= NOTHING else ""
        margin = f" It goes by the margin of ±{w.number(e.margin)} points{at}."
    return (
        f"hardly {_listed(varied, 'or')}, which the test allows for (false alarms: {100 * outline.alpha:g} % at most). What "
        f"was not varied could: {_listed((*fixed, 'the pair of encoders' if pairs == 1 else 'the choice of pairs'), 'and')}."
        f"{' A second pair would strengthen it.' if pairs == 1 else ''}{margin}"
    )


def _listed(names: Sequence[str], word: str) -> str:
    return f" {word} ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
