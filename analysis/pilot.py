"""Variance components of a suite that was run, for planning the next one and for calibrating this one.

Moments, pooled over cells: within a target, the variance over seeds of a run's mean over languages against that of its
single languages gives the run and the run x language parts; covariance over seeds between targets of one intermediate
checkpoint gives the checkpoint's. No part is negative; what one part would be below 0 is taken from the others, so that
their sum stays the variance that was seen over seeds, wherever that is at least what the test examples alone make.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from ..errors import AnalysisError
from .cells import Cell
from .comparisons import NONE
from .outcomes import Record
from .power import Components, TargetComponents

__all__ = ["variance_components"]

Grid = Mapping[tuple[str, str], Cell]


def variance_components(record: Record, pair: str) -> Components:
    """Components of one pair's targets; retention targets, in no family of effects, are left out.

    So are targets that no arm has with and without an intermediate task. Raises ``AnalysisError`` where no target is left
    or none has two runs in some cell.
    """
    retained = {target["task"] for target in record.suite["targets"] if target["retention"]}
    grids = {task: grid for (p, task), grid in record.cells.items() if p == pair and task not in retained}
    grids = {task: grid for task, grid in grids.items() if any(len(c.seeds) > 1 for c in grid.values())}
    if not grids:
        known = dict.fromkeys(p for p, _ in record.cells)
        raise AnalysisError(
            f"no cell of the pair {pair!r} has two runs: its variance over seeds is unknown",
            f"pairs with outcomes: {', '.join(known)}; state the components, or run a pilot of two or more seeds",
        )
    grids = {task: grid for task, grid in grids.items() if _contrasts(grid)}
    if not grids:
        raise AnalysisError(
            f"no arm of the pair {pair!r} has a target both with and without an intermediate task",
            "there is no effect to plan from these outcomes; run a condition and `none`, or state the components",
        )
    checkpoint = _checkpoint(grids)
    targets = tuple(_target(task, grid, checkpoint) for task, grid in grids.items())
    return Components(targets, checkpoint)


def _checkpoint(grids: Mapping[str, Grid]) -> float:
    """Pooled covariance over seeds of two targets' scores, in the cells with an intermediate task."""
    total, freedom = 0.0, 0
    for one, other in combinations(grids.values(), 2):
        for key in one:
            if key[1] == NONE or key not in other:
                continue
            a, b = one[key], other[key]
            shared = sorted(set(a.seeds) & set(b.seeds))
            if len(shared) < 2:
                continue
            x, y = ([c.scores[c.seeds.index(s)].mean() for s in shared] for c in (a, b))
            total += float(np.cov(x, y, ddof=1)[0, 1]) * (len(shared) - 1)
            freedom += len(shared) - 1
    return max(0.0, total / freedom) if freedom else 0.0


def _target(task: str, grid: Grid, checkpoint: float) -> TargetComponents:
    trained = {key: cell for key, cell in grid.items() if len(cell.seeds) > 1}
    examples = next(iter(grid.values())).examples
    count = len(examples.languages)
    freedom = np.array([len(cell.seeds) - 1 for cell in trained.values()], dtype=np.float64)
    weight = freedom / freedom.sum()
    of_means = weight @ [cell.scores.mean(axis=1).var(ddof=1) for cell in trained.values()]
    of_languages = weight @ [cell.scores.var(axis=0, ddof=1).mean() for cell in trained.values()]
    run_examples = float(weight @ [cell.within.mean() for cell in trained.values()])
    inverse = float(np.mean(1.0 / examples.sizes))
    own = max(0.0, float(of_languages - of_means) * count / (count - 1)) if count > 1 else 0.0
    share = float(weight @ [key[1] != NONE for key in trained])
    one_run = run_examples * inverse / count
    # what is more than one run's own examples make, without the checkpoint's part
    more = max(0.0, float(of_means) - one_run - share * checkpoint)
    # in one language the run and the run x language parts are one
    run_language = min(max(0.0, own - run_examples * inverse), more * count) if count > 1 else 0.0
    cell, common = (v * count / inverse for v in _cell_examples(grid, one_run))
    return TargetComponents(
        name=task,
        sizes=tuple(int(n) for n in examples.sizes),
        run=more - run_language / count,
        run_language=run_language,
        run_examples=run_examples,
        cell_examples=cell,
        cell_common=common,
        parallel=examples.parallel,
        score=float(np.mean([cell.scores.mean() for cell in grid.values()])),
        outcome=float(np.mean([_outcome(cell) for cell in grid.values()])),
        fixed_none=all(cell.deterministic for key, cell in grid.items() if key[1] == NONE),
    )


def _contrasts(grid: Grid) -> list[dict[tuple[str, str], float]]:
    """The double differences of a target, two arms each; with one arm, its gains."""
    arms = list(dict.fromkeys(arm for arm, _ in grid))
    found = []
    for condition in dict.fromkeys(condition for _, condition in grid if condition != NONE):
        both = [arm for arm in arms if (arm, condition) in grid and (arm, NONE) in grid]
        signs = [{a: 1.0, b: -1.0} for a, b in combinations(both, 2)] or [{arm: 1.0} for arm in both]
        found += [
            {(arm, c): s * t for arm, s in chosen.items() for c, t in ((condition, 1.0), (NONE, -1.0))}
            for chosen in signs
        ]
    return found


def _cell_examples(grid: Grid, one_run: float) -> tuple[float, float]:
    """Variance over examples of one cell's mean: what is left in a double difference, a quarter of its variance; and
    how much of it comes from items that the languages of a parallel test set have in common.

    What the conditions of an arm or the arms of a condition have in common is no part of it. With one arm, half the
    variance of a gain. ``one_run`` is the run-specific part, which stays in cells of one run. Single differences may
    fall below 0 (their variance is an estimate less another); only their mean is cut there.
    """
    examples = next(iter(grid.values())).examples
    weights = np.full(len(examples.languages), 1.0 / len(examples.languages))
    apart = replace(examples, parallel=False)
    found = []
    for coefficients in _contrasts(grid):
        cells = [(c, grid[key]) for key, c in coefficients.items()]
        d = np.sum([c * cell.contributions for c, cell in cells], axis=0)
        known = np.zeros(2)
        for c, cell in cells:
            noise = [cell.own_noise(weights), float(weights**2 @ np.diagonal(cell.noise))]
            known += c * c * (np.array(noise) / runs if (runs := len(cell.seeds)) > 1 else one_run)
        both = np.array([test_set.variance(d, weights)[0] for test_set in (examples, apart)]) - known
        found.append(both / len(cells))
    total, own = (max(0.0, float(v)) for v in np.mean(found, axis=0))
    return total, max(0.0, total - own) if examples.parallel else 0.0


def _outcome(cell: Cell) -> float:
    """Variance over examples of one run's contributions, mean over languages."""
    deviation = cell.contributions - np.repeat(
        cell.examples.language_means(cell.contributions), cell.examples.sizes
    )
    of_mean = cell.examples.language_means(deviation**2)
    return float(np.mean(of_mean + cell.within * (1.0 - 1.0 / len(cell.seeds))))
