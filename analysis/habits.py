"""Tests that the field uses, on data whose truth is known: what `calibrate.py` prints beside the test in use.

Each takes the targets of one data set and gives an interval for the mean effect over them. None is offered for
reports: all forget that a run, not an example and not a language, is what training again draws anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit
from scipy.stats import wilcoxon

from .cells import Cell
from .estimator import Term, estimate

__all__ = ["HABITS", "Drawn", "Interval"]

RESAMPLES = 400


class Drawn(NamedTuple):
    """One target of a data set: its cells and the coefficients of the effect."""

    cells: Sequence[Cell]
    coefficients: Sequence[float]

    @property
    def by_language(self) -> np.ndarray:
        """(L,) effect in each language."""
        means = np.stack([cell.scores.mean(axis=0) for cell in self.cells])
        return np.asarray(self.coefficients) @ means

    @property
    def by_example(self) -> np.ndarray:
        """(N,) contrast of contributions, runs averaged."""
        return np.asarray(self.coefficients) @ np.stack([cell.contributions for cell in self.cells])


class Interval(NamedTuple):
    """For the mean effect over targets, a fraction; NaN for a test that gives no interval."""

    low: float
    high: float
    p: Callable[[float], float] | None = None
    """p-value of a hypothetical effect, for tests that give no interval."""

    def misses(self, truth: float, alpha: float) -> bool:
        """Whether the test rejects the true effect."""
        return self.p(truth) < alpha if self.p is not None else not self.low <= truth <= self.high


Habit = Callable[[Sequence[Drawn], float, np.random.Generator], Interval | None]
"""None where there is no such test."""


def examples_z(targets: Sequence[Drawn], alpha: float, rng: np.random.Generator) -> Interval:
    """Standard error over examples of the seed-averaged contrast (Miller 2024)."""
    terms = [
        Term(dict(enumerate(t.cells)), {k: c / len(targets) for k, c in enumerate(t.coefficients)})
        for t in targets
    ]
    fit = estimate(terms, tier="T0", alpha=alpha)
    return Interval(fit.low, fit.high)


def paired_bootstrap(targets: Sequence[Drawn], alpha: float, rng: np.random.Generator) -> Interval:
    """Percentile interval over resampled examples (Koehn 2004), the languages of a test set resampled alike."""
    draws = np.zeros(RESAMPLES)
    for target in targets:
        examples = target.cells[0].examples
        d = target.by_example
        sizes = examples.sizes
        weights = np.empty((0, 0))
        for start, stop, n in zip(examples.offsets[:-1], examples.offsets[1:], sizes.tolist(), strict=True):
            if weights.shape[1] != n:
                picked = rng.integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
                weights = np.bincount(picked.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n
            draws += weights @ d[start:stop] / (len(sizes) * len(targets))
    low, high = np.quantile(draws, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(float(low), float(high))


def languages_t(targets: Sequence[Drawn], alpha: float, rng: np.random.Generator) -> Interval | None:
    """One-sample t over languages (of all targets)."""
    effects = np.concatenate([target.by_language for target in targets])
    if len(effects) < 2:
        return None
    half = float(stdtrit(len(effects) - 1, 1.0 - alpha / 2.0) * effects.std(ddof=1) / np.sqrt(len(effects)))
    mean = float(np.mean([target.by_language.mean() for target in targets]))
    return Interval(mean - half, mean + half)


def languages_wilcoxon(targets: Sequence[Drawn], alpha: float, rng: np.random.Generator) -> Interval | None:
    """Signed ranks over languages (Demsar 2006): no interval."""
    effects = np.concatenate([target.by_language for target in targets])
    if len(effects) < 2:
        return None
    return Interval(float("nan"), float("nan"), lambda truth: float(np.asarray(wilcoxon(effects - truth))[1]))


def stratified_bootstrap(targets: Sequence[Drawn], alpha: float, rng: np.random.Generator) -> Interval:
    """Percentile interval over runs redrawn for each language on its own (as rliable does for tasks)."""
    draws = np.zeros(RESAMPLES)
    for target in targets:
        for cell, coefficient in zip(target.cells, target.coefficients, strict=True):
            runs, languages = cell.scores.shape
            picked = rng.integers(0, runs, (RESAMPLES, runs, languages))
            values = cell.scores[picked, np.arange(languages)]
            draws += coefficient * values.mean(axis=(1, 2)) / len(targets)
    low, high = np.quantile(draws, [alpha / 2.0, 1.0 - alpha / 2.0])
    return Interval(float(low), float(high))


HABITS: Mapping[str, Habit] = {
    "paired bootstrap over examples": paired_bootstrap,
    "z over examples, seeds averaged": examples_z,
    "t over languages": languages_t,
    "Wilcoxon over languages": languages_wilcoxon,
    "stratified bootstrap of runs (rliable)": stratified_bootstrap,
}
