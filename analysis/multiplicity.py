"""Adjusted p-values for a named family, and claims about how many of its members hold.

Confirmatory: Holm, and step-down max-T where the design's correlation is known (`families.py`). Exploratory
map: Benjamini-Hochberg, with Benjamini-Yekutieli as the sensitivity check for any dependence. Replication:
partial conjunctions ("in at least u of n"), of which the claim over all pairs is the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import ndtri, stdtr

from ..errors import AnalysisError

__all__ = [
    "benjamini_hochberg",
    "benjamini_yekutieli",
    "holm",
    "max_p",
    "max_t",
    "partial_conjunction",
    "replicability_count",
    "within_selected",
]

Combination = Literal["bonferroni", "simes"]


def _checked(p: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise AnalysisError(
            f"p-values must be a flat list within [0, 1], not {values!r}", "leave out undefined ones"
        )
    return values


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Step-down adjusted p-values (Holm 1979), (m,) in the order given; controls the familywise error."""
    values = _checked(p)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Step-up adjusted p-values (Benjamini & Hochberg 1995), (m,) in the order given; controls the FDR."""
    return _step_up(p, 1.0)


def benjamini_yekutieli(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Step-up adjusted p-values (Benjamini & Yekutieli 2001), (m,) in the order given.

    Controls the FDR under any dependence, at the price of the factor 1 + 1/2 + ... + 1/m.
    """
    return _step_up(p, float(np.sum(1.0 / np.arange(1, np.size(p) + 1))))


def _step_up(p: Sequence[float] | np.ndarray, penalty: float) -> np.ndarray:
    values = _checked(p)
    order = np.argsort(values, kind="stable")[::-1]
    factors = penalty * len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(values[order] * factors), 1.0)
    return adjusted


def within_selected(
    families: Sequence[Sequence[float] | np.ndarray], selected: Sequence[bool]
) -> list[np.ndarray | None]:
    """Adjusted p-values inside the R families that were ``selected`` of m; None for the others.

    Benjamini-Hochberg in each at level q R / m, so that the expected average false discovery proportion over
    the selected ones is at most q (Benjamini & Bogomolov 2014): the BH-adjusted values times m / R. For
    languages inside the cells of a map that were found. ``AnalysisError`` where the two are not of one length.
    """
    if len(families) != len(selected):
        raise AnalysisError(
            f"{len(families)} families of p-values but {len(selected)} selections", "one flag for each family"
        )
    kept = sum(bool(flag) for flag in selected)
    return [
        np.minimum(benjamini_hochberg(p) * len(families) / kept, 1.0) if flag else None
        for p, flag in zip(families, selected, strict=True)
    ]


def max_t(
    statistics: Sequence[float] | np.ndarray,
    df: float | Sequence[float] | np.ndarray,
    correlation: np.ndarray,
    *,
    draws: int = 100_000,
    seed: int = 0,
) -> np.ndarray:
    """Step-down adjusted p-values from the joint distribution of the largest |t| (Westfall & Young 1993).

    Parametric: ``draws`` vectors of normals with the design's (m, m) ``correlation``. One number for ``df``
    means that all statistics are divided by one common standard error: the multivariate t. A list, (m,),
    means standard errors of their own: each statistic is read as a normal score through its own t, and the
    normal scores have the correlation. ``inf`` is the normal. Two-sided; (m,) in the order given; controls
    the familywise error as far as the correlation is right, and never rejects less than Holm but for the
    Monte-Carlo error of ``sqrt(p (1 - p) / draws)``.

    Raises ``AnalysisError`` for a matrix of another shape or that is no correlation matrix.
    """
    t = np.abs(np.asarray(statistics, dtype=np.float64))
    freedom, r = np.asarray(df, dtype=np.float64), np.asarray(correlation, dtype=np.float64)
    if t.ndim != 1 or r.shape != (len(t), len(t)) or freedom.shape not in ((), t.shape):
        raise AnalysisError(
            f"{t.shape} statistics, {freedom.shape} degrees of freedom and a {r.shape} correlation do not match",
            "pass (m,) statistics, one or (m,) degrees of freedom and an (m, m) correlation",
        )
    if np.isnan(t).any() or not (freedom > 0).all() or draws < 1:
        raise AnalysisError("statistics must be numbers, df and draws positive", "leave out undefined tests")
    if not len(t):
        return t
    root = _square_root(r)
    rng = np.random.default_rng(seed)
    order = np.argsort(-t, kind="stable")
    if freedom.ndim:
        order = np.argsort(_two_sided(t, freedom), kind="stable")
        t = -ndtri(_two_sided(t, freedom) / 2.0)
    hits = np.zeros(len(t))
    done = 0
    while done < draws:
        count = min(20_000, draws - done)  # a block of normals for 81 tests stays below 30 MB
        z = np.abs(rng.standard_normal((count, root.shape[1])) @ root.T)
        if not freedom.ndim and np.isfinite(freedom):
            z /= np.sqrt(rng.chisquare(float(freedom), count) / freedom)[:, None]
        # the largest among this test and all that are less extreme
        largest = np.maximum.accumulate(z[:, order[::-1]], axis=1)[:, ::-1]
        hits += np.sum(largest >= t[order], axis=0)
        done += count
    adjusted = np.empty(len(t))
    adjusted[order] = np.maximum.accumulate((hits + 1.0) / (draws + 1.0))
    return adjusted


def _two_sided(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    # scipy's t has no infinite df; at 1e15 it is the normal to the last digit
    return 2.0 * stdtr(np.minimum(df, 1e15), -t)


def _square_root(r: np.ndarray) -> np.ndarray:
    """A with A A' = r, for a correlation matrix that may be singular."""
    values, vectors = np.linalg.eigh((r + r.T) / 2.0)
    if not np.allclose(r, r.T, atol=1e-8) or not np.allclose(np.diag(r), 1.0, atol=1e-8) or values[0] < -1e-8:
        raise AnalysisError(
            "this is no correlation matrix: not symmetric, not 1 on the diagonal, or with a negative eigenvalue",
            "take it from families.design_correlation",
        )
    return vectors * np.sqrt(np.maximum(values, 0.0))


def partial_conjunction(
    p: Sequence[float] | np.ndarray, u: int, *, method: Combination = "bonferroni"
) -> float:
    """p-value of "fewer than ``u`` of the n hypotheses are false": small means an effect in at least u.

    Benjamini & Heller (2008): the n - u + 1 largest p-values are combined; ``bonferroni`` is valid for any
    dependence, ``simes`` for positive dependence. Made monotone in u, so that "at least 3" is never surer
    than "at least 2" (Dror et al. 2017). Fisher's combination is not offered: targets share checkpoints.

    Raises ``AnalysisError`` unless 1 <= u <= n.
    """
    values = np.sort(_checked(p))
    if not 1 <= u <= len(values):
        raise AnalysisError(
            f"u = {u} of {len(values)} hypotheses", f"u goes from 1 to {len(values)}: in at least u of them"
        )
    return float(_conjunctions(values, method)[u - 1])


def replicability_count(
    p: Sequence[float] | np.ndarray, alpha: float = 0.05, *, method: Combination = "bonferroni"
) -> int:
    """The largest u for which "an effect in at least u of n" holds at level ``alpha``; 0 where none does.

    A 1 - alpha lower bound for the number of effects; with ``bonferroni`` the number that Holm rejects.
    """
    values = np.sort(_checked(p))
    return int(np.sum(_conjunctions(values, method) <= alpha))


def _conjunctions(values: np.ndarray, method: Combination) -> np.ndarray:
    """(n,) partial-conjunction p-values for u = 1..n of ascending p-values."""
    n = len(values)
    if method == "bonferroni":
        raw = values * np.arange(n, 0, -1)
    elif method == "simes":
        raw = np.array([np.min((n - u) * values[u:] / np.arange(1, n - u + 1)) for u in range(n)])
    else:
        raise AnalysisError(f"no combination `{method}`", "use bonferroni or simes")
    return np.minimum(np.maximum.accumulate(raw), 1.0)


def max_p(p: Sequence[float] | np.ndarray) -> float:
    """p-value of "in every one of them": the largest (the intersection-union test, u = n).

    For a claim over all encoder pairs; the effects must also point the same way, which the caller checks.
    ``AnalysisError`` without p-values.
    """
    values = _checked(p)
    if not len(values):
        raise AnalysisError("no p-values to take the largest of", "pass one for each pair")
    return float(values.max())
