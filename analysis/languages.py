"""Tier T3: the variance that new languages would add, for one target or for a sum over several.

Languages are drawn; the targets' lists of them overlap. As with runs, what is shared is aggregated before a
variance is taken: the deviation of a language in one target meets the deviations of the same language in the
other targets, so that a language which favours an arm everywhere counts in full. Two moments are needed:
``between``, the variance of the languages' deviations from their target's mean, and ``inter``, the part of it
which run x language noise makes and which the variance over runs already holds (statistics reference,
section 2.2: ``lang`` and ``inter``).

Deviations from a mean have lost some of their variance; dividing by what is left makes both moments unbiased.
For two targets with weights a and b that sum to 1, of languages with independent effects of equal variance, the
expected product of deviations is ``sum_l a_l b_l (1 - a_l - b_l + sum_m a_m b_m)`` instead of ``sum_l a_l b_l``,
over the languages that they share. With one target and equal weights that is the factor L / (L - 1) of the
reference, which would be too small where one language has much of the weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import AnalysisError

__all__ = ["Languages", "between_and_inter"]


@dataclass(frozen=True, eq=False)
class Languages:
    """One target's contrast by language."""

    names: tuple[str, ...]
    deviations: np.ndarray
    """(L,) weight x (contrast in the language - weighted mean over languages)."""
    weights: np.ndarray
    """(L,) weights that sum to 1."""
    runs: Mapping[Hashable, np.ndarray]
    """Per key (S, L): coefficient x weight x interaction residual of run and language."""
    scale: float
    """Sum of absolute coefficients: how much the target counts in the degrees of freedom."""


def between_and_inter(targets: Sequence[Languages]) -> tuple[tuple[float, float], tuple[float, float], int]:
    """(between, df), (inter, df) and the number of languages over all targets.

    Raises ``AnalysisError`` for a target with one language: it says nothing about others.
    """
    short = [target.names for target in targets if len(target.names) < 2]
    if short:
        raise AnalysisError(
            f"tier T3 needs two or more languages in every target; one has only {', '.join(short[0]) or 'none'}",
            'ask for tier="T2" (these languages), or leave out targets in one language',
        )
    union = list(dict.fromkeys(name for target in targets for name in target.names))
    at = [[union.index(name) for name in target.names] for target in targets]
    weights = np.zeros((len(targets), len(union)))
    deviations = np.zeros_like(weights)
    for t, target in enumerate(targets):
        weights[t, at[t]] = target.weights
        deviations[t, at[t]] = target.deviations
    whole = weights @ weights.T
    lost = (weights * weights) @ weights.T
    left = whole - lost - lost.T + whole * whole
    # targets that share no language have no products of deviations: any factor does
    factors = np.divide(whole, left, out=np.ones_like(whole), where=left > 1e-9 * np.abs(whole))
    between = max(0.0, float(np.sum(factors * (deviations @ deviations.T))))
    df = _freedom(weights, np.array([target.scale for target in targets]))

    keyed: dict[Hashable, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for t, target in enumerate(targets):
        for key, residuals in target.runs.items():
            keyed[key].append((t, residuals))
    inter, runs = 0.0, 0
    for found in keyed.values():
        seeds = len(found[0][1])
        rows = np.zeros((len(found), seeds, len(union)))
        for i, (t, residuals) in enumerate(found):
            rows[i][:, at[t]] = residuals
        flat = rows.reshape(len(found), -1)
        which = [t for t, _ in found]
        inter += float(np.sum(factors[np.ix_(which, which)] * (flat @ flat.T))) / (seeds * (seeds - 1))
        runs += seeds - 1
    return (between, df), (max(0.0, inter), runs * df), len(union)


def _freedom(weights: np.ndarray, scales: np.ndarray) -> float:
    """df of ``between`` under languages with independent, equal effects that are the same in every target.

    tr(Q)^2 / tr(Q^2) of its quadratic form (Satterthwaite; Bell & McCaffrey 2002). L - 1 for one target or for
    targets in the same L languages, equally weighted; the sum of L - 1 for T equal targets that share no language.
    """
    form = np.diag(scales @ weights) - (weights * scales[:, None]).T @ weights
    square = form.T @ form
    return float(np.trace(square) ** 2 / np.sum(square * square))
