"""Two outcome folders side by side: what changed, with intervals (two suites, or one suite before and after).

Cells are matched by pair, arm, condition and target, on the languages that both folders have. Runs of the two are
independent; test examples are shared where the test sets are equal, so that their variance cancels as it does between
arms. Runs that are the same in both (identical outcomes) cancel as well. Always tier T2 with Welch's df (T0 where a
trained cell has one run), unmoderated; alpha and margins are A's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import AnalysisError
from .cells import Cell
from .changes import Change, changes
from .comparisons import ALL, NONE
from .equivalence import verdict
from .estimator import Term, estimate
from .matched import Matched, examples_of, fewest_runs, same_runs
from .multiplicity import benjamini_hochberg, holm
from .outcomes import Record, read_record
from .results import FEWEST_FOR_A_VERDICT, Verdict

__all__ = ["Difference", "RecordComparison", "compare", "compare_records"]

SIDES = (("A", -1.0), ("B", 1.0))
BH = ("cells", "map")
"""Families whose single members nobody named in advance; the others get Holm."""


@dataclass(frozen=True)
class Difference:
    """B - A of a score or of an effect, in points; exploratory."""

    what: str
    """``score`` or ``effect``."""
    family: str
    """Scores: ``means`` (over targets), ``cells``. Effects: ``grand``, ``conditions``, ``targets``, ``map``."""
    pair: str
    name: str
    """The arm of a score, the contrast of an effect."""
    condition: str
    target: str
    a: float
    b: float
    value: float
    low: float
    high: float
    se: float
    df: float
    p: float | None
    """None where the estimated variance is 0: the runs are the same, or nothing varied and no test exists."""
    p_adjusted: float | None
    """Benjamini-Hochberg in ``cells`` and ``map``, Holm in the other families."""
    margin: float
    p_equivalence: float | None
    """TOST against ``margin``: "the same, to within the margin"."""
    verdict: Verdict
    tier: str
    seeds: tuple[int, int]
    """Fewest runs of a trained cell in A and in B; 0 where nothing is trained."""
    same_runs: bool
    """Whether A and B hold the very same runs: the difference is 0 and needs no test."""
    provisional: bool
    """Whether a cell behind it has two runs, whose variance carries no verdict: then it is ``inconclusive``."""
    languages: int
    shared_examples: bool
    """Whether every test set is the same in both."""


@dataclass(frozen=True)
class RecordComparison:
    """Two outcome folders, A and B, and every difference B - A of what they have in common."""

    folders: tuple[str, str]
    signatures: tuple[str, str]
    changes: tuple[Change, ...]
    """Fields of the signature, versions, revisions and settings that differ."""
    notes: tuple[str, ...]
    """What could not be matched, and what the intervals rest on."""
    alpha: float
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(a: Path, b: Path) -> RecordComparison:
    """Compare two outcome folders; raises as ``outcomes.read_record`` and ``compare_records`` do."""
    return compare_records(read_record(a), read_record(b), (str(a), str(b)))


def compare_records(a: Record, b: Record, folders: tuple[str, str] = ("A", "B")) -> RecordComparison:
    """Every matched cell, gain of arms over arms, and mean; alpha and margins are A's.

    Raises ``AnalysisError`` where the two have no cell in common.
    """
    both = _Differences(a, b)
    if not both.grids:
        raise AnalysisError(
            f"{folders[0]} and {folders[1]} have no pair and target in common that can be compared",
            f"they are matched by name (`name` of [[pairs]]): A has {_cells_of(a)}; B has {_cells_of(b)}"
            + "".join(f"; {note}" for note in both.notes if not note.startswith("Not compared")),
        )
    families: list[list[Difference]] = []
    for pair in dict.fromkeys(p for p, _ in both.grids):
        families += both.scores(pair)
        families += both.effects(pair)
    alpha = both.settings.alpha
    found = [d for family in families for d in _adjusted(family, alpha)]
    if not found:
        raise AnalysisError(
            f"{folders[0]} and {folders[1]} share no arm and condition", f"A has {_cells_of(a)}"
        )
    signatures = a.suite["signature"], b.suite["signature"]
    return RecordComparison(folders, signatures, tuple(changes(a, b)), tuple(both.notes), alpha, tuple(found))


def _cells_of(record: Record) -> str:
    names = [f"{pair} / {task}" for pair, task in record.cells]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


class _Differences(Matched):
    """Contrasts of the matched cells."""

    def scores(self, pair: str) -> list[list[Difference]]:
        means, cells = [], []
        grids = {t: self.grids[pair, t][0] for t in self.targets(pair, retention=None)}
        for key in dict.fromkeys(k for grid in grids.values() for k in grid):
            tasks = [t for t in self.targets(pair) if key in grids[t]]
            if len(tasks) > 1:
                weights = {t: {key: 1.0 / len(tasks)} for t in tasks}
                means.append(self._difference("score", "means", pair, key[0], key[1], ALL, weights))
            for t in (t for t in grids if key in grids[t]):
                cells.append(self._difference("score", "cells", pair, key[0], key[1], t, {t: {key: 1.0}}))
        return [means, cells]

    def effects(self, pair: str) -> list[list[Difference]]:
        found = []
        theirs = {c["name"]: c for p in self.b.suite["pairs"] if p["name"] == pair for c in p["contrasts"]}
        for contrast in (c for p in self.a.suite["pairs"] if p["name"] == pair for c in p["contrasts"]):
            other = theirs.get(contrast["name"])
            if other is None or any(other[side] != contrast[side] for side in ("plus", "minus")):
                self.notes.append(f"{pair}: the contrast {contrast['name']} of A is not in B.")
                continue
            found += self._effects_of(pair, contrast)
        return found

    def _effects_of(self, pair: str, contrast: Mapping[str, str]) -> list[list[Difference]]:
        signs = {contrast["plus"]: 1.0, contrast["minus"]: -1.0}
        grids = {t: self.grids[pair, t][0] for t in self.targets(pair)}
        cells = [
            (c["name"], t)
            for c in self.a.suite["conditions"]
            if c["name"] != NONE
            for t, grid in grids.items()
            if all((arm, x) in grid for arm in signs for x in (c["name"], NONE))
        ]

        def row(family: str, condition: str, target: str) -> Difference:
            chosen = [(c, t) for c, t in cells if condition in (c, ALL) and target in (t, ALL)]
            weights: dict[str, dict[tuple[str, str], float]] = {}
            for c, t in chosen:
                of_task = weights.setdefault(t, {})
                for arm, sign in signs.items():
                    of_task[arm, c] = of_task.get((arm, c), 0.0) + sign / len(chosen)
                    of_task[arm, NONE] = of_task.get((arm, NONE), 0.0) - sign / len(chosen)
            return self._difference("effect", family, pair, contrast["name"], condition, target, weights)

        if not cells:
            return []
        return [
            [row("grand", ALL, ALL)],
            [row("conditions", c, ALL) for c in dict.fromkeys(c for c, _ in cells)],
            [row("targets", ALL, t) for t in dict.fromkeys(t for _, t in cells)],
            [row("map", c, t) for c, t in cells],
        ]

    def _difference(
        self,
        what: str,
        family: str,
        pair: str,
        name: str,
        condition: str,
        target: str,
        weights: Mapping[str, Mapping[tuple[str, str], float]],
    ) -> Difference:
        """B - A of ``sum over targets and cells of weight x score``."""
        grids = {task: self.grids[pair, task] for task in weights}
        keys = {key for of_task in weights.values() for key in of_task}
        # the same runs on every target: one lineage, which cancels
        same = {
            k for k in keys if all(same_runs(g[0][k], g[1][k]) for t, g in grids.items() if k in weights[t])
        }
        terms, totals = [], [0.0, 0.0]
        shared = all(examples_of(one) is examples_of(two) for one, two in grids.values())
        for task, of_task in weights.items():
            parts: list[tuple[dict[Any, Cell], dict[Any, float]]] = [({}, {}), ({}, {})]
            for i, (side, sign) in enumerate(SIDES):
                for key, weight in of_task.items():
                    cell = grids[task][i][key]
                    totals[i] += 100.0 * weight * float(cell.scores.mean())
                    if key not in same:
                        parts[i][0][side, *key], parts[i][1][side, *key] = cell, sign * weight
            if examples_of(grids[task][0]) is examples_of(grids[task][1]):
                parts = [(parts[0][0] | parts[1][0], parts[0][1] | parts[1][1])]
            terms += [Term(cells, coefficients) for cells, coefficients in parts if coefficients]
        margin = self.settings.margin(target)
        counts = [fewest_runs(g[i][k] for t, g in grids.items() for k in weights[t]) for i in (0, 1)]
        languages = len({code for one, _ in grids.values() for code in examples_of(one).languages})
        common: dict[str, Any] = {
            "what": what,
            "family": family,
            "pair": pair,
            "name": name,
            "condition": condition,
            "target": target,
            "a": totals[0],
            "b": totals[1],
            "p": None,
            "p_adjusted": None,
            "margin": margin,
            "p_equivalence": None,
            "verdict": "inconclusive",
            "tier": self.tier,
            "seeds": (counts[0], counts[1]),
            "same_runs": not terms,
            "provisional": False,
            "languages": languages,
            "shared_examples": shared,
        }
        if not terms:
            return Difference(**common, value=0.0, low=0.0, high=0.0, se=0.0, df=0.0)
        fit = estimate(terms, tier=self.tier, alpha=self.settings.alpha)
        value, low, high, se = (100.0 * x for x in (fit.value, fit.low, fit.high, fit.se))
        tests: dict[str, Any] = {
            "provisional": self.tier != "T0" and fit.seeds == FEWEST_FOR_A_VERDICT - 1,
            "p": fit.p,
            "p_adjusted": fit.p,
            "p_equivalence": fit.equivalence(margin / 100.0),
        }
        return Difference(**common | tests, value=value, low=low, high=high, se=se, df=fit.df)


def _adjusted(family: list[Difference], alpha: float) -> list[Difference]:
    tested = [d.p for d in family if d.p is not None]
    adjust = benjamini_hochberg if family and family[0].family in BH else holm
    adjusted = iter(adjust(tested).tolist())
    found = [d if d.p is None else replace(d, p_adjusted=next(adjusted)) for d in family]
    return [d if d.provisional else replace(d, verdict=_verdict(d, alpha)) for d in found]


def _verdict(d: Difference, alpha: float) -> Verdict:
    """Equivalence is a claim of each margin on its own; the same runs are the same; without variance no verdict."""
    return verdict(d.p_adjusted, 0.0 if d.same_runs else d.p_equivalence, alpha)
