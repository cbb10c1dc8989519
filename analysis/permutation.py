"""Synchronized permutation of runs: an exact test of a difference in differences, as a cross-check.

Under the hypothesis of no interaction the main effects are not 0, so that labels are not exchangeable. Swapping as many
runs between the arms with intermediate training as between the arms without cancels them (unconstrained synchronized
permutations; Salmaso 2003, Basso et al. 2009). Exact where both arms have the same error distribution; the variance over
test examples is no part of it (tier T1).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from ..errors import AnalysisError

__all__ = ["Permutation", "synchronized_permutation"]

ALL_UP_TO = 5
"""Seeds per cell up to which every arrangement is counted (21,252 for five)."""


@dataclass(frozen=True)
class Permutation:
    """The observed difference in differences and its place among the arrangements of the runs."""

    value: float
    """The difference in differences of the means over runs, in the units of the scores."""
    p: float
    """Two-sided."""
    arrangements: int
    """Counted or, where ``exact`` is False, drawn."""
    exact: bool
    smallest_p: float
    """What the design can reach at best: 2 / (number of all arrangements)."""


def synchronized_permutation(
    v1: np.ndarray, v0: np.ndarray, t1: np.ndarray, t0: np.ndarray, *, resamples: int = 20_000, seed: int = 0
) -> Permutation:
    """Test (v1 - v0) - (t1 - t0) = 0 from the runs' scores (means over languages), (S,) each.

    Up to ``ALL_UP_TO`` seeds every arrangement is counted; beyond, ``resamples`` are drawn from ``seed`` and the observed
    one is added to them. Three seeds cannot pass Holm over 81 cells (smallest p .012): plan five or more. Raises
    ``AnalysisError`` for cells of unequal or fewer than two runs.
    """
    runs = [np.asarray(x, dtype=np.float64) for x in (v1, v0, t1, t0)]
    sizes = {x.shape for x in runs}
    count = len(runs[0]) if runs[0].ndim == 1 else 0
    if len(sizes) != 1 or count < 2 or not all(np.all(np.isfinite(x)) for x in runs):
        raise AnalysisError(
            f"cells of {', '.join(str(x.shape) for x in runs)} runs cannot be permuted in step",
            "give every cell the same number of finite scores, two or more: one per run",
        )
    a, a0, b, b0 = runs
    value = float((a.sum() - a0.sum() - b.sum() + b0.sum()) / count)
    ways = [comb(count, moved) ** 4 for moved in range(count + 1)]
    exact = count <= ALL_UP_TO
    if exact:
        shifts = np.concatenate([_all_shifts(runs, moved) for moved in range(count + 1)])
    else:
        shifts = _drawn_shifts(runs, np.array(ways, dtype=np.float64), resamples, np.random.default_rng(seed))
    statistic = np.abs(value - 2.0 * shifts / count)
    # sums in another order differ in the last digits, and ties belong to the observed arrangement
    as_large = int(np.sum(statistic >= abs(value) - 1e-12 * max(1.0, float(np.abs(runs).max()))))
    p = as_large / len(shifts) if exact else (as_large + 1) / (len(shifts) + 1)
    return Permutation(value, p, len(shifts), exact, 2.0 / sum(ways))


def _all_shifts(runs: list[np.ndarray], moved: int) -> np.ndarray:
    """(a - b) - (a0 - b0), the sums that change sides, for all choices of ``moved`` runs in each cell."""
    v1, v0, t1, t0 = (np.array([sum(x[list(c)]) for c in combinations(range(len(x)), moved)]) for x in runs)
    return ((v1[:, None] - t1)[:, :, None, None] - (v0[:, None] - t0)[None, None, :, :]).ravel()


def _drawn_shifts(
    runs: list[np.ndarray], ways: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    count = len(runs[0])
    moved = rng.choice(count + 1, resamples, p=ways / ways.sum())
    taken = np.arange(count) < moved[:, None]
    v1, v0, t1, t0 = (rng.permuted(taken, axis=1) @ x for x in runs)
    return (v1 - t1) - (v0 - t0)
