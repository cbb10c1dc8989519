"""From the counts of runs to a cell, in one pass per run and language: what reading a suite spends its time on.

The same numbers as ``Cell.from_counts``, to rounding, from arrays that runs may share: a denominator that is one
object in all runs is summed once, and no (S, N) array is built.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import AnalysisError
from .estimator import Cell, Examples

__all__ = ["Sums", "cell_of_runs"]


class Sums:
    """Language means of arrays of one test set, each taken once however many runs and metrics hold the array."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples
        # the array is kept with its means: an id is only good while its object lives
        self._known: dict[int, tuple[np.ndarray, np.ndarray, bool]] = {}

    def means(self, values: np.ndarray) -> np.ndarray:
        """(N,) -> (L,)."""
        return self._look(values)[1]

    def ones(self, values: np.ndarray) -> bool:
        """Whether every value is 1: the score is then a plain mean."""
        return self._look(values)[2]

    def scores(self, num: np.ndarray, den: np.ndarray) -> np.ndarray:
        """(L,) ``sum(num) / sum(den)``; 0 / 0 (nothing predicted, nothing to find) scores 0.

        Raises ``AnalysisError`` for a language with a numerator and no denominator.
        """
        below = self.means(den)
        odd = np.flatnonzero((below == 0) & (self.means(num) != 0))
        if len(odd):
            raise AnalysisError(
                f"language `{self.examples.languages[odd[0]]}` has a numerator where every denominator is 0",
                "the denominator counts what the numerator could reach; see docs/outcomes.md",
            )
        return self.means(num) / np.where(below > 0, below, 1.0)

    def _look(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
        found = self._known.get(id(values))
        if found is None:
            means = self.examples.language_means(values)
            ones = bool(np.all(means == 1.0)) and bool(np.all(values == 1.0))
            found = self._known[id(values)] = values, means, ones
        return found


def cell_of_runs(
    sums: Sums, num: Sequence[np.ndarray], den: Sequence[np.ndarray], seeds: Sequence[int]
) -> Cell:
    """Reduce S runs, each (N,) numerators and denominators in test-set order, to a cell.

    Of a nested test set, the average over examples of the variance over runs comes from sums of squares:
    ``mean_e Var_s(phi) = (sum_s mean_e phi^2 - S mean_e mean_s(phi)^2) / (S - 1)``. Where units span languages or
    hold several examples, the contributions of all runs are kept until ``Examples.run_noise``.
    """
    examples, runs = sums.examples, len(seeds)
    scores = np.stack([sums.scores(n, d) for n, d in zip(num, den, strict=True)])
    bottoms = [None if sums.ones(d) else np.where((m := sums.means(d)) > 0, m, 1.0) for d in den]
    contributions = np.zeros(len(examples.example))
    within = np.zeros(len(examples.languages))
    apart = not examples.parallel and not examples.clustered
    kept = None if apart or runs == 1 else np.empty((runs, len(examples.example)))
    bounds = examples.offsets.tolist()
    for i, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
        total = contributions[start:stop]
        squares = 0.0
        for s, bottom in enumerate(bottoms):
            phi = num[s][start:stop]
            if bottom is not None:
                score, scale = scores[s, i], 1.0 / bottom[i]
                phi = phi * scale
                phi -= den[s][start:stop] * (score * scale)
                phi += score
            total += phi
            if kept is not None:
                kept[s, start:stop] = phi
            elif runs > 1:
                squares += float(phi @ phi)
        total /= runs
        if kept is None and runs > 1:
            within[i] = (squares - runs * float(total @ total)) / ((runs - 1) * (stop - start))
    if kept is not None:
        noise = examples.run_noise(kept)
    else:
        if runs > 1:
            within = np.maximum(within - scores.var(axis=0, ddof=1), 0.0)
        noise = np.diag(within / examples.sizes)
    return Cell(examples, tuple(seeds), scores, contributions, noise)
