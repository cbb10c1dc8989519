"""A test set and the runs scored on it, reduced to what every contrast of cells needs.

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
from typing import Any, Self

import numpy as np

from ..errors import AnalysisError
from .influence import Score, leave_one_out

__all__ = ["DETERMINISTIC", "Cell", "Examples"]

DETERMINISTIC = -1
"""Seed index of a cell in which nothing was trained: one run, run variance 0, no degrees of freedom."""
DUPLICATE_MINIMUM = 200
"""Two seeds with equal outcomes on this many examples share their training; on fewer they may agree by chance."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The test set of one target: N positions, one language after the other.

    ``regular`` makes one of equal languages, ``labelled`` one from a column of languages. Raises
    ``AnalysisError`` where the parts contradict each other and where a language has no examples.
    """

    languages: tuple[str, ...]
    offsets: np.ndarray
    """(L + 1,) int64; language l holds positions ``offsets[l]:offsets[l + 1]``."""
    example: np.ndarray
    """(N,) int32 example ids."""
    cluster: np.ndarray
    """(N,) int32 paragraph or document ids; equal to ``example`` where there are none."""
    parallel: bool = False
    """Whether an id means the same item (and a cluster the same paragraph) in every language."""

    def __post_init__(self) -> None:
        n, sizes = len(self.example), np.diff(self.offsets)
        if len(self.cluster) != n or len(self.offsets) != len(self.languages) + 1:
            raise AnalysisError(
                f"{n} example ids, {len(self.cluster)} cluster ids, {len(self.languages)} languages and "
                f"{len(self.offsets)} offsets do not match",
                "one id of each kind per example, and one offset more than languages",
            )
        if self.offsets[0] != 0 or self.offsets[-1] != n or np.any(sizes < 1):
            raise AnalysisError(
                f"the offsets {np.asarray(self.offsets).tolist()} do not cut {n} examples into languages",
                "offsets start with 0, grow and end with the number of examples; leave out empty languages",
            )
        if len(set(self.languages)) < len(self.languages):
            raise AnalysisError(
                f"a language is listed twice: {', '.join(self.languages)}", "sort the examples by language"
            )

    @classmethod
    def regular(
        cls, languages: Sequence[str], n: int, *, parallel: bool = False, cluster_size: int = 1
    ) -> Self:
        """``n`` examples in every language, in clusters of ``cluster_size`` neighbours."""
        if isinstance(languages, str) or n < 1 or cluster_size < 1:
            raise AnalysisError(
                f"no test set of {n} examples in clusters of {cluster_size} for {languages!r}",
                'pass a list of languages, such as ["en", "de"], and positive numbers',
            )
        example = np.tile(np.arange(n, dtype=np.int32), len(languages))
        offsets = np.arange(len(languages) + 1, dtype=np.int64) * n
        return cls(tuple(languages), offsets, example, example // np.int32(cluster_size), parallel)

    @classmethod
    def labelled(
        cls,
        language: Sequence[str] | np.ndarray,
        *,
        example: Sequence[Any] | np.ndarray | None = None,
        cluster: Sequence[Any] | np.ndarray | None = None,
        parallel: bool = False,
    ) -> Self:
        """From columns of a table of N rows sorted by language: the language of each row, and ids of any type.

        ``example`` names items and defaults to the place within the language; ``cluster`` names paragraphs or
        documents and defaults to ``example``. Of a ``parallel`` test set both mean the same in every language.
        Raises ``AnalysisError`` for columns of different lengths, for rows that are not sorted by language and
        for an example that a language holds twice.
        """
        names = np.asarray(language)
        ids = [None if x is None else np.asarray(x) for x in (example, cluster)]
        if names.ndim != 1 or not len(names) or any(x is not None and x.shape != names.shape for x in ids):
            raise AnalysisError(
                f"{names.shape} languages with {[None if x is None else x.shape for x in ids]} ids",
                "pass columns with one entry per row",
            )
        starts = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1, [len(names)]])
        sizes = np.diff(starts)
        places = np.arange(len(names)) - np.repeat(starts[:-1], sizes)
        items, paragraphs = (
            None if x is None else np.unique(x, return_inverse=True)[1].astype(np.int32) for x in ids
        )
        if parallel and items is None and len(set(sizes.tolist())) > 1:
            raise AnalysisError(
                f"a parallel test set of {sizes.tolist()} examples without ids: which of them are the same?",
                "pass example=, an id that is the same for the same item in every language",
            )
        items = places.astype(np.int32) if items is None else items
        keys = np.repeat(np.arange(len(sizes)), sizes) * (int(items.max()) + 1) + items
        if len(np.unique(keys)) < len(names):
            raise AnalysisError(
                "a language holds the same example twice", "pass paragraph or document ids as cluster="
            )
        return cls(
            tuple(str(names[i]) for i in starts[:-1]),
            starts.astype(np.int64),
            items,
            items if paragraphs is None else paragraphs,
            parallel,
        )

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
        unknown = [language for language in languages if language not in self.languages]
        if unknown:
            raise AnalysisError(
                f"the test set has no language `{unknown[0]}`", f"it has {', '.join(self.languages)}"
            )
        kept = [self.languages.index(language) for language in languages]
        parts = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in kept]
        at = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(self.sizes[kept])]).astype(np.int64)
        whole = type(self)(tuple(languages), offsets, self.example[at], self.cluster[at], self.parallel)
        return whole, at

    def same_as(self, other: Examples) -> bool:
        return (
            self.languages == other.languages
            and self.parallel == other.parallel
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.example, other.example)
            and np.array_equal(self.cluster, other.cluster)
        )

    def language_means(self, values: np.ndarray) -> np.ndarray:
        """(..., N) -> (..., L): mean over the examples of each language."""
        return np.add.reduceat(values, self.offsets[:-1], axis=-1) / self.sizes

    def _deviations(self, d: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(..., N) -> (..., N): deviations from the language's mean, times weight over size; weights (..., L)."""
        share = np.repeat(weights / self.sizes, self.sizes, axis=-1)
        return (d - np.repeat(self.language_means(d), self.sizes, axis=-1)) * share

    def unit_sums(self, d: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(m, N) contrasts with (m, L) weights -> (m, G) by sampling unit: ``U @ U.T`` is the covariance over
        new examples of ``sum_l weights[l] * mean_e d[l, e]``, whose diagonal is ``variance``."""
        deviations = self._deviations(d, weights)
        if not self.parallel and not self.clustered:
            groups = np.repeat(self.sizes, self.sizes)
        else:
            group, block = self._groups
            order = np.argsort(group, kind="stable")
            starts = np.concatenate([[0], np.cumsum(np.bincount(group))[:-1]])
            deviations = np.add.reduceat(deviations[:, order], starts, axis=1)
            groups = np.bincount(block)[block]
        return deviations * np.sqrt(np.where(groups > 1, groups / np.maximum(groups - 1, 1), 0.0))

    def run_noise(self, phi: np.ndarray) -> np.ndarray:
        """(S, N) contributions of the runs of a cell -> (L, L) covariance over new examples of one run's own part.

        ``sum_s U_s U_s' / (S - 1)``, where U_s are sums over sampling units of a run's deviations from the mean of
        runs. Languages that share no unit have none in common: section 2.2's ``within_l / n_l`` on the diagonal. Where
        the languages are parallel, runs err on the same item in several of them, and in a paragraph on several
        questions; all of that is in the spread of the runs already.
        """
        runs, count = len(phi), len(self.languages)
        if runs == 1:
            return np.zeros((count, count))
        own = phi - phi.mean(axis=0)
        own -= np.repeat(self.language_means(own), self.sizes, axis=1)
        own /= np.repeat(self.sizes, self.sizes)
        if not self.parallel and not self.clustered:
            squares = np.add.reduceat(np.einsum("sn,sn->n", own, own), self.offsets[:-1])
            return np.diag(squares / (runs - 1))
        unit, block = self._groups
        if not self.parallel:
            sums = np.stack([np.bincount(unit, weights=row, minlength=len(block)) for row in own])
            return np.diag(np.bincount(block, weights=(sums**2).sum(axis=0)) / (runs - 1))
        units = len(block)
        if np.array_equal(unit, np.tile(np.arange(units), count)):
            sums = own.reshape(runs, count, units)
        else:
            at = np.repeat(np.arange(count), self.sizes) * units + unit
            sums = np.stack([np.bincount(at, weights=row, minlength=count * units) for row in own])
            sums = sums.reshape(runs, count, units)
        return np.sum(sums @ sums.transpose(0, 2, 1), axis=0) / (runs - 1)

    def variance(self, d: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
        """Variance over new examples of ``sum_l weights[l] * mean_e d[l, e]``, and its degrees of freedom.

        ``d`` is (N,), ``weights`` (L,). Units are clusters; with a parallel test set a unit spans the
        languages. Equals Var(d) / n summed over languages for nested sets, Var(D) / n for parallel ones, and
        the cluster-robust form with G / (G - 1) for clusters (statistics reference, section 2.2).
        """
        deviation = self._deviations(d, weights)
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
    noise: np.ndarray
    """(L, L) covariance over new examples of what one run's language scores owe to errors of its own; 0 with one run.

    With nested test sets a diagonal, ``[mean_e Var_s(phi) - Var_s(score)] / n``."""

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
