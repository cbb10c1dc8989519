"""Moderated run variances: in a large family, every cell's variance borrows from the others (Smyth 2004).

Three seeds estimate a variance with few degrees of freedom; over 81 cells the variances themselves tell how
much they differ. With a scaled inverse chi-squared prior (d0, s0^2), fitted by moments of the log variances,
each variance becomes ``(d0 s0^2 + d s^2) / (d0 + d)`` with d0 + d degrees of freedom (statistics reference,
section 2.6).

Runs of unlike targets are not alike: a retrieval without target training varies by tenths of a point, a small
classification task by several. A prior over all cells then learns only that, and lends nothing. ``groups`` give
every target a level of its own, which s0^2 is; d0 then says how cells differ about their target's level (the
residual variance of the log variances: a trend in limma's sense with the target as covariate). Two things are
unlike limma's genes. Cells of a target share their runs without intermediate training, so that their variances
resemble each other by chance alone: that share is taken off before chance is subtracted from the spread. And a
level is estimated from few independent runs: its own df, by Welch-Satterthwaite, bound those of the cells that
lean on it. The levels are moderated in turn, over the targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from scipy.special import polygamma, psi

from ..errors import AnalysisError
from .fit import Fit

__all__ = ["SMALLEST_FAMILY", "Group", "Moderation", "moderate", "moderated"]

F = TypeVar("F", bound=Fit)
SMALLEST_FAMILY = 20
"""Cells from which on the prior is known well enough to be used."""
SMALLEST_GROUP = 3
"""Cells from which on a group has a level of its own; and groups from which on their levels are moderated."""


@dataclass(frozen=True, eq=False)
class Group:
    """Estimates whose run variances have a level in common: the cells of one target.

    Made by `families.by_target`. K are the training cells that the group's estimates use, some of which they share.
    """

    members: tuple[int, ...]
    """(g,) positions in the family."""
    variances: np.ndarray
    """(g, K) what each training cell adds to the run variance of each member: coefficient^2 s^2 / S."""
    scales: np.ndarray
    """(g, K) the same for runs of variance 1: coefficient^2 / S."""
    dfs: np.ndarray
    """(K,) S - 1."""

    @property
    def level_df(self) -> float:
        """df of the mean run variance over the members, by Welch-Satterthwaite: shared training cells count once."""
        mean = (self.variances / self.scales.sum(axis=1, keepdims=True)).mean(axis=0)
        return float(mean.sum() ** 2 / np.sum(mean**2 / self.dfs))

    @property
    def shared(self) -> float:
        """Mean correlation of the members' estimated variances, were all runs equally noisy: .5 for one baseline."""
        relative = self.scales / self.scales.sum(axis=1, keepdims=True)
        covariance = (relative / self.dfs) @ relative.T
        own, count = float(np.trace(covariance)), len(covariance)
        return (float(covariance.sum()) - own) / (own * (count - 1))


@dataclass(frozen=True, eq=False)
class Moderation:
    """The prior of a family of variances and what it makes of them."""

    variances: np.ndarray
    """(m,) moderated variances."""
    dfs: np.ndarray
    """(m,) prior + own df, at most the residual df of the whole family; less where a group's level is uncertain."""
    prior_df: float
    """``inf`` where the variances differ no more than their df explain: about their group's level, given groups."""
    prior_variance: float
    """s0^2; given groups, the geometric mean of their moderated levels."""
    levels: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """(groups,) moderated level of each group; nan for groups that are too small to have one."""


def moderate(
    variances: Sequence[float] | np.ndarray,
    dfs: Sequence[float] | np.ndarray,
    groups: Sequence[Group] = (),
    *,
    own_dfs: Sequence[float] | np.ndarray | None = None,
) -> Moderation:
    """Moderate (m,) variances with (m,) residual df, by (m,) ``dfs`` that say how well each is known.

    ``own_dfs``, (m,), are what is added to the prior's for a test, where that is less than the residual df; ``groups``
    have levels of their own (module docstring). Groups of fewer than three cells with df, or without any
    variance above 0, have none: their cells lean on the level of all, with the spread of the groups' levels
    added to that of cells. Levels of fewer than three groups are not moderated in turn.

    Variances of 0 are lifted to 1e-5 of the median for the fit of the prior (their logarithm does not
    exist); entries with df 0 take no part in it and receive the prior. Where the prior df are infinite every
    variance is the pooled one (of its group), weighted by df (limma takes the plain mean). Raises ``AnalysisError``
    for fewer than two variances with df, for arrays of different lengths and where all variances are 0.
    """
    s2, d = np.asarray(variances, dtype=np.float64), np.asarray(dfs, dtype=np.float64)
    own = d if own_dfs is None else np.asarray(own_dfs, dtype=np.float64)
    if (
        s2.ndim != 1
        or not s2.shape == d.shape == own.shape
        or np.any(s2 < 0)
        or np.any(d < 0)
        or np.any(own < 0)
        or not np.isfinite(s2 + d + own).all()
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
    levelled = [k for k, group in enumerate(groups) if _has_level(group, s2, d)]
    if levelled:
        return _moderate_groups(s2, d, own, groups, levelled)
    d0, s02 = _prior(s2[known], d[known])
    return Moderation(
        _squeezed(s2, d, d0, s02),
        np.minimum(d0 + own, float(d.sum())),
        d0,
        s02,
        np.full(len(groups), np.nan),
    )


def _squeezed(s2: np.ndarray, d: np.ndarray, d0: float, s02: float) -> np.ndarray:
    return np.full_like(s2, s02) if np.isinf(d0) else (d0 * s02 + d * s2) / (d0 + d)


def _has_level(group: Group, s2: np.ndarray, d: np.ndarray) -> bool:
    at = list(group.members)
    return len(at) >= SMALLEST_GROUP and bool(np.all(d[at] > 0) and np.any(s2[at] > 0))


def _moderate_groups(
    s2: np.ndarray, d: np.ndarray, own: np.ndarray, groups: Sequence[Group], levelled: Sequence[int]
) -> Moderation:
    members = [list(groups[k].members) for k in levelled]
    logs = [_log_variances(s2[at], d[at]) for at in members]
    cells = sum(map(len, members))
    spread = sum(float(np.sum((e - e.mean()) ** 2)) for e in logs) / (cells - len(members))
    chance = sum(
        float(polygamma(1, d[at] / 2.0).sum()) * (1.0 - groups[k].shared)
        for k, at in zip(levelled, members, strict=True)
    )
    excess = spread - chance / cells
    d0 = 2.0 * _inverse_trigamma(excess) if excess > 0 else np.inf
    levels = np.array(
        [
            np.sum(d[at] * s2[at]) / d[at].sum() if np.isinf(d0) else _level(e, d0)
            for at, e in zip(members, logs, strict=True)
        ]
    )
    level_dfs = np.array([groups[k].level_df for k in levelled])
    if len(levelled) >= SMALLEST_GROUP:
        above = moderate(levels, level_dfs)
        levels, level_dfs = above.variances, above.dfs
        alone = _both(d0, above.prior_df, above.prior_variance)
    else:
        alone = _prior(s2[d > 0], d[d > 0])
    new = _squeezed(s2, d, *alone)
    dfs = np.minimum(alone[0] + own, float(d.sum()))
    told = np.full(len(groups), np.nan)
    for k, at, level, df in zip(levelled, members, levels.tolist(), level_dfs.tolist(), strict=True):
        told[k] = level
        new[at] = _squeezed(s2[at], d[at], d0, level)
        lent = level / new[at] * (1.0 if np.isinf(d0) else d0 / (d0 + d[at]))
        dfs[at] = 1.0 / (1.0 / (d0 + own[at]) + lent**2 / df)
    return Moderation(new, dfs, d0, float(np.exp(np.mean(np.log(levels)))), told)


def moderated(
    fits: Sequence[F], groups: Sequence[Group] = (), *, minimum: int = SMALLEST_FAMILY
) -> tuple[list[F], Moderation]:
    """The fits of one family with the run variance of each moderated, and the prior.

    What is moderated is the variance of one run, ``v_run / run_scale``, with the sum of S - 1 as its df; in a map
    ``groups`` (`families.by_target`, for the same contrasts in the same order) are its targets. The
    moderated variance has the prior's df and the estimate's own by Welch (limma would take the sum of S - 1, but
    a mean of unequal variances has fewer). The example part is added as before and the dfs are combined by
    Satterthwaite. ``p_unmoderated`` keeps the former p-value. Fits without runs (every cell deterministic) stay
    as they are.

    Familywise error of Holm over 9 x 9 cells at S = 3, and its power for an effect of five standard errors
    (`tests/speed/moderation.py`, 6,000 families, +- .003), where test examples weigh nothing, and half as much as runs:

    | run SDs | own variance | moderated, one level | moderated, by target |
    |---|---|---|---|
    | equal | .011 / .18, .065 / .61 | .050 / .92, .052 / .94 | .034 / .90, .046 / .93 |
    | log-SD .4 over cells | .017 / .18, .089 / .59 | .065 / .77, .072 / .89 | .052 / .77, .070 / .89 |
    | log-SD .4 over targets and cells | .017 / .18, .089 / .59 | .042 / .50, .081 / .77 | .052 / .67, .078 / .84 |
    | 1 over targets, .2 over cells | .011 / .18, .072 / .61 | .021 / .29, .073 / .66 | .039 / .65, .059 / .82 |
    | those of mini | .015 / .15, .088 / .57 | .028 / .27, .075 / .57 | .045 / .57, .067 / .79 |

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
    for i, scale in ((i, x) for g in groups for i, x in zip(g.members, g.scales.sum(axis=1), strict=True)):
        if i >= len(fits) or abs(scale - fits[i].run_scale) > 1e-9 * scale:
            raise AnalysisError(
                f"the groups are not those of these {len(fits)} estimates: number {i} has other runs",
                "make them by by_target from the same contrasts in the same order",
            )
    at = {i: k for k, i in enumerate(i for i, fit in enumerate(fits) if fit.df_residual > 0)}
    prior = moderate(
        [fit.v_run / fit.run_scale for fit in trained],
        [fit.df_residual for fit in trained],
        # a target without runs in one cell has none in any
        [replace(g, members=tuple(at[i] for i in g.members)) for g in groups if set(g.members) <= at.keys()],
        own_dfs=[fit.df_run for fit in trained],
    )
    news = iter(zip(prior.variances.tolist(), prior.dfs.tolist(), strict=True))
    changed = [fit.moderated(*next(news)) if fit.df_residual > 0 else fit for fit in fits]
    return changed, prior


def _both(d0: float, level_df: float, level: float) -> tuple[float, float]:
    """The prior of a cell in no group with a level: cells spread about levels, and these about ``level``."""
    spread = sum(float(polygamma(1, x / 2.0)) for x in (d0, level_df) if np.isfinite(x))
    if spread == 0.0:
        return np.inf, level
    mean_log = np.log(level) - (float(_bias(level_df)) if np.isfinite(level_df) else 0.0)
    both = 2.0 * _inverse_trigamma(spread)
    return both, _level(mean_log, both)


def _log_variances(s2: np.ndarray, d: np.ndarray) -> np.ndarray:
    """log s^2 without what its logarithm is biased by (Smyth 2004, section 6.2)."""
    return np.log(np.maximum(s2, 1e-5 * np.median(s2) or 1e-5 * s2.max())) - _bias(d)


def _bias(d: np.ndarray | float) -> np.ndarray:
    """Expectation of the log of a variance estimated with d df, less the log of the true one."""
    return psi(d / 2.0) - np.log(d / 2.0)


def _level(e: np.ndarray | float, d0: float) -> float:
    return float(np.exp(np.mean(e) + _bias(d0)))


def _prior(s2: np.ndarray, d: np.ndarray) -> tuple[float, float]:
    """(d0, s0^2) by the moments of log s^2 (Smyth 2004, section 6.2)."""
    e = _log_variances(s2, d)
    excess = float(e.var(ddof=1) - polygamma(1, d / 2.0).mean())
    if excess <= 0:
        # as much spread as chance alone makes: one variance for all, the maximum-likelihood estimate of which
        # is the pooled one
        return float("inf"), float(np.sum(d * s2) / d.sum())
    d0 = 2.0 * _inverse_trigamma(excess)
    return d0, _level(e, d0)


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
