"""The design of an outcomes folder: which contrasts it has, which cells carry them, and how they are estimated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .comparisons import ALL, NONE
from .estimator import Cell, Fit, Term, Tier, estimate
from .outcomes import Record
from .settings import Settings

__all__ = ["POINTS", "Design", "Grid", "Study", "as_tested", "in_language", "terms_of", "unique"]

POINTS = 100.0

Grid = Mapping[tuple[str, str], Cell]
"""(arm, condition) -> cell, on one target."""


@dataclass(frozen=True)
class Design:
    """The cells for which every arm of a contrast was run with and without intermediate training."""

    cells: tuple[tuple[str, str], ...]
    """(condition, target)."""
    grids: Mapping[str, Grid]
    """Target -> its cells."""

    def chosen(self, condition: str, target: str) -> list[tuple[str, str]]:
        """The cells of a row of the report; ``*`` is all."""
        return [(c, t) for c, t in self.cells if condition in (c, ALL) and target in (t, ALL)]

    @property
    def conditions(self) -> list[str]:
        return unique(c for c, _ in self.cells)

    @property
    def targets(self) -> list[str]:
        return unique(t for _, t in self.cells)

    def languages(self, target: str) -> tuple[str, ...]:
        return next(iter(self.grids[target].values())).examples.languages


@dataclass(frozen=True)
class Study:
    record: Record

    @property
    def suite(self) -> dict[str, Any]:
        return self.record.suite

    @cached_property
    def settings(self) -> Settings:
        return Settings.of(self.suite)

    @property
    def alpha(self) -> float:
        return self.settings.alpha

    @cached_property
    def fewest(self) -> int:
        """Fewest runs of a trained cell."""
        trained = (c for grid in self.record.cells.values() for c in grid.values() if not c.deterministic)
        return min((len(cell.seeds) for cell in trained), default=0)

    @property
    def tier(self) -> Tier:
        return "T0" if self.fewest == 1 else self.settings.tier

    @property
    def fixed_tier(self) -> Tier:
        """The tier where languages are fixed whatever was asked: a single language, retention."""
        return "T2" if self.tier == "T3" else self.tier

    @property
    def intermediate(self) -> list[str]:
        return [c["name"] for c in self.suite["conditions"] if c["name"] != NONE]

    @cached_property
    def about(self) -> dict[str, dict[str, Any]]:
        """Target -> its entry in `suite.json`."""
        return {target["task"]: target for target in self.suite["targets"]}

    def targets(self, pair: str, *, retention: bool) -> list[tuple[dict[str, Any], Grid]]:
        found = []
        for target in self.suite["targets"]:
            grid = self.record.cells.get((pair, target["task"]))
            if grid is not None and bool(target["retention"]) == retention:
                found.append((target, grid))
        return found

    def fit(self, terms: Sequence[Term], tier: Tier | None = None) -> Fit:
        return estimate(terms, tier=tier or self.tier, alpha=self.alpha, df=self.settings.df)

    def design(self, pair: str, signs: Mapping[str, float]) -> Design:
        grids = {target["task"]: grid for target, grid in self.targets(pair, retention=False)}
        cells = tuple(
            (condition, task)
            for condition in self.intermediate
            for task, grid in grids.items()
            if all((arm, c) in grid for arm in signs for c in (condition, NONE))
        )
        return Design(cells, grids)

    @cached_property
    def _logit(self) -> dict[int, tuple[Cell, Cell | None]]:
        return {}

    def on_logit_scale(self, terms: Sequence[Term]) -> list[Term] | None:
        """The same contrast of log-odds; None where a score is no fraction."""
        found = []
        for term in terms:
            cells = {key: self._odds(term.cells[key]) for key in term.used}
            known = {key: cell for key, cell in cells.items() if cell is not None}
            if len(known) < len(cells):
                return None
            found.append(replace(term, cells=known))
        return found

    def _odds(self, cell: Cell) -> Cell | None:
        # the cell is kept with its log-odds: an id is only good while its object lives
        if id(cell) not in self._logit:
            inside = bool(np.all((cell.scores >= 0) & (cell.scores <= 1)))
            self._logit[id(cell)] = cell, cell.on_logit_scale() if inside else None
        return self._logit[id(cell)][1]


def unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def terms_of(
    chosen: Sequence[tuple[str, str]],
    grids: Mapping[str, Grid],
    signs: Mapping[str, float],
    *,
    without: Iterable[str] = (),
) -> list[Term]:
    """The mean of ``sum_arm sign * (score(condition) - score(none))`` over the chosen (condition, target).

    Runs of `none` that several conditions share get one coefficient, so that their variance counts once.
    ``without`` leaves languages out; targets that have none left must not be chosen.
    """
    by_task: dict[str, dict[Hashable, float]] = defaultdict(lambda: defaultdict(float))
    for condition, task in chosen:
        for arm, sign in signs.items():
            by_task[task][arm, condition] += sign / len(chosen)
            by_task[task][arm, NONE] -= sign / len(chosen)
    dropped = set(without)
    terms = []
    for task, coefficients in by_task.items():
        weights = None
        if dropped:
            codes = next(iter(grids[task].values())).examples.languages
            kept = np.array([code not in dropped for code in codes], float)
            weights = kept / max(1.0, kept.sum())
        cells: dict[Hashable, Cell] = {**grids[task]}
        terms.append(Term(cells, coefficients, weights))
    return terms


def as_tested(fit: Fit, scale: float = POINTS) -> dict[str, Any]:
    """The fields of `secondary.Tested`."""
    value, low, high, se = (scale * x for x in (fit.value, fit.low, fit.high, fit.se))
    numbers = {"value": value, "low": low, "high": high, "se": se}
    return {**numbers, "df": fit.df, "p": fit.p, "tier": fit.tier, "seeds": fit.seeds}


def in_language(grid: Grid, language: str) -> dict[tuple[str, str], Cell]:
    """All cells of a target cut to one language; a language is a fortieth of the examples."""
    whole = next(iter(grid.values())).examples
    at = whole.languages.index(language)
    examples, _ = whole.subset([language])
    start, stop = whole.offsets[at], whole.offsets[at + 1]
    return {
        key: Cell(
            examples,
            cell.seeds,
            cell.scores[:, at : at + 1],
            cell.contributions[start:stop],
            cell.noise[at : at + 1, at : at + 1],
        )
        for key, cell in grid.items()
    }
