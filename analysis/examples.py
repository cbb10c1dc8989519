"""The test set of one target: which examples its languages have, and what is drawn anew when examples are.

Sampling units are examples, or paragraphs and documents where there are such; of a parallel test set a unit spans the
languages (statistics reference, section 2.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from ..errors import AnalysisError

__all__ = ["Examples"]


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
