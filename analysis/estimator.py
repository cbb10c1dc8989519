"""MWV-t: a multi-way moment variance with a Welch-Satterthwaite t reference, for any contrast of cells.

A *cell* is (arm, condition) on one target: S runs scored on the same examples in L languages. The unit of
replication is the run, not the language and not the example; examples are shared by all runs, so their
variance is taken from the contrast of per-example contributions. Closed form, float64, no random numbers.

Every metric is a ratio of sums, so that the contribution of example e to the score R of its run and language
is ``phi = R + (num - R * den) / mean(den)``, whose mean is R: the outcome itself for an average, the
influence value for F1-type metrics.

Tiers say which population an interval is about: ``T0`` new examples for these checkpoints, ``T1`` new seeds
on this very test set, ``T2`` new seeds and new examples (the default); languages and tasks are fixed in all
three.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from scipy.special import stdtr, stdtrit

from ..errors import AnalysisError

__all__ = ["DETERMINISTIC", "Cell", "Examples", "Fit", "Term", "Tier", "contrast", "did", "estimate"]

Tier = Literal["T0", "T1", "T2"]
DETERMINISTIC = -1
"""Seed index of a cell in which nothing was trained: one run, run variance 0, no degrees of freedom."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The test set of one target: N positions, sorted by language, then example."""

    languages: tuple[str, ...]
    offsets: np.ndarray
    """(L + 1,) int64; language l holds positions ``offsets[l]:offsets[l + 1]``."""
    example: np.ndarray
    """(N,) int32 example ids."""
    cluster: np.ndarray
    """(N,) int32 paragraph or document ids; equal to ``example`` where there are none."""
    parallel: bool = False
    """Whether an id means the same item (and a cluster the same paragraph) in every language."""

    @classmethod
    def regular(
        cls, languages: Sequence[str], n: int, *, parallel: bool = False, cluster_size: int = 1
    ) -> Self:
        """``n`` examples in every language, in clusters of ``cluster_size`` neighbours."""
        example = np.tile(np.arange(n, dtype=np.int32), len(languages))
        offsets = np.arange(len(languages) + 1, dtype=np.int64) * n
        return cls(tuple(languages), offsets, example, example // np.int32(cluster_size), parallel)

    @cached_property
    def sizes(self) -> np.ndarray:
        """(L,) examples per language."""
        return np.diff(self.offsets)

    @cached_property
    def clustered(self) -> bool:
        return not np.array_equal(self.example, self.cluster)

    @cached_property
    def _groups(self) -> tuple[np.ndarray, np.ndarray]:
        """Independent sampling units.

        (N,) group of each position, (G,) language of each group (0 if parallel).
        """
        unit = self.cluster.astype(np.int64)
        if self.parallel:
            found, group = np.unique(unit, return_inverse=True)
            return group, np.zeros(len(found), dtype=np.int64)
        language = np.repeat(np.arange(len(self.languages)), self.sizes)
        low = int(unit.min(initial=0))
        span = int(unit.max(initial=0)) - low + 1
        found, group = np.unique(language * span + (unit - low), return_inverse=True)
        return group, found // span

    def subset(self, languages: Sequence[str]) -> tuple[Self, np.ndarray]:
        """The test set in some of its languages, and the (N',) positions that it keeps."""
        kept = [self.languages.index(language) for language in languages]
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in kept]
        at = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.sizes[kept])]).astype(np.int64)
        whole = type(self)(tuple(languages), offsets, self.example[at], self.cluster[at], self.parallel)
        return whole, at

    def same_as(self, other: Examples) -> bool:
        return (
            self.languages == other.languages
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.example, other.example)
            and np.array_equal(self.cluster, other.cluster)
        )

    def language_means(self, values: np.ndarray) -> np.ndarray:
        """(..., N) -> (..., L): mean over the examples of each language."""
        return np.add.reduceat(values, self.offsets[:-1], axis=-1) / self.sizes

    def variance(self, d: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
        """Variance over new examples of ``sum_l weights[l] * mean_e d[l, e]``, and its degrees of freedom.

        ``d`` is (N,), ``weights`` (L,). Units are clusters; with a parallel test set a unit spans the
        languages. Equals Var(d) / n summed over languages for nested sets, Var(D) / n for parallel ones, and
        the cluster-robust form with G / (G - 1) for clusters (statistics reference, section 2.2).
        """
        share = weights / self.sizes
        deviation = (d - np.repeat(self.language_means(d), self.sizes)) * np.repeat(share, self.sizes)
        if not self.parallel and not self.clustered:
            groups = self.sizes
            squares = np.add.reduceat(deviation * deviation, self.offsets[:-1])
        else:
            group, block = self._groups
            sums = np.bincount(group, weights=deviation, minlength=len(block))
            groups = np.bincount(block)
            squares = np.bincount(block, weights=sums * sums)
        if np.any(groups < 2):
            short = (
                "the test set" if self.parallel else f"language `{self.languages[int(np.argmin(groups))]}`"
            )
            raise AnalysisError(
                f"{short} holds one {'cluster' if self.clustered else 'example'}: no variance over examples",
                "score at least two examples (of two clusters) in every language",
            )
        return float(np.sum(squares * groups / (groups - 1))), int(np.sum(groups - 1))


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
    within: np.ndarray
    """(L,) run-specific example variance, mean_e Var_s(phi) - Var_s(score); 0 with one run."""

    @property
    def deterministic(self) -> bool:
        return self.seeds == (DETERMINISTIC,)

    @classmethod
    def from_counts(
        cls, examples: Examples, num: np.ndarray, den: np.ndarray, seeds: Sequence[int] | None = None
    ) -> Self:
        """Reduce per-run numerators and denominators, (S, N) in test-set order; ``seeds`` default to 0..S-1.

        Raises ``AnalysisError`` for arrays of another shape or a negative seed beside others.
        """
        num, den = np.atleast_2d(num).astype(np.float64), np.atleast_2d(den).astype(np.float64)
        seeds = tuple(range(len(num))) if seeds is None else tuple(seeds)
        if num.shape != den.shape or num.shape != (len(seeds), len(examples.example)):
            raise AnalysisError(
                f"num {num.shape} and den {den.shape} do not match {len(seeds)} seeds x "
                f"{len(examples.example)} examples",
                "pass (seeds, examples) arrays in the order of the test set",
            )
        if DETERMINISTIC in seeds and len(seeds) > 1:
            raise AnalysisError(
                f"a deterministic run (seed -1) stands beside other seeds: {seeds}",
                "a cell in which nothing is trained has one run",
            )
        mean_den = examples.language_means(den)
        # 0 / 0 (nothing predicted, nothing to find) scores 0, as in `tasks.base.Outcomes.score`
        safe = np.where(mean_den > 0, mean_den, 1.0)
        scores = examples.language_means(num) / safe
        if np.array_equal(den, np.ones_like(den)):
            phi = num
        else:
            spread = [np.repeat(part, examples.sizes, axis=1) for part in (scores, safe)]
            phi = spread[0] + (num - spread[0] * den) / spread[1]
        within = np.zeros(len(examples.languages))
        if len(seeds) > 1:
            within = examples.language_means(phi.var(axis=0, ddof=1)) - scores.var(axis=0, ddof=1)
        return cls(examples, seeds, scores, phi.mean(axis=0), np.maximum(within, 0.0))

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
        return type(self)(self.examples, self.seeds, logits, stretched, self.within * slope**2)

    def subset(self, languages: Sequence[str], examples: Examples | None = None) -> Self:
        """The cell in some of its languages; ``examples`` shares one test set object between cells."""
        part, at = self.examples.subset(languages)
        kept = [self.examples.languages.index(language) for language in languages]
        return type(self)(
            examples or part, self.seeds, self.scores[:, kept], self.contributions[at], self.within[kept]
        )


@dataclass(frozen=True)
class Term:
    """One target's part of an estimate: cells by key, their coefficients, and the weights of the languages.

    The same key in several terms means the same training lineage: its seeds are aggregated over targets
    before their variance is taken, because one intermediate checkpoint feeds them all.
    """

    cells: Mapping[Any, Cell]
    coefficients: Mapping[Any, float]
    weights: np.ndarray | None = None
    """(L,) language weights; None for equal ones."""


@dataclass(frozen=True)
class Fit:
    """An estimate on the scale of the scores (fractions)."""

    value: float
    se: float
    df: float
    p: float | None
    """Two-sided; None where the estimated variance is 0 and no test exists."""
    low: float
    high: float
    v_run: float
    v_examples: float
    tier: Tier
    seeds: int
    """Fewest runs behind a trained cell; 0 when all cells are deterministic."""

    @property
    def variance(self) -> float:
        return self.v_run + self.v_examples


def estimate(terms: Sequence[Term], *, tier: Tier = "T2", alpha: float = 0.05) -> Fit:
    """``sum over terms and cells of coefficient x mean score`` with its MWV-t interval (section 2.2 and 2.5).

    V_run: per key, scores weighted by coefficient are summed over terms seed by seed, then their variance
    over seeds is divided by S. V_examples: per term, the sampling variance of the contrast of contributions,
    less the run-specific part that V_run already holds; terms have different test examples, so their
    variances add. Welch-Satterthwaite degrees of freedom over all parts; a deterministic cell adds no run
    variance and no degrees of freedom.

    Raises ``AnalysisError`` for a trained cell with one run (only ``T0`` exists there), for seeds that differ
    between the terms of one key, and for an empty list of terms.
    """
    if not terms:
        raise AnalysisError("an estimate needs at least one target", "check that the outcomes hold the cells")
    value = 0.0
    by_key: dict[Hashable, tuple[tuple[int, ...], np.ndarray]] = {}
    parts: list[tuple[float, int]] = []
    for term in terms:
        shift, variance, df = _examples_part(term, by_key, subtract=tier != "T0")
        value += shift
        parts.append((variance, df))
    runs = [(float(np.var(z, ddof=1)) / len(s), len(s) - 1) for s, z in by_key.values() if len(s) > 1]
    single = [key for key, (s, _) in by_key.items() if len(s) == 1]
    if single and tier != "T0":
        raise AnalysisError(
            f"tier {tier} needs two or more runs in every trained cell; one in: {', '.join(map(str, single))}",
            'train more seeds, or ask for tier="T0" (these checkpoints, new examples)',
        )
    if tier == "T0":
        runs = []
    elif tier == "T1":
        parts = []
    v_run, v_examples = sum(v for v, _ in runs), sum(v for v, _ in parts)
    total = v_run + v_examples
    # dividing each part's square by its own df also defines the 0/0 of df_run where no run varies
    spread = sum(v * v / df for v, df in runs) + sum(v * v / df for v, df in parts)
    df = total * total / spread if spread > 0 else float(sum(df for _, df in [*runs, *parts]))
    se = float(np.sqrt(total))
    p, half = None, 0.0
    if se > 0:
        p = float(min(1.0, 2.0 * stdtr(df, -abs(value) / se)))
        half = float(stdtrit(df, 1.0 - alpha / 2.0)) * se
    seeds = min((len(s) for s, _ in by_key.values()), default=0)
    return Fit(value, se, df, p, value - half, value + half, v_run, v_examples, tier, seeds)


def _examples_part(
    term: Term, by_key: dict[Hashable, tuple[tuple[int, ...], np.ndarray]], *, subtract: bool
) -> tuple[float, float, int]:
    """Value, example variance and df of one term; adds its per-seed scores to ``by_key``."""
    used = {key: c for key, c in term.coefficients.items() if c != 0.0}
    if not used:
        raise AnalysisError("all coefficients of a term are 0", "drop the term")
    examples = term.cells[next(iter(used))].examples
    count = len(examples.languages)
    weights = (
        np.full(count, 1.0 / count) if term.weights is None else np.asarray(term.weights, dtype=np.float64)
    )
    d = np.zeros(len(examples.example))
    within = np.zeros(count)
    value = 0.0
    for key, c in used.items():
        cell = term.cells[key]
        if cell.examples is not examples and not cell.examples.same_as(examples):
            raise AnalysisError(
                "cells of one target were scored on different examples",
                "evaluate every run on the same test set",
            )
        d += c * cell.contributions
        per_seed = c * (cell.scores @ weights)
        value += float(per_seed.mean())
        if cell.deterministic:
            continue
        within += c * c / len(cell.seeds) * cell.within
        seeds, z = by_key.get(key, (cell.seeds, np.zeros(len(cell.seeds))))
        if seeds != cell.seeds:
            raise AnalysisError(
                f"the runs of {key} have seeds {seeds} on one target and {cell.seeds} on another",
                "aggregate over the seeds that all targets share",
            )
        by_key[key] = seeds, z + per_seed
    if np.any(weights == 0):
        kept = np.flatnonzero(weights)
        examples, at = examples.subset([examples.languages[i] for i in kept])
        d, weights, within = d[at], weights[kept], within[kept]
    variance, df = examples.variance(d, weights)
    if subtract:
        variance = max(0.0, variance - float(np.sum(weights**2 * within / examples.sizes)))
    return value, variance, df


def contrast(
    cells: Sequence[Cell], coefficients: Sequence[float], *, tier: Tier = "T2", alpha: float = 0.05
) -> Fit:
    """``sum_k coefficients[k] * score(cells[k])`` for independently trained cells of one target."""
    keyed = dict(enumerate(cells))
    return estimate([Term(keyed, dict(enumerate(coefficients)))], tier=tier, alpha=alpha)


def did(v1: Cell, v0: Cell, t1: Cell, t0: Cell, *, tier: Tier = "T2", alpha: float = 0.05) -> Fit:
    """The difference in differences (v1 - v0) - (t1 - t0).

    Plus arm with and without, minus arm with and without.
    """
    return contrast([v1, v0, t1, t0], [1.0, -1.0, -1.0, 1.0], tier=tier, alpha=alpha)
