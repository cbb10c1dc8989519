"""How large an effect is beside the noise of training (statistics reference, section 2.7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["run_sd", "superiority"]


def superiority(v1: np.ndarray, v0: np.ndarray, t1: np.ndarray, t0: np.ndarray) -> float:
    """P(v1 - v0 > t1 - t0) over all combinations of runs, (S,) scores each; ties count half.

    The seeds of different cells are not paired, so that every run with is set against every run without.
    """
    plus = np.subtract.outer(v1, v0).ravel()
    minus = np.sort(np.subtract.outer(t1, t0).ravel())
    # differences of equal scores must tie, whatever the order of summation
    slack = 1e-12
    below = np.searchsorted(minus, plus - slack, side="left")
    upto = np.searchsorted(minus, plus + slack, side="right")
    return float((below + upto).sum() / (2 * plus.size * minus.size))


def run_sd(cells: Sequence[np.ndarray]) -> float | None:
    """SD of one run's score, pooled over cells of (S,) scores; None where no cell has two runs."""
    trained = [z for z in cells if len(z) > 1]
    if not trained:
        return None
    squares = sum(float(np.sum((z - z.mean()) ** 2)) for z in trained)
    return float(np.sqrt(squares / sum(len(z) - 1 for z in trained)))
