"""Variance components of a suite that was run, for planning the next one and for calibrating this one.

Moments, pooled over cells: within a target, the variance over seeds of a run's mean over languages against that of its
single languages gives the run and the run x language parts; covariance over seeds between targets of one intermediate
checkpoint gives the checkpoint's. Negative estimates are set to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from ..errors import AnalysisError
from .cells import Cell
from .estimator import Term, estimate
from .outcomes import Record
from .power import Components, TargetComponents

__all__ = ["NONE", "variance_components"]

NONE = "none"
Grid = Mapping[tuple[str, str], Cell]


def variance_components(record: Record, pair: str) -> Components:
    """Components of one pair's targets; retention targets, in no family of effects, are left out.

    Raises ``AnalysisError`` where the pair has no target with two or more runs in some cell.
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
    # in one language the run and the run x language parts are one
    common = float(of_means) - (own / count if count > 1 else run_examples * inverse)
    share = float(weight @ [key[1] != NONE for key in trained])
    return TargetComponents(
        name=task,
        sizes=tuple(int(n) for n in examples.sizes),
        run=max(0.0, common - share * checkpoint),
        run_language=max(0.0, own - run_examples * inverse) if count > 1 else 0.0,
        run_examples=run_examples,
        cell_examples=_cell_examples(grid, run_examples * inverse / count) * count / inverse,
        score=float(np.mean([cell.scores.mean() for cell in grid.values()])),
        outcome=float(np.mean([_outcome(cell) for cell in grid.values()])),
        fixed_none=all(cell.deterministic for key, cell in grid.items() if key[1] == NONE),
    )


def _cell_examples(grid: Grid, one_run: float) -> float:
    """Variance over examples of one cell's mean: what is left in a double difference, a quarter of its variance.

    What the conditions of an arm or the arms of a condition have in common is no part of it. With one arm, half the
    variance of a gain. ``one_run`` is the run-specific part, which stays in cells of a deterministic run.
    """
    arms = list(dict.fromkeys(arm for arm, _ in grid))
    found = []
    for condition in dict.fromkeys(condition for _, condition in grid if condition != NONE):
        both = [arm for arm in arms if (arm, condition) in grid and (arm, NONE) in grid]
        signs = [{a: 1.0, b: -1.0} for a, b in combinations(both, 2)] or [{arm: 1.0} for arm in both]
        for chosen in signs:
            coefficients = {
                (arm, c): s * t for arm, s in chosen.items() for c, t in ((condition, 1.0), (NONE, -1.0))
            }
            cells = {key: grid[key] for key in coefficients}
            trained = all(len(cell.seeds) > 1 or cell.deterministic for cell in cells.values())
            fit = estimate([Term(cells, coefficients)], tier="T2" if trained else "T0")
            fixed = sum(cell.deterministic for cell in cells.values())
            found.append((fit.v_examples - fixed * one_run) / len(coefficients))
    return max(0.0, float(np.mean(found))) if found else 0.0


def _outcome(cell: Cell) -> float:
    """Variance over examples of one run's contributions, mean over languages."""
    deviation = cell.contributions - np.repeat(
        cell.examples.language_means(cell.contributions), cell.examples.sizes
    )
    of_mean = cell.examples.language_means(deviation**2)
    return float(np.mean(of_mean + cell.within * (1.0 - 1.0 / len(cell.seeds))))
