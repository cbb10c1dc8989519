"""The runs scored on a test set, reduced to what every contrast of cells needs.

A *cell* is (arm, condition) on one target: S runs scored on the same examples in L languages. It keeps the
scores of the runs and, per example, the contribution phi averaged over runs. Most metrics are ratios of sums,
for which ``phi = R + (num - R * den) / mean(den)`` with the score R: the outcome itself for an average, the
influence value for F1-type metrics. Metrics that are no ratio (macro-F1, correlations, BLEU) get their
contributions from the delete-one jackknife (`influence.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Self

import numpy as np

from ..errors import AnalysisError
from .examples import Examples
from .influence import Score, leave_one_out

__all__ = ["DETERMINISTIC", "DUPLICATE_MINIMUM", "Cell"]

DETERMINISTIC = -1
"""Seed index of a cell in which nothing was trained: one run, run variance 0, no degrees of freedom."""
DUPLICATE_MINIMUM = 200
"""Two seeds with equal outcomes on this many examples share their training; on fewer they may agree by chance."""


@dataclass(frozen=True, eq=False)
class Cell:
    """One (arm, condition) on one target, reduced to what every contrast needs."""

    examples: Examples
    seeds: tuple[int, ...]
    """Seed indices of the runs; ``(-1,)`` for a deterministic cell."""
    scores: np.ndarray
    """(S, L) score of each run and language, a fraction."""
    contributions: np.ndarray
    """(N,) contributions phi, averaged over runs."""
    noise: np.ndarray
    """(L, L) covariance over new examples of what one run's language scores owe to errors of its own; 0 with one run.

    With nested test sets a diagonal, ``[mean_e Var_s(phi) - Var_s(score)] / n``."""

    @cached_property
    def largest(self) -> float:
        """Largest absolute score."""
        return float(np.abs(self.scores).max())

    @property
    def within(self) -> np.ndarray:
        """(L,) run-specific variance of one example."""
        return np.diagonal(self.noise) * self.examples.sizes

    def own_noise(self, weights: np.ndarray) -> float:
        """What the variance over runs of the (L,)-weighted mean of scores holds of example noise."""
        return float(weights @ self.noise @ weights)

    @property
    def deterministic(self) -> bool:
        return self.seeds == (DETERMINISTIC,)

    @classmethod
    def from_counts(
        cls, examples: Examples, num: np.ndarray, den: np.ndarray, seeds: Sequence[int] | None = None
    ) -> Self:
        """Reduce per-run numerators and denominators, (S, N) in test-set order; ``seeds`` default to 0..S-1.

        An average has ``den`` 1 everywhere; F1 has ``num`` 2 tp and ``den`` predicted + gold, per example. Raises
        ``AnalysisError`` for arrays of another shape, numbers that are missing or infinite, a negative ``den``,
        ``num`` beside a ``den`` of 0 in a whole language, seeds that are not distinct or not alone where one is
        -1, and for two seeds with identical outcomes on 200 examples or more (unless all wrong or all right).
        """
        num, den = np.atleast_2d(num).astype(np.float64), np.atleast_2d(den).astype(np.float64)
        seeds = tuple(range(len(num))) if seeds is None else tuple(seeds)
        if num.shape != den.shape or num.shape != (len(seeds), len(examples.example)):
            raise AnalysisError(
                f"num {num.shape} and den {den.shape} do not match {len(seeds)} seeds x "
                f"{len(examples.example)} examples",
                "pass (seeds, examples) arrays in the order of the test set",
            )
        _check_seeds(seeds)
        if not np.isfinite(num).all() or not np.isfinite(den).all() or np.any(den < 0):
            raise AnalysisError(
                "den holds a negative number"
                if np.any(den < 0)
                else f"num or den holds {int((~np.isfinite(num) | ~np.isfinite(den)).sum())} missing or infinite "
                "numbers",
                "score every example in every run, or leave the example out of all of them",
            )
        mean_den = examples.language_means(den)
        # 0 / 0 (nothing predicted, nothing to find) scores 0, as in `tasks.base.Outcomes.score`
        safe = np.where(mean_den > 0, mean_den, 1.0)
        scores = examples.language_means(num) / safe
        if np.any((mean_den == 0) & (scores != 0)):
            raise AnalysisError(
                "a language has den = 0 in all examples but num is not 0: no ratio",
                "den counts what num could reach, such as predicted + gold of F1 (num: 2 tp)",
            )
        _check_duplicates(seeds, scores, (num, den))
        if np.array_equal(den, np.ones_like(den)):
            phi = num
        else:
            spread = [np.repeat(part, examples.sizes, axis=1) for part in (scores, safe)]
            phi = spread[0] + (num - spread[0] * den) / spread[1]
        return cls._reduced(examples, seeds, scores, phi)

    @classmethod
    def from_statistics(
        cls, examples: Examples, statistics: np.ndarray, score: Score, seeds: Sequence[int] | None = None
    ) -> Self:
        """Reduce per-run additive statistics, (S, N, k) in test-set order, of any metric that is a function
        ``score`` of their sums: (M, k) -> (M,); ``seeds`` default to 0..S-1.

        Contributions by the delete-one jackknife (statistics reference, section 2.4). Raises
        ``AnalysisError`` for arrays of another shape, a language with one example and scores not finite.
        """
        values = np.asarray(statistics, dtype=np.float64)
        seeds = tuple(range(len(values))) if seeds is None else tuple(seeds)
        if values.ndim != 3 or values.shape[:2] != (len(seeds), len(examples.example)):
            raise AnalysisError(
                f"statistics {values.shape} do not match {len(seeds)} seeds x {len(examples.example)} examples",
                "pass (seeds, examples, statistics) in the order of the test set",
            )
        _check_seeds(seeds)
        scores, phi = leave_one_out(values, examples.offsets, score)
        _check_duplicates(seeds, scores, (values,))
        return cls._reduced(examples, seeds, scores, phi)

    @classmethod
    def _reduced(
        cls, examples: Examples, seeds: tuple[int, ...], scores: np.ndarray, phi: np.ndarray
    ) -> Self:
        return cls(examples, seeds, scores, phi.mean(axis=0), examples.run_noise(phi))

    def on_logit_scale(self) -> Self:
        """The cell with log-odds for scores: ceilings bend an interaction of scores, but not one of log-odds.

        Delta method at the mean over runs; scores are kept half an example away from 0 and 1.
        """
        edge = 0.5 / self.examples.sizes
        clipped = np.clip(self.scores, edge, 1.0 - edge)
        centre = clipped.mean(axis=0)
        slope = 1.0 / (centre * (1.0 - centre))
        logits = np.log(clipped / (1.0 - clipped))
        deviation = self.contributions - np.repeat(self.scores.mean(axis=0), self.examples.sizes)
        stretched = np.repeat(logits.mean(axis=0), self.examples.sizes) + deviation * np.repeat(
            slope, self.examples.sizes
        )
        return type(self)(self.examples, self.seeds, logits, stretched, self.noise * np.outer(slope, slope))

    def subset(self, languages: Sequence[str], examples: Examples | None = None) -> Self:
        """The cell in some of its languages; ``examples`` shares one test set object between cells."""
        part, at = self.examples.subset(languages)
        kept = [self.examples.languages.index(language) for language in languages]
        return type(self)(
            examples or part,
            self.seeds,
            self.scores[:, kept],
            self.contributions[at],
            self.noise[np.ix_(kept, kept)],
        )


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if not seeds:
        raise AnalysisError("no runs: the arrays have no rows", "pass one row per seed")
    if DETERMINISTIC in seeds and len(seeds) > 1:
        raise AnalysisError(
            f"a deterministic run (seed -1) stands beside other seeds: {seeds}",
            "a cell in which nothing is trained has one run",
        )
    if len(set(seeds)) < len(seeds):
        raise AnalysisError(f"a seed stands twice: {seeds}", "number the runs of a cell, such as 0, 1, 2")


def _check_duplicates(seeds: tuple[int, ...], scores: np.ndarray, counts: Sequence[np.ndarray]) -> None:
    """Refuse equal outcomes under two seeds: the seed reached nothing, and the run variance would be too small.

    ``counts`` are (S, N, ...). All wrong or all right says nothing about the seed.
    """
    if counts[0].shape[1] < DUPLICATE_MINIMUM:
        return
    for i, j in combinations(range(len(seeds)), 2):
        # equal outcomes have equal scores: the rest need no comparison of examples
        if not np.array_equal(scores[i], scores[j]) or np.all((scores[i] == 0) | (scores[i] == 1)):
            continue
        if all(np.array_equal(x[i], x[j]) for x in counts):
            raise AnalysisError(
                f"seeds {seeds[i]} and {seeds[j]} gave identical outcomes on {counts[0].shape[1]} examples: "
                "seed not applied",
                "check that the seed reaches initialisation, data order and dropout; if nothing is trained "
                "here, pass the run once with seeds=[-1]",
            )
