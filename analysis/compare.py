"""Two outcome folders side by side: what changed, with intervals (two suites, or one suite before and after).

Cells are matched by pair, arm, condition and target, on the languages that both folders have. Runs of the two are
independent; test examples are shared where the test sets are equal, so that their variance cancels as it does between
arms. Runs that are the same in both (identical outcomes) cancel as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AnalysisError
from .cells import Cell
from .changes import Change, changes
from .equivalence import verdict
from .estimator import Term, Tier, estimate
from .multiplicity import benjamini_hochberg, holm
from .outcomes import Record, read_record
from .results import Verdict
from .settings import Settings

__all__ = ["Comparison", "Difference", "compare", "compare_records"]

NONE, ALL = "none", "*"
SIDES = (("A", -1.0), ("B", 1.0))
Grid = Mapping[tuple[str, str], Cell]
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
    """None where nothing varies: the runs are the same."""
    p_adjusted: float | None
    """Benjamini-Hochberg in ``cells`` and ``map``, Holm in the other families."""
    margin: float
    p_equivalence: float | None
    """TOST against ``margin``: "the same, to within the margin"."""
    verdict: Verdict
    tier: str
    seeds: tuple[int, int]
    """Fewest runs of a trained cell in A and in B; 0 where nothing is trained."""
    languages: int
    shared_examples: bool
    """Whether every test set is the same in both."""


@dataclass(frozen=True)
class Comparison:
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


def compare(a: Path, b: Path) -> Comparison:
    """Compare two outcome folders; raises as ``outcomes.read_record`` and ``compare_records`` do."""
    return compare_records(read_record(a), read_record(b), (str(a), str(b)))


def compare_records(a: Record, b: Record, folders: tuple[str, str] = ("A", "B")) -> Comparison:
    """Every matched cell, gain of arms over arms, and mean; the settings are A's.

    Raises ``AnalysisError`` where the two have no cell in common.
    """
    both = _Both(a, b)
    if not both.grids:
        raise AnalysisError(
            f"{folders[0]} and {folders[1]} have no pair and target in common",
            f"A has {_cells_of(a)}; B has {_cells_of(b)}",
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
    return Comparison(folders, signatures, tuple(changes(a, b)), tuple(both.notes), alpha, tuple(found))


def _cells_of(record: Record) -> str:
    return ", ".join(f"{pair} / {task}" for pair, task in list(record.cells)[:6])


class _Both:
    """The cells of A and B that match, each grid on the languages of both."""

    def __init__(self, a: Record, b: Record) -> None:
        self.a, self.b = a, b
        self.settings = Settings.of(a.suite)
        self.notes: list[str] = []
        self.grids: dict[tuple[str, str], tuple[Grid, Grid]] = {}
        """(pair, target) -> cells of A and of B with the same keys; one ``Examples`` object where test sets are equal."""
        self.about = {t["task"]: t for t in a.suite["targets"]}
        alone = [
            f"{p} / {t} only in {x}"
            for x, k in (("A", set(a.cells) - set(b.cells)), ("B", set(b.cells) - set(a.cells)))
            for p, t in sorted(k)
        ]
        if alone:
            self.notes.append(f"Not compared: {'; '.join(alone)}.")
        for key in a.cells:
            if key in b.cells:
                self._match(key)
        self._note_runs()

    def _match(self, key: tuple[str, str]) -> None:
        name = " / ".join(key)
        ours, theirs = (next(t for t in r.suite["targets"] if t["task"] == key[1]) for r in (self.a, self.b))
        if ours["metric"] != theirs["metric"]:
            self.notes.append(
                f"{name}: scored by {ours['metric']} in A and by {theirs['metric']} in B; not compared."
            )
            return
        one, two = self.a.cells[key], self.b.cells[key]
        keys = [k for k in one if k in two]
        codes = next(iter(two.values())).examples.languages
        languages = [code for code in next(iter(one.values())).examples.languages if code in codes]
        if not keys or not languages:
            self.notes.append(f"{name}: no {'cell' if languages else 'language'} in common; not compared.")
            return
        left = sorted({*codes, *next(iter(one.values())).examples.languages} - set(languages))
        if left:
            self.notes.append(
                f"{name}: on the {len(languages)} languages of both, without {', '.join(left)}."
            )
        one, two = ({k: _in(grid[k], languages) for k in keys} for grid in (one, two))
        one, two = (_on_one_set(grid) for grid in (one, two))
        test_set = next(iter(one.values())).examples
        asked = ("version", "view", "parallel", "languages") if not left else ("version", "view", "parallel")
        if all(ours.get(x) == theirs.get(x) for x in asked) and test_set.same_as(
            next(iter(two.values())).examples
        ):
            two = {k: replace(cell, examples=test_set) for k, cell in two.items()}
        else:
            self.notes.append(f"{name}: the test sets differ; their examples are taken as independent.")
        self.grids[key] = one, two

    def _note_runs(self) -> None:
        same = partly = cells = 0
        for one, two in self.grids.values():
            for key, cell in one.items():
                equal, other = _equal_runs(cell, two[key]), two[key]
                cells += 1
                same += _same(cell, other)
                partly += bool(equal) and not _same(cell, other)
        if same:
            self.notes.append(
                f"{same} of {cells} cells hold the same runs in both: their difference is 0, without a test."
            )
        if partly:
            self.notes.append(
                f"{partly} of {cells} cells share some of their runs: taken as independent, which makes their "
                "intervals too wide, not too narrow."
            )

    @cached_property
    def tier(self) -> Tier:
        cells = [c for grids in self.grids.values() for grid in grids for c in grid.values()]
        few = any(len(c.seeds) == 1 and not c.deterministic for c in cells)
        return "T0" if few else "T2"

    def _targets(self, pair: str, *, retention: bool | None = False) -> list[str]:
        found = [task for p, task in self.grids if p == pair]
        return [t for t in found if retention is None or bool(self.about[t]["retention"]) == retention]

    def scores(self, pair: str) -> list[list[Difference]]:
        means, cells = [], []
        grids = {t: self.grids[pair, t][0] for t in self._targets(pair, retention=None)}
        for key in dict.fromkeys(k for grid in grids.values() for k in grid):
            tasks = [t for t in self._targets(pair) if key in grids[t]]
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
        grids = {t: self.grids[pair, t][0] for t in self._targets(pair)}
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
        same = {k for k in keys if all(_same(g[0][k], g[1][k]) for t, g in grids.items() if k in weights[t])}
        terms, totals = [], [0.0, 0.0]
        shared = all(_examples(one) is _examples(two) for one, two in grids.values())
        for task, of_task in weights.items():
            parts: list[tuple[dict[Any, Cell], dict[Any, float]]] = [({}, {}), ({}, {})]
            for i, (side, sign) in enumerate(SIDES):
                for key, weight in of_task.items():
                    cell = grids[task][i][key]
                    totals[i] += 100.0 * weight * float(cell.scores.mean())
                    if key not in same:
                        parts[i][0][side, *key], parts[i][1][side, *key] = cell, sign * weight
            if _examples(grids[task][0]) is _examples(grids[task][1]):
                parts = [(parts[0][0] | parts[1][0], parts[0][1] | parts[1][1])]
            terms += [Term(cells, coefficients) for cells, coefficients in parts if coefficients]
        margin = self.settings.margin(target)
        counts = [_fewest(g[i][k] for t, g in grids.items() for k in weights[t]) for i in (0, 1)]
        languages = len({code for one, _ in grids.values() for code in _examples(one).languages})
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
            "languages": languages,
            "shared_examples": shared,
        }
        if not terms:
            return Difference(**common, value=0.0, low=0.0, high=0.0, se=0.0, df=0.0)
        fit = estimate(terms, tier=self.tier, alpha=self.settings.alpha)
        value, low, high, se = (100.0 * x for x in (fit.value, fit.low, fit.high, fit.se))
        tests: dict[str, Any] = {
            "p": fit.p,
            "p_adjusted": fit.p,
            "p_equivalence": fit.equivalence(margin / 100.0),
        }
        return Difference(**common | tests, value=value, low=low, high=high, se=se, df=fit.df)


def _examples(grid: Grid):
    return next(iter(grid.values())).examples


def _in(cell: Cell, languages: Sequence[str]) -> Cell:
    return cell if cell.examples.languages == tuple(languages) else cell.subset(languages)


def _on_one_set(grid: Grid) -> dict[tuple[str, str], Cell]:
    test_set = _examples(grid)
    return {key: replace(cell, examples=test_set) for key, cell in grid.items()}


def _equal_runs(one: Cell, two: Cell) -> int:
    """Seeds under which both cells have the same score in every language."""
    shared = set(one.seeds) & set(two.seeds)
    return sum(np.array_equal(one.scores[one.seeds.index(s)], two.scores[two.seeds.index(s)]) for s in shared)


def _same(one: Cell, two: Cell) -> bool:
    return (
        one.seeds == two.seeds
        and one.examples is two.examples
        and np.array_equal(one.scores, two.scores)
        and np.array_equal(one.contributions, two.contributions)
    )


def _fewest(cells: Iterable[Cell]) -> int:
    return min((len(cell.seeds) for cell in cells if not cell.deterministic), default=0)


def _adjusted(family: list[Difference], alpha: float) -> list[Difference]:
    tested = [d.p for d in family if d.p is not None]
    adjust = benjamini_hochberg if family and family[0].family in BH else holm
    adjusted = iter(adjust(tested).tolist())
    found = [d if d.p is None else replace(d, p_adjusted=next(adjusted)) for d in family]
    # equivalence is a claim of each margin on its own; the same runs are the same
    return [
        replace(d, verdict=verdict(d.p_adjusted, 0.0 if d.p is None else d.p_equivalence, alpha))
        for d in found
    ]
