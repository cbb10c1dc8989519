"""Hierarchical bootstrap over runs and test examples, as a cross-check of the closed form.

From sufficient statistics (numerators and denominators), with the same example weights for every run and language, so
that resampling is a matrix product. Two corrections make it one of the right variance: of S runs S - 1 are redrawn, and of
n examples n - 1 (Rao & Wu 1988), since S of S would give (S - 1) / S of the variance; and runs and examples are redrawn one
after the other, not within each other, with the examples' part shrunk by the noise that a run's own examples already gave to
its score. Otherwise that noise would count up to three times (statistics reference, section 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from ..errors import AnalysisError
from .cells import Cell
from .examples import Examples
from .fit import satterthwaite

__all__ = ["Bootstrap", "hierarchical_bootstrap"]

BLOCK = 1000
"""Resamples whose weights are in memory at once."""


@dataclass(frozen=True)
class Bootstrap:
    """On the scale of the scores (fractions)."""

    value: float
    se: float
    """SD of the resampled estimates."""
    df: float
    """Welch-Satterthwaite, as the closed form has them: a few runs do not know their own variance."""
    p: float | None
    low: float
    high: float
    """Interval ``value +- t se``."""
    percentile: tuple[float, float]
    """Of the resamples; too narrow below ten seeds, whatever is resampled."""
    v_run: float
    v_examples: float
    resamples: int


def hierarchical_bootstrap(
    examples: Examples,
    num: Sequence[np.ndarray],
    den: Sequence[np.ndarray],
    coefficients: Sequence[float],
    *,
    weights: np.ndarray | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    alpha: float = 0.05,
) -> Bootstrap:
    """Tier T2 of ``sum_k coefficients[k] score(cell k)`` from (S_k, N) counts of each cell.

    Units are clusters; in a parallel test set a unit spans its languages, in a nested one the languages' units of the
    same rank share their weights (unbiased for the mean over languages, with a relative noise of about sqrt(2 / n)). A
    cell of one run is taken as deterministic. Ratios are recomputed in every resample where a denominator varies. Same
    seed, same numbers. Raises ``AnalysisError`` for counts that do not match and fewer than 100 resamples.
    """
    if resamples < 100 or not len(num) == len(den) == len(coefficients):
        raise AnalysisError(
            f"{resamples} resamples of {len(num)} numerators, {len(den)} denominators, {len(coefficients)} coefficients",
            "a hundred resamples or more, and one coefficient and both counts for each cell",
        )
    count = len(examples.languages)
    share = np.full(count, 1.0 / count) if weights is None else np.asarray(weights, dtype=np.float64)
    cells = [Cell.from_counts(examples, n, d) for n, d in zip(num, den, strict=True)]
    scored = [cell.scores @ share for cell in cells]
    value = float(sum(c * z.mean() for c, z in zip(coefficients, scored, strict=True)))
    rng = np.random.default_rng(seed)
    runs = np.zeros(resamples)
    for c, z in zip(coefficients, scored, strict=True):
        if len(z) > 1:
            taken = z[rng.integers(0, len(z), (resamples, len(z) - 1))]
            runs += c * (taken.mean(axis=1) - z.mean())
    units = _units(examples)
    if units[0] < 2:
        raise AnalysisError(
            "the test set holds one example or cluster: nothing to resample", "score two or more"
        )
    contrasts = _contrasts(units[:2], num, den, np.asarray(coefficients), share, resamples, rng)
    deviations = contrasts - contrasts.mean()
    own = sum(
        c * c / len(z) * cell.own_noise(share)
        for c, z, cell in zip(coefficients, scored, cells, strict=True)
        if len(z) > 1
    )
    raw = float(deviations.var(ddof=1))
    v_examples = max(0.0, raw - own)
    draws = value + runs + (deviations * np.sqrt(v_examples / raw) if raw > 0 else 0.0)
    parts = [
        (c * c * float(z.var(ddof=1)) / len(z), len(z) - 1.0)
        for c, z in zip(coefficients, scored, strict=True)
        if len(z) > 1
    ]
    parts.append((v_examples, float(units[2])))
    se = float(draws.std(ddof=1))
    df = satterthwaite(sum(v for v, _ in parts), parts)
    half = float(stdtrit(df, 1.0 - alpha / 2.0)) * se
    p = min(1.0, 2.0 * float(stdtr(df, -abs(value) / se))) if se > 0 else None
    low, high = (float(q) for q in np.quantile(draws, [alpha / 2.0, 1.0 - alpha / 2.0]))
    return Bootstrap(
        value,
        se,
        df,
        p,
        value - half,
        value + half,
        (low, high),
        float(runs.var(ddof=1)),
        v_examples,
        resamples,
    )


def _contrasts(
    table: tuple[int, np.ndarray],
    num: Sequence[np.ndarray],
    den: Sequence[np.ndarray],
    coefficients: np.ndarray,
    share: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """(B,) the contrast with examples redrawn, runs averaged."""
    (units, place), count = table, len(share)
    if all(np.all(np.asarray(d) == 1.0) for d in den):
        # runs average before the ratio, since all have the same number of examples
        tops = [coefficients @ np.stack([np.atleast_2d(n).mean(axis=0) for n in num])]
        bottoms, scale = [np.ones(len(place))], np.ones(1)
    else:
        tops, bottoms = (list(np.concatenate([np.atleast_2d(cell) for cell in part])) for part in (num, den))
        scale = np.concatenate([np.full(len(n), c / len(n)) for c, n in zip(coefficients, num, strict=True)])
    top, bottom = (_sums(rows, place, units, count) for rows in (tops, bottoms))
    found = np.empty(resamples)
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        picked = rng.integers(0, units, (size, units - 1), dtype=np.int32)
        picked += np.arange(size, dtype=np.int32)[:, None] * units
        drawn = np.bincount(picked.ravel(), minlength=size * units).reshape(size, units).astype(np.float32)
        above, below = drawn @ top, drawn @ bottom
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        ratio = ratio.reshape(size, -1, count).astype(np.float64)
        found[start : start + size] = np.einsum("brl,r,l->b", ratio, scale, share, optimize=True)
    return found


def _units(examples: Examples) -> tuple[int, np.ndarray, int]:
    """How many weights there are, (N,) the place of each position in a (units, languages) table, and all units' df."""
    count = len(examples.languages)
    language = np.repeat(np.arange(count), examples.sizes)
    unit = examples.cluster if examples.clustered or examples.parallel else examples.example
    if examples.parallel:
        found, rank = np.unique(unit, return_inverse=True)
        return len(found), rank * count + language, len(found) - 1
    rank, df = np.empty(len(language), dtype=np.int64), 0
    for start, stop in zip(examples.offsets[:-1], examples.offsets[1:], strict=True):
        found, rank[start:stop] = np.unique(unit[start:stop], return_inverse=True)
        df += len(found) - 1
    return int(rank.max()) + 1, rank * count + language, df


def _sums(rows: Sequence[np.ndarray], place: np.ndarray, units: int, count: int) -> np.ndarray:
    """(units, rows x languages) float32 sums of each unit: counts of examples, exact below 2^24."""
    table = np.empty((units, len(rows), count), dtype=np.float32)
    for i, row in enumerate(rows):
        table[:, i] = np.bincount(place, weights=row, minlength=units * count).reshape(units, count)
    return table.reshape(units, -1)
