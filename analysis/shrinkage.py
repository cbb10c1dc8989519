"""The condition x target map, shrunken: a secondary, Bayesian view of many noisy cells (statistics reference, section 2.7).

Model, in points: ``estimates ~ N(theta, covariance)``, ``theta_it ~ N(mu + alpha_i + beta_t, tau^2)``,
``alpha_i ~ N(0, sigma_c^2)``, ``beta_t ~ N(0, sigma_t^2)``, ``mu`` flat, and half-normal(0, ``scale``) priors on tau,
sigma_c and sigma_t. Given these three everything is normal, so that the posterior is an average of normals over a
quadrature of the priors, closed in on where the posterior is: no sampling, the same numbers every time. With three seeds it
leans on the prior; the covariance is taken as known, so pass moderated variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr, ndtri

from ..errors import AnalysisError

__all__ = ["Shrunken", "shrink"]

NODES = 9
"""Quadrature points for each SD."""
PASSES = 4
"""How often the quadrature closes in on the SDs that the estimates leave possible; precise ones leave few."""
NEGLIGIBLE = 1e-4
"""Posterior density, beside the highest, of SDs that are left out."""


@dataclass(frozen=True, eq=False)
class Shrunken:
    """Posterior of the cells, (m,) arrays in the order given, points."""

    mean: np.ndarray
    sd: np.ndarray
    positive: np.ndarray
    """P(theta > 0)."""
    negligible: np.ndarray
    """P(\\|theta\\| < margin)."""
    margin: float
    grand: float
    """Posterior mean of mu."""
    grand_sd: float
    tau: float
    """Posterior means of the SDs: cell, condition, target."""
    sd_conditions: float
    sd_targets: float


def shrink(
    estimates: Sequence[float] | np.ndarray,
    covariance: np.ndarray,
    conditions: Sequence[str],
    targets: Sequence[str],
    *,
    margin: float = 1.0,
    scale: float = 1.0,
) -> Shrunken:
    """Shrink (m,) estimates with their (m, m) covariance (or (m,) variances), each of a condition and a target.

    Cells that share runs without intermediate training correlate: pass the design's covariance
    (`families.design_correlation` between the standard errors). ``margin`` and ``scale`` are in the units of the
    estimates. Raises ``AnalysisError`` for shapes that do not match or a covariance that is not positive definite.
    """
    y = np.asarray(estimates, dtype=np.float64)
    v = np.asarray(covariance, dtype=np.float64)
    v = np.diag(v) if v.ndim == 1 else v
    m = len(y)
    if y.ndim != 1 or m < 2 or v.shape != (m, m) or {len(conditions), len(targets)} != {m}:
        raise AnalysisError(
            f"{y.shape} estimates, covariance {v.shape}, {len(conditions)} conditions and {len(targets)} targets "
            "do not match",
            "one condition and one target for each of two or more estimates",
        )
    if margin <= 0 or scale <= 0:
        raise AnalysisError(
            f"margin {margin} and prior scale {scale} must be positive",
            "both are in points; 1 is the default",
        )
    smallest = float(np.linalg.eigvalsh(v)[0])
    if not np.isfinite(y).all() or not smallest > 0:
        raise AnalysisError(
            f"the covariance of the estimates has the eigenvalue {smallest:.3g}",
            "leave out estimates whose variance is 0 or that are linear in others",
        )
    by_condition, by_target = (_same(names) for names in (conditions, targets))
    # a factor that no two cells share, or that all do, cannot be told from tau or from mu
    free = (True, *(1 < len(set(names)) < m for names in (conditions, targets)))
    axes = _closed_in(y, v, (by_condition, by_target), free, scale)
    log_weight, means, variances, grands, hyper = [], [], [], [], []
    ones = np.ones(m)
    for tau, w_tau in zip(*axes[0], strict=True):
        for sd_c, w_c in zip(*axes[1], strict=True):
            for sd_t, w_t in zip(*axes[2], strict=True):
                between = _between((tau, sd_c, sd_t), by_condition, by_target)
                factor = cho_factor(v + between, lower=True, check_finite=False)
                solved = cho_solve(factor, np.column_stack([ones, y, between]), check_finite=False)
                precision = float(ones @ solved[:, 0])
                mu = float(ones @ solved[:, 1]) / precision
                residual = solved[:, 1] - mu * solved[:, 0]
                log_weight.append(
                    np.log(w_tau * w_c * w_t) + _log_density(factor[0], precision, y - mu, residual)
                )
                means.append(mu + between @ residual)
                # given mu, then what mu's own uncertainty adds
                pull = 1.0 - between @ solved[:, 0]
                conditional = np.diag(between) - np.einsum("ij,ji->i", between, solved[:, 2:])
                variances.append(conditional + pull**2 / precision)
                grands.append((mu, 1.0 / precision))
                hyper.append((tau, sd_c, sd_t))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight /= weight.sum()
    centre, spread = np.stack(means), np.sqrt(np.maximum(np.stack(variances), 0.0))
    mean = weight @ centre
    spread = np.maximum(spread, np.finfo(np.float64).tiny)
    grand, grand_v = (weight @ np.array(column) for column in zip(*grands, strict=True))
    grand_sd = float(np.sqrt(grand_v + weight @ (np.array([g for g, _ in grands]) - grand) ** 2))
    return Shrunken(
        mean=mean,
        sd=np.sqrt(weight @ (spread**2 + (centre - mean) ** 2)),
        positive=weight @ ndtr(centre / spread),
        negligible=weight @ (ndtr((margin - centre) / spread) - ndtr((-margin - centre) / spread)),
        margin=margin,
        grand=float(grand),
        grand_sd=grand_sd,
        **dict(
            zip(("tau", "sd_conditions", "sd_targets"), map(float, weight @ np.array(hyper)), strict=True)
        ),
    )


Axis = tuple[np.ndarray, np.ndarray]
"""SDs and their weights."""


def _closed_in(
    y: np.ndarray, v: np.ndarray, same: tuple[np.ndarray, np.ndarray], free: Sequence[bool], scale: float
) -> list[Axis]:
    """Gauss-Legendre in the quantiles of each SD's prior, between those with some posterior density; 0 if not free."""
    ranges = [(0.0, 1.0)] * len(free)
    for _ in range(PASSES):
        at, axes = _axes(ranges, free, scale)
        log = [
            [[_marginal(y, v, _between((a, b, c), *same)) for c in axes[2][0]] for b in axes[1][0]]
            for a in axes[0][0]
        ]
        density = np.exp(np.array(log) - np.max(log))
        narrower = []
        for i, (low, high) in enumerate(ranges):
            kept = np.flatnonzero(density.max(axis=tuple(j for j in range(3) if j != i)) > NEGLIGIBLE)
            # up to the neighbours of what is kept: the density may rise on the way
            bounds = np.concatenate([[low], at[i], [high]])
            narrower.append((float(bounds[kept[0]]), float(bounds[kept[-1] + 2])) if free[i] else (low, high))
        if narrower == ranges:
            break
        ranges = narrower
    return _axes(ranges, free, scale)[1]


def _axes(
    ranges: Sequence[tuple[float, float]], free: Sequence[bool], scale: float
) -> tuple[list[np.ndarray], list[Axis]]:
    """Quantiles of the priors, and the SDs there with their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    at = [low + (high - low) * 0.5 * (nodes + 1.0) for low, high in ranges]
    fixed = np.zeros(1), np.ones(1)
    return at, [
        (scale * ndtri(0.5 + 0.5 * u), weights) if some else fixed for u, some in zip(at, free, strict=True)
    ]


def _between(sds: tuple[float, float, float], by_condition: np.ndarray, by_target: np.ndarray) -> np.ndarray:
    """(m, m) covariance of the cells' effects given mu: tau, conditions, targets."""
    tau, sd_c, sd_t = sds
    return tau**2 * np.eye(len(by_condition)) + sd_c**2 * by_condition + sd_t**2 * by_target


def _marginal(y: np.ndarray, v: np.ndarray, between: np.ndarray) -> float:
    """Log density of the estimates, mu integrated out."""
    factor = cho_factor(v + between, lower=True, check_finite=False)
    solved = cho_solve(factor, np.column_stack([np.ones(len(y)), y]), check_finite=False)
    precision, mu = float(solved[:, 0].sum()), float(solved[:, 1].sum() / solved[:, 0].sum())
    return _log_density(factor[0], precision, y - mu, solved[:, 1] - mu * solved[:, 0])


def _log_density(factor: np.ndarray, precision: float, deviation: np.ndarray, residual: np.ndarray) -> float:
    """From the Cholesky factor of the covariance, the precision of mu, and the deviations with their solution."""
    log_det = 2.0 * float(np.log(np.diag(factor)).sum())
    return -0.5 * (log_det + float(np.log(precision)) + float(deviation @ residual))


def _same(names: Sequence[str]) -> np.ndarray:
    """(m, m) 1 where two cells have the same name."""
    array = np.asarray(names)
    return (array[:, None] == array).astype(np.float64)
