"""A family of contrasts: which arms enter with which sign, how the contrasts correlate, and their joint tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from ..errors import AnalysisError
from .estimator import Term, estimate
from .examples import Examples
from .fit import Fit, Tier
from .moderation import Group, Moderation, moderated
from .multiplicity import benjamini_hochberg, benjamini_yekutieli, holm, max_t

__all__ = [
    "Correction",
    "Family",
    "by_target",
    "design_correlation",
    "difference_of_contrasts",
    "joint_test",
    "trend_coefficients",
]

Correction = Literal["holm", "max-t", "bh", "by", "none"]


def trend_coefficients(doses: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    """Coefficients of the arms for a linear dose trend: the slope of their gains per unit of dose.

    ``doses`` maps arms to doses (any real numbers), or lists the arms of a ladder in ascending order, whose
    ranks 0, 1, ... are then the doses. They sum to 0; with two arms one dose apart they are the difference
    plus - minus. Raises ``AnalysisError`` for fewer than two different doses.
    """
    given = doses if isinstance(doses, Mapping) else {arm: float(i) for i, arm in enumerate(doses)}
    values = np.array([float(x) for x in given.values()])
    if len(values) < 2 or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise AnalysisError(
            f"a trend needs arms at two or more different doses, not {dict(given)}",
            'name the arms in order, such as ["text", "distilled", "vision"], or give each its dose',
        )
    centred = values - values.mean()
    return dict(zip(given, (centred / (centred @ centred)).tolist(), strict=True))


def difference_of_contrasts(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """The arms' coefficients of ``first - second``, arms that cancel left out.

    (vision - text) - (scrambled - text) = vision - scrambled: what pictures that match add over pictures that
    do not, in which the text arm plays no part.
    """
    arms = dict.fromkeys([*first, *second])
    found = {arm: first.get(arm, 0.0) - second.get(arm, 0.0) for arm in arms}
    return {arm: c for arm, c in found.items() if c != 0.0}


@dataclass(frozen=True, eq=False)
class Family:
    """Contrasts tested together."""

    names: tuple[str, ...]
    fits: tuple[Fit, ...]
    p_adjusted: np.ndarray
    """(m,); nan where nothing varies and no test exists. Those do not count in ``size``."""
    correction: Correction
    size: int
    correlation: np.ndarray
    """(m, m) design correlation of the estimates."""
    moderation: Moderation | None


def joint_test(
    contrasts: Mapping[str, Sequence[Term]],
    *,
    correction: Correction = "holm",
    tier: Tier = "T2",
    alpha: float = 0.05,
    moderate: bool = False,
    seed: int = 0,
) -> Family:
    """Estimate and test contrasts as one family; ``seed`` drives the simulation of max-T only.

    ``moderate`` borrows run variances over the family, relative to the level of each target (`moderation.py`: 20
    contrasts or more, T1 and T2).
    Raises ``AnalysisError`` as ``estimate`` and ``moderated`` do, for an empty family and an unknown correction.
    """
    if not contrasts:
        raise AnalysisError("a family needs at least one contrast", "check that the outcomes hold the cells")
    if correction not in get_args(Correction):
        raise AnalysisError(
            f"no correction {correction!r}", f"correction is one of {', '.join(get_args(Correction))}"
        )
    fits = [estimate(terms, tier=tier, alpha=alpha) for terms in contrasts.values()]
    prior = None
    if moderate:
        fits, prior = moderated(fits, by_target(list(contrasts.values())))
    correlation = design_correlation(list(contrasts.values()), tier=tier)
    at = [i for i, fit in enumerate(fits) if fit.p is not None]
    p = np.array([p for fit in fits if (p := fit.p) is not None])
    adjusted = np.full(len(fits), np.nan)
    if correction == "max-t":
        t = [fits[i].value / fits[i].se for i in at]
        adjusted[at] = max_t(t, [fits[i].df for i in at], correlation[np.ix_(at, at)], seed=seed)
    else:
        adjust = {"holm": holm, "bh": benjamini_hochberg, "by": benjamini_yekutieli, "none": np.asarray}
        adjusted[at] = adjust[correction](p)
    return Family(tuple(contrasts), tuple(fits), adjusted, correction, len(at), correlation, prior)


def by_target(contrasts: Sequence[Sequence[Term]]) -> list[Group]:
    """The contrasts with runs, grouped by the targets that they are on, for `moderation.moderated`.

    In order of first appearance. Targets are the same where their cells share one ``Examples`` object. Contrasts of
    a group share the runs of a key; seeds are aggregated over the targets of a contrast.
    """
    found: dict[tuple[int, ...], list[int]] = {}
    for i, terms in enumerate(contrasts):
        found.setdefault(tuple(sorted(id(term.examples) for term in terms)), []).append(i)
    groups = []
    nothing = (0.0, 0.0, 0.0)
    for same in found.values():
        trained = {i: parts for i in same if (parts := _run_parts(contrasts[i]))}
        if not trained:
            continue
        members, runs = tuple(trained), list(trained.values())
        keys = list(dict.fromkeys(key for parts in runs for key in parts))
        table = np.array([[parts.get(key, nothing) for key in keys] for parts in runs])
        groups.append(Group(members, table[..., 0], table[..., 1], table[..., 2].max(axis=0)))
    return groups


def _run_parts(terms: Sequence[Term]) -> dict[Hashable, tuple[float, float, float]]:
    """Per key with two runs or more: coefficient^2 s^2 / S, coefficient^2 / S and S - 1."""
    scores: dict[Hashable, np.ndarray] = {}
    scales: dict[Hashable, float] = {}
    for term in terms:
        weights = term.language_weights
        for key, c in term.used.items():
            cell = term.cells[key]
            if cell.deterministic or len(cell.seeds) < 2:
                continue
            scores[key] = scores.get(key, 0.0) + c * (cell.scores @ weights)
            scales[key] = scales.get(key, 0.0) + abs(c)
    return {
        key: (float(np.var(z, ddof=1)) / len(z), scales[key] ** 2 / len(z), len(z) - 1.0)
        for key, z in scores.items()
    }


@dataclass(eq=False)
class _Column:
    """A target with its language weights: what cells of several contrasts have in common."""

    examples: Examples
    weights: np.ndarray
    runs: dict[Hashable, dict[int, float]] = field(default_factory=dict)
    """Per key and seed: deviation of the run's score from the key's mean."""
    parts: list[tuple[int, Term]] = field(default_factory=list)


def design_correlation(contrasts: Sequence[Sequence[Term]], *, tier: Tier = "T2") -> np.ndarray:
    """(m, m) correlation of the estimates of contrasts that share runs, checkpoints and test examples.

    Runs: two contrasts share a key's runs with the product of their coefficients over S; on different targets
    they share its checkpoint. The covariance of targets is pooled over all keys, because S - 1 degrees of
    freedom of a single one would take noise for correlation: it says how the contrasts move together, not how
    noisy each is. Examples: contrasts on the same test set, by the contributions of its examples, less the
    run-specific part. Targets are the same where their cells share one ``Examples`` object. A contrast
    without any variance is uncorrelated with all. A key means one training lineage in every contrast: in a
    family over encoder pairs it must name the pair. T3 has no design correlation of its own: that of T2.
    """
    columns = _columns(contrasts)
    m = len(contrasts)
    covariance = np.zeros((m, m))
    if tier != "T0":
        covariance += _run_covariance(columns, m)
    if tier != "T1":
        merged: dict[int, list[_Column]] = {}
        for column in columns:
            merged.setdefault(id(column.examples), []).append(column)
        for same in merged.values():
            covariance += _example_covariance(same, m, subtract=tier != "T0")
    # subtracting and pooling may leave a matrix slightly indefinite
    values, vectors = np.linalg.eigh(covariance)
    covariance = (vectors * np.maximum(values, 0.0)) @ vectors.T
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    varies = sd > 1e-9 * max(float(sd.max(initial=0.0)), 1e-300)
    scale = np.divide(1.0, sd, out=np.zeros_like(sd), where=varies)
    correlation = np.clip(covariance * np.outer(scale, scale), -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _columns(contrasts: Sequence[Sequence[Term]]) -> list[_Column]:
    found: dict[tuple[int, bytes], _Column] = {}
    for i, terms in enumerate(contrasts):
        for term in terms:
            weights = term.language_weights
            column = found.setdefault((id(term.examples), weights.tobytes()), _Column(term.examples, weights))
            column.parts.append((i, term))
            for key in term.used:
                cell = term.cells[key]
                if key in column.runs or cell.deterministic or len(cell.seeds) < 2:
                    continue
                y = cell.scores @ weights
                column.runs[key] = dict(zip(cell.seeds, (y - y.mean()).tolist(), strict=True))
    return list(found.values())


def _run_covariance(columns: Sequence[_Column], m: int) -> np.ndarray:
    count = len(columns)
    keys = list(dict.fromkeys(key for column in columns for key in column.runs))
    squares, dfs = np.zeros((count, count)), np.zeros((count, count))
    shared = {}
    for key in keys:
        has = [t for t, column in enumerate(columns) if key in column.runs]
        every = sorted({seed for t in has for seed in columns[t].runs[key]})
        z, present = np.zeros((count, len(every))), np.zeros((count, len(every)))
        for t in has:
            at = [every.index(seed) for seed in columns[t].runs[key]]
            z[t, at], present[t, at] = list(columns[t].runs[key].values()), 1.0
        common = present @ present.T
        known = common > 1
        squares += np.where(known, z @ z.T, 0.0)
        dfs += np.where(known, common - 1, 0.0)
        runs = np.maximum(present.sum(axis=1), 1.0)
        shared[key] = common / np.outer(runs, runs)
    pooled = np.divide(squares, dfs, out=np.zeros_like(squares), where=dfs > 0)
    coefficients = {key: np.zeros((m, count)) for key in keys}
    for t, column in enumerate(columns):
        for i, term in column.parts:
            for key, c in term.used.items():
                if key in column.runs:
                    coefficients[key][i, t] += c
    return sum((c @ (pooled * shared[key]) @ c.T for key, c in coefficients.items()), np.zeros((m, m)))


def _example_covariance(columns: Sequence[_Column], m: int, *, subtract: bool) -> np.ndarray:
    """Covariance over new examples of one test set, of all contrasts on it."""
    examples = columns[0].examples
    rows = [(i, column, term) for column in columns for i, term in column.parts]
    keys = {id(cell): cell for _, _, term in rows for key in term.used for cell in [term.cells[key]]}
    at = {name: k for k, name in enumerate(keys)}
    coefficients = np.zeros((len(rows), len(keys)))
    for r, (_, _, term) in enumerate(rows):
        for key, c in term.used.items():
            coefficients[r, at[id(term.cells[key])]] += c
    weights = np.stack([column.weights for _, column, _ in rows])
    phi = np.stack([cell.contributions for cell in keys.values()])
    deviations = examples.unit_sums(coefficients @ phi, weights)
    covariance = deviations @ deviations.T
    if subtract:
        for k, cell in enumerate(keys.values()):
            signed = coefficients[:, k, None] * weights
            covariance -= signed @ cell.noise @ signed.T / len(cell.seeds)
    owner = np.zeros((len(rows), m))
    owner[np.arange(len(rows)), [i for i, _, _ in rows]] = 1.0
    return owner.T @ covariance @ owner
