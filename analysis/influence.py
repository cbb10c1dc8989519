"""Contributions of single examples to scores that are no ratio of sums, by the delete-one jackknife.

A score that is a function of additive statistics (class counts, moments, n-gram counts) changes by a known
amount when one example is left out, at the price of one more evaluation per example: O(N) for all of them.
The contribution of example e is its pseudo-value (Quenouille 1956; Tukey 1958; statistics reference, section
2.4), ``n F - (n - 1) F(-e)``, centred so that the contributions of a language average to its score F.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import AnalysisError

__all__ = ["Score", "jackknife", "leave_one_out", "macro_f1", "matthews", "pearson"]

Score = Callable[[np.ndarray], np.ndarray]
"""Sums of the statistics, (M, k) float64, to scores, (M,)."""


def jackknife(statistics: np.ndarray, score: Score) -> np.ndarray:
    """(N, k) additive statistics of N examples -> (N,) contributions, whose mean is the score of the whole.

    Their variance over N is the jackknife variance of the score. Raises ``AnalysisError`` for fewer than two
    examples and for a score that is not finite.
    """
    values = np.asarray(statistics, dtype=np.float64)
    if values.ndim != 2:
        raise AnalysisError(
            f"statistics have the shape {values.shape}, not (examples, statistics)",
            "pass one row per example; for one statistic use values[:, None]",
        )
    return leave_one_out(values[None], np.array([0, len(values)]), score)[1][0]


def leave_one_out(statistics: np.ndarray, offsets: np.ndarray, score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Scores (S, L) and contributions (S, N) of runs with statistics (S, N, k).

    Language l holds the examples ``offsets[l]:offsets[l + 1]``. Raises as ``jackknife`` does.
    """
    runs, _, kinds = statistics.shape
    sizes = np.diff(offsets)
    if np.any(sizes < 2):
        raise AnalysisError(
            "the delete-one jackknife needs two examples in every language",
            "score more examples, or leave the language out",
        )
    totals = np.add.reduceat(statistics, offsets[:-1], axis=1)
    scores = _evaluated(score, totals.reshape(-1, kinds), "the score").reshape(runs, len(sizes))
    rest = np.repeat(totals, sizes, axis=1) - statistics
    without = _evaluated(score, rest.reshape(-1, kinds), "the score without one example").reshape(runs, -1)
    mean = np.add.reduceat(without, offsets[:-1], axis=1) / sizes
    centred = np.repeat(mean, sizes, axis=1) - without
    return scores, np.repeat(scores, sizes, axis=1) + np.repeat(sizes - 1, sizes) * centred


def _evaluated(score: Score, sums: np.ndarray, what: str) -> np.ndarray:
    found = np.asarray(score(sums), dtype=np.float64)
    if found.shape != (len(sums),):
        raise AnalysisError(
            f"the score function returned the shape {found.shape} for {len(sums)} rows of sums",
            "it takes (M, k) sums and returns (M,) scores",
        )
    if not np.isfinite(found).all():
        raise AnalysisError(
            f"{what} is not finite for {int(np.sum(~np.isfinite(found)))} of {len(found)} sums",
            "let the score function return a value (such as 0) where its ratio is 0 / 0",
        )
    return found


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """0 / 0 scores 0."""
    return np.divide(top, bottom, out=np.zeros_like(top, dtype=np.float64), where=bottom > 0)


def macro_f1(sums: np.ndarray) -> np.ndarray:
    """Mean of the F1 of each class; (M, 3C) sums: C columns of hits, C of predictions, C of gold labels.

    Classes that are neither predicted nor present score 0, and count.
    """
    hits, predicted, gold = np.split(np.asarray(sums, dtype=np.float64), 3, axis=1)
    return _ratio(2.0 * hits, predicted + gold).mean(axis=1)


def matthews(sums: np.ndarray) -> np.ndarray:
    """Matthews correlation of two classes; (M, 4) sums of hits, false alarms, misses, correct rejections.

    In [-1, 1]; 0 where a class is never predicted or never present.
    """
    tp, fp, fn, tn = np.asarray(sums, dtype=np.float64).T
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def pearson(sums: np.ndarray) -> np.ndarray:
    """Pearson correlation; (M, 6) sums of 1, x, y, x^2, y^2, xy. In [-1, 1]; 0 where x or y does not vary.

    Centre x and y at about their means beforehand: the sums of squares cancel. With ranks (over the whole
    test set) for x and y it is Spearman's, of which the jackknife then leaves the ranking fixed.
    """
    n, x, y, xx, yy, xy = np.asarray(sums, dtype=np.float64).T
    spread = (n * xx - x * x) * (n * yy - y * y)
    return _ratio(n * xy - x * y, np.sqrt(np.maximum(spread, 0.0)))
