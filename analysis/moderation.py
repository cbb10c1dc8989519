"""Moderated run variances: in a large family, every cell's variance borrows from the others (Smyth 2004).

Three seeds estimate a variance with few degrees of freedom; over 81 cells the variances themselves tell how
much they differ. With a scaled inverse chi-squared prior (d0, s0^2), fitted by moments of the log variances,
each variance becomes ``(d0 s0^2 + d s^2) / (d0 + d)`` with d0 + d degrees of freedom (statistics reference,
section 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import polygamma, psi

from ..errors import AnalysisError
from .fit import Fit

__all__ = ["SMALLEST_FAMILY", "Moderation", "moderate", "moderated"]

F = TypeVar("F", bound=Fit)
SMALLEST_FAMILY = 20
"""Cells from which on the prior is known well enough to be used."""


@dataclass(frozen=True, eq=False)
class Moderation:
    """The prior of a family of variances and what it makes of them."""

    variances: np.ndarray
    """(m,) moderated variances."""
    dfs: np.ndarray
    """(m,) prior + residual df, at most the residual df of the whole family."""
    prior_df: float
    """``inf`` where the variances differ no more than their df explain."""
    prior_variance: float


def moderate(variances: Sequence[float] | np.ndarray, dfs: Sequence[float] | np.ndarray) -> Moderation:
    """Moderate (m,) variances with (m,) residual df.

    Variances of 0 are lifted to 1e-5 of the median for the fit of the prior (their logarithm does not
    exist); entries with df 0 take no part in it and receive the prior. Where the prior df are infinite every
    variance is the pooled one, weighted by df (limma takes the plain mean). Raises ``AnalysisError`` for fewer
    than two variances with df, for arrays of different lengths and where all variances are 0.
    """
    s2, d = np.asarray(variances, dtype=np.float64), np.asarray(dfs, dtype=np.float64)
    if (
        s2.ndim != 1
        or s2.shape != d.shape
        or np.any(s2 < 0)
        or np.any(d < 0)
        or not np.isfinite(s2 + d).all()
    ):
        raise AnalysisError(
            f"variances {s2.shape} and degrees of freedom {d.shape} are no two lists of non-negative numbers",
            "pass one run variance and its residual df for each cell",
        )
    known = d > 0
    if known.sum() < 2 or not np.any(s2[known] > 0):
        raise AnalysisError(
            f"{int(known.sum())} variances with degrees of freedom, {int((s2[known] > 0).sum())} above 0: "
            "no prior to estimate",
            "moderate a family of trained cells, or report the unmoderated test",
        )
    d0, s02 = _prior(s2[known], d[known])
    total = float(d.sum())
    if np.isinf(d0):
        return Moderation(np.full_like(s2, s02), np.full_like(d, total), d0, s02)
    return Moderation((d0 * s02 + d * s2) / (d0 + d), np.minimum(d0 + d, total), d0, s02)


def moderated(fits: Sequence[F], *, minimum: int = SMALLEST_FAMILY) -> tuple[list[F], Moderation]:
    """The fits of one family with the run variance of each moderated, and the prior.

    What is moderated is the variance of one run, ``v_run / run_scale``, with the sum of S - 1 as its df. The
    moderated variance has the prior's df and the estimate's own by Welch (limma would take the sum of S - 1, but
    a mean of unequal variances has fewer). The example part is added as before and the dfs are combined by
    Satterthwaite. ``p_unmoderated`` keeps the former p-value. Fits without runs (every cell deterministic) stay
    as they are.

    Familywise error of Holm over 9 x 9 cells at S = 3 (`tests/speed/moderation.py`, 8,000 families, +- .003): .05
    where cells have equal run SDs, .055 where these spread by a factor of 1.2 (log-SD .2), .06 to .07 at 1.5
    (log-SD .4), where limma's df give .07 to .08 and unmoderated tests .02 to .08. Power rises from .15 to .64.

    Raises ``AnalysisError`` for fewer than ``minimum`` fits with runs and for tiers other than T1 and T2.
    """
    wrong = sorted({fit.tier for fit in fits} - {"T1", "T2"})
    if wrong:
        raise AnalysisError(
            f"run variances are moderated at T1 and T2, not at {', '.join(wrong)}",
            'estimate the family with tier="T2"',
        )
    trained = [fit for fit in fits if fit.df_residual > 0]
    if len(trained) < minimum:
        raise AnalysisError(
            f"{len(trained)} estimates with runs are too few to moderate their variances; {minimum} are needed",
            "report the unmoderated tests with Holm",
        )
    prior = moderate([fit.v_run / fit.run_scale for fit in trained], [fit.df_residual for fit in trained])
    total = sum(fit.df_residual for fit in trained)
    variances = iter(prior.variances.tolist())
    changed = [
        fit.moderated(next(variances), min(prior.prior_df + fit.df_run, total))
        if fit.df_residual > 0
        else fit
        for fit in fits
    ]
    return changed, prior


def _prior(s2: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """(d0, s0^2) by the moments of log s^2 (Smyth 2004, section 6.2)."""
    z = np.log(np.maximum(s2, 1e-5 * np.median(s2) or 1e-5 * s2.max()))
    e = z - psi(d / 2.0) + np.log(d / 2.0)
    excess = float(e.var(ddof=1) - polygamma(1, d / 2.0).mean())
    if excess <= 0:
        # as much spread as chance alone makes: one variance for all, the maximum-likelihood estimate of which
        # is the pooled one
        return float("inf"), float(np.sum(d * s2) / d.sum())
    d0 = 2.0 * _inverse_trigamma(excess)
    return d0, float(np.exp(e.mean() + psi(d0 / 2.0) - np.log(d0 / 2.0)))


def _inverse_trigamma(x: float) -> float:
    """y with trigamma(y) = x > 0: Newton's method on 1 / trigamma, which is convex and nearly linear."""
    y = 0.5 + 1.0 / x
    for _ in range(60):
        value = float(polygamma(1, y))
        step = value * (1.0 - value / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-12:
            break
    return y
