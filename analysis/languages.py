"""Tier T3: the variance that new languages would add, for one target or for a sum over several.

Languages are drawn; the targets' lists of them overlap. As with runs, what is shared is aggregated before a
variance is taken: the deviation of a language in one target meets the deviations of the same language in the
other targets, so that a language which favours an arm everywhere counts in full. Two moments are needed:
``between``, the variance of the languages' deviations from their target's mean, and ``inter``, the part of it
which run x language noise makes and which the variance over runs already holds (statistics reference,
section 2.2: ``lang`` and ``inter``).

With L languages a deviation from their mean has lost 1 / L of its variance. For two targets with L and L'
languages, K of them shared, products of deviations have lost 1 / L + 1 / L' - K / (L L'); dividing by what is
left makes both moments unbiased. For one target that is the factor L / (L - 1) of the reference.
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
    present = np.zeros((len(targets), len(union)))
    deviations = np.zeros_like(present)
    for t, target in enumerate(targets):
        present[t, at[t]] = 1.0
        deviations[t, at[t]] = target.deviations
    counts = present.sum(axis=1)
    lost = 1.0 / counts[:, None] + 1.0 / counts - present @ present.T / np.outer(counts, counts)
    # targets that share no language have no products of deviations: any factor does
    factors = 1.0 / np.where(1.0 - lost > 1e-9, 1.0 - lost, 1.0)
    between = max(0.0, float(np.sum(factors * (deviations @ deviations.T))))
    df = _freedom(present, np.array([target.scale for target in targets]))

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


def _freedom(present: np.ndarray, scales: np.ndarray) -> float:
    """df of ``between`` under languages with independent, equal effects that are the same in every target.

    tr(Q)^2 / tr(Q^2) of its quadratic form (Satterthwaite; Bell & McCaffrey 2002). L - 1 for one target or for
    targets in the same L languages, the sum of L - 1 for T equal targets that share no language.
    """
    weights = scales / present.sum(axis=1)
    form = np.diag(weights @ present) - np.einsum(
        "t,tl,tm->lm", weights / present.sum(axis=1), present, present, optimize=True
    )
    square = form.T @ form
    return float(np.trace(square) ** 2 / np.sum(square * square))
