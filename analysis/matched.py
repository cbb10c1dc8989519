"""The cells of two outcome folders that can be compared, and what cannot: the ground of `compare.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from .cells import Cell
from .estimator import Tier
from .examples import Examples
from .outcomes import Record
from .results import FEWEST_FOR_A_VERDICT
from .settings import Settings

__all__ = ["Grid", "Matched", "examples_of", "fewest_runs", "same_runs"]

Grid = Mapping[tuple[str, str], Cell]


class Matched:
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
        self._note_cells()
        self._note_runs()
        if self.grids:
            self.notes.append(self._method())
        self.notes += [f"{x}: {warning}" for x, r in (("A", a), ("B", b)) for warning in r.warnings]

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
        if _unlike(ours.get("view"), theirs.get("view")):
            self.notes.append(f"{name}: read at {ours['view']} in A and at {theirs['view']} in B.")
        test_set = examples_of(one)
        unlike = [x for x in ("version", "revision", "parallel") if _unlike(ours.get(x), theirs.get(x))]
        if not test_set.same_as(examples_of(two)):
            unlike.append("examples")
        if unlike:
            self.notes.append(
                f"{name}: the test sets differ ({', '.join(unlike)}); their examples are taken as independent."
            )
        else:
            two = {k: replace(cell, examples=test_set) for k, cell in two.items()}
        self.grids[key] = one, two

    def _note_cells(self) -> None:
        """Arms and conditions that one folder has alone: means are over the others, and so are not the report's."""
        sides = (("A", self.a), ("B", self.b))
        for pair in dict.fromkeys(p for p, _ in self.grids):
            held = [
                {k for t in self.targets(pair, retention=None) for k in r.cells[pair, t]} for _, r in sides
            ]
            alone = [
                f"{what} {name} only in {side}"
                for i, what in enumerate(("arm", "condition"))
                for (side, _), mine, other in zip(sides, held, held[::-1], strict=True)
                for name in sorted({k[i] for k in mine} - {k[i] for k in other})
            ]
            if alone:
                self.notes.append(f"{pair}: {'; '.join(alone)}. Means are over what both have.")
            lacking = sorted(
                f"{' / '.join(key)} on {t}"
                for t in self.targets(pair, retention=None)
                for key in held[0] & held[1]
                if (key in self.a.cells[pair, t]) != (key in self.b.cells[pair, t])
            )
            if lacking:
                self.notes.append(f"{pair}: in one folder only, and left out: {', '.join(lacking)}.")

    def _note_runs(self) -> None:
        same = partly = cells = 0
        lineages: dict[tuple[str, ...], set[bool]] = {}
        for (pair, target), (one, two) in self.grids.items():
            for key, cell in one.items():
                equal = same_runs(cell, two[key])
                cells += 1
                same += equal
                partly += not equal and _equal_runs(cell, two[key]) > 0
                if not self.about[target]["retention"]:
                    lineages.setdefault((pair, *key), set()).add(equal)
        if same:
            self.notes.append(
                f"{same} of {cells} cells hold the same runs in both: their difference is 0, without a test."
            )
        if partly:
            self.notes.append(
                f"{partly} of {cells} cells share some of their runs: taken as independent, which makes their "
                "intervals too wide, not too narrow."
            )
        mixed = sum(len(found) == 2 for found in lineages.values())
        if mixed:
            self.notes.append(
                f"The runs of {mixed} arms and conditions are the same on some targets only: their means over targets "
                "are taken as independent, which makes the intervals too wide, not too narrow."
            )

    @cached_property
    def fewest(self) -> int:
        """Fewest runs of a trained cell on either side; 0 where nothing is trained."""
        return fewest_runs(c for grids in self.grids.values() for grid in grids for c in grid.values())

    @cached_property
    def tier(self) -> Tier:
        return "T0" if self.fewest == 1 else "T2"

    def targets(self, pair: str, *, retention: bool | None = False) -> list[str]:
        """Matched targets of a pair; retention is scored, and enters no mean and no effect (None: all)."""
        found = [task for p, task in self.grids if p == pair]
        return [t for t in found if retention is None or bool(self.about[t]["retention"]) == retention]

    def _method(self) -> str:
        """What the intervals rest on, and how far."""
        told = (
            f"Intervals: MWV-t, tier {self.tier}, Welch df, run variances not moderated; p adjusted within each "
            "family, by Holm for means, by Benjamini-Hochberg for single cells. Exploratory."
        )
        if self.tier == "T0":
            told += " A cell has one seed: this speaks of these checkpoints only, not of training again."
        if self.fewest == FEWEST_FOR_A_VERDICT - 1:
            told += " Cells of two seeds: their run variance has one degree of freedom each, which carries no verdict."
        asked = {f"{s.tier}/{s.df}" for s in (self.settings, Settings.of(self.b.suite))} - {"T2/welch"}
        return told + (f" The suites' own analysis is {', '.join(sorted(asked))}." if asked else "")


def examples_of(grid: Grid) -> Examples:
    """The test set of a grid, which is one for all of its cells."""
    return next(iter(grid.values())).examples


def same_runs(one: Cell, two: Cell) -> bool:
    """Whether both cells hold the same outcomes, seed by seed, on one test set."""
    return (
        one.seeds == two.seeds
        and one.examples is two.examples
        and np.array_equal(one.scores, two.scores)
        and np.array_equal(one.contributions, two.contributions)
    )


def fewest_runs(cells: Iterable[Cell]) -> int:
    """Fewest runs of a trained cell; 0 where nothing is trained."""
    return min((len(cell.seeds) for cell in cells if not cell.deterministic), default=0)


def _unlike(one: Any, two: Any) -> bool:
    """Whether both are known and differ; older records lack some keys."""
    return one is not None and two is not None and one != two


def _in(cell: Cell, languages: Sequence[str]) -> Cell:
    return cell if cell.examples.languages == tuple(languages) else cell.subset(languages)


def _on_one_set(grid: Grid) -> dict[tuple[str, str], Cell]:
    test_set = examples_of(grid)
    return {key: replace(cell, examples=test_set) for key, cell in grid.items()}


def _equal_runs(one: Cell, two: Cell) -> int:
    """Seeds under which both cells have the same score in every language."""
    shared = set(one.seeds) & set(two.seeds)
    return sum(np.array_equal(one.scores[one.seeds.index(s)], two.scores[two.seeds.index(s)]) for s in shared)
