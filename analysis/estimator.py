"""MWV-t: a multi-way moment variance with a Welch-Satterthwaite t reference, for any contrast of cells.

The unit of replication is the run, not the language and not the example; examples are shared by all runs, so
their variance is taken from the contrast of per-example contributions (`cells.py`). Closed form, float64, no
random numbers.

Tiers say which population an interval is about: ``T0`` new examples for these checkpoints, ``T1`` new seeds
on this very test set, ``T2`` new seeds and new examples (the default); languages and tasks are fixed in all
three. ``T3`` adds new languages (`languages.py`); tasks stay fixed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import AnalysisError
from .cells import DETERMINISTIC, Cell, Examples
from .effect_sizes import run_sd, superiority
from .equivalence import verdict
from .fit import DegreesOfFreedom, Effect, Fit, Tier, satterthwaite
from .languages import Languages, between_and_inter

__all__ = ["DETERMINISTIC", "Cell", "Examples", "Fit", "Term", "Tier", "contrast", "did", "estimate"]

ROUNDING = 1e-13
"""Standard errors below this share of the scores come from rounding; one example in 10^6 makes a larger one."""


@dataclass(frozen=True)
class Term:
    """One target's part of an estimate: cells by key, their coefficients, and the weights of the languages.

    The same key in several terms means the same training lineage: its seeds are aggregated over targets
    before their variance is taken, because one intermediate checkpoint feeds them all.
    """

    cells: Mapping[Any, Cell]
    coefficients: Mapping[Any, float]
    weights: np.ndarray | None = None
    """(L,) language weights; None for equal ones."""

    @property
    def used(self) -> dict[Any, float]:
        """The coefficients that are not 0. Raises ``AnalysisError`` where all are."""
        used = {key: c for key, c in self.coefficients.items() if c != 0.0}
        if not used:
            raise AnalysisError("all coefficients of a term are 0", "drop the term")
        return used

    @property
    def examples(self) -> Examples:
        return self.cells[next(iter(self.used))].examples

    @property
    def language_weights(self) -> np.ndarray:
        """(L,) float64."""
        count = len(self.examples.languages)
        if self.weights is None:
            return np.full(count, 1.0 / count)
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.shape != (count,) or not np.any(weights):
            raise AnalysisError(
                f"language weights {weights.tolist()} for {count} languages",
                "one weight for each language of the test set, not all 0",
            )
        return weights


@dataclass(eq=False)
class _Runs:
    """The runs of one key, aggregated over terms."""

    seeds: tuple[int, ...]
    z: np.ndarray
    """(S,) sum over terms of coefficient x score."""
    scale: float = 0.0
    """Sum over terms of |coefficient|: the size of z beside a single score."""


@dataclass(eq=False)
class _Parts:
    value: float = 0.0
    runs: dict[Hashable, _Runs] = field(default_factory=dict)
    nested: list[tuple[float, float]] = field(default_factory=list)
    """(variance, df) over the examples of each term."""
    parallel: list[tuple[float, float]] = field(default_factory=list)
    languages: list[Languages] = field(default_factory=list)
    largest: float = 0.0
    """Largest |coefficient x score|: what rounding errors are relative to."""

    def cleared(self, found: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        """(variance, df) parts with 0 for variances that are rounding errors: no test may divide by them."""
        rounding = (ROUNDING * self.largest) ** 2
        return [(v if v > rounding else 0.0, df) for v, df in found]


def estimate(
    terms: Sequence[Term], *, tier: Tier = "T2", alpha: float = 0.05, df: DegreesOfFreedom = "welch"
) -> Fit:
    """``sum over terms and cells of coefficient x mean score`` with its MWV-t interval (section 2.2 and 2.5).

    V_run: per key, scores weighted by coefficient are summed over terms seed by seed, then their variance
    over seeds is divided by S. V_examples: per term, the sampling variance of the contrast of contributions,
    less the run-specific part that V_run already holds; terms have different test examples, so their
    variances add. V_languages (T3): what the languages' spread exceeds the noise of runs and of nested
    examples by; parallel examples are common to the languages and count beside it.

    Welch-Satterthwaite degrees of freedom over all parts; a deterministic cell adds no run variance and no
    degrees of freedom. ``df="pooled"`` assumes one run variance for all cells (per unit of coefficient) with
    the sum of S - 1 degrees of freedom; it is not valid where a cell is noisier than the others.

    Raises ``AnalysisError`` for a trained cell with one run (only ``T0`` exists there), for seeds that differ
    between the terms of one key, for ``T3`` with a target in one language and for an empty list of terms.
    """
    if not terms:
        raise AnalysisError("an estimate needs at least one target", "check that the outcomes hold the cells")
    parts = _Parts()
    for term in terms:
        _add(parts, term, tier)
    single = [key for key, runs in parts.runs.items() if len(runs.seeds) == 1]
    if single and tier != "T0":
        raise AnalysisError(
            f"tier {tier} needs two or more runs in every trained cell; one in: {', '.join(map(str, single))}",
            'train more seeds, or ask for tier="T0" (these checkpoints, new examples)',
        )
    runs: list[tuple[float, float]] = []
    residual, run_scale = 0.0, 0.0
    if tier != "T0":
        residual = float(sum(len(r.seeds) - 1 for r in parts.runs.values()))
        run_scale = sum(r.scale**2 / len(r.seeds) for r in parts.runs.values())
        runs = [(float(np.var(r.z, ddof=1)) / len(r.seeds), len(r.seeds) - 1) for r in parts.runs.values()]
        if df == "pooled" and runs:
            runs = [(_pooled(parts.runs.values()) * run_scale, residual)]
    runs, nested, parallel = (parts.cleared(found) for found in (runs, parts.nested, parts.parallel))
    v_run, v_nested = sum(v for v, _ in runs), sum(v for v, _ in nested)
    v_examples = v_nested + sum(v for v, _ in parallel)
    used = [*runs, *nested, *parallel]
    v_languages, languages = 0.0, 0
    if tier == "T3":
        *moments, languages = between_and_inter(parts.languages)
        between, inter = parts.cleared(moments)
        excess = between[0] - inter[0]
        v_languages = max(0.0, excess - v_nested)
        # nested examples are part of the languages' spread: they count on their own only where they are larger
        used = [
            *runs,
            between,
            *([inter] if inter[1] else []),
            *parallel,
            *(nested if v_languages == 0 else []),
        ]
    return Fit.of(
        parts.value,
        v_run + v_examples + v_languages,
        satterthwaite(v_run + v_examples + v_languages, used),
        alpha=alpha,
        tier=tier,
        seeds=min((len(r.seeds) for r in parts.runs.values()), default=0),
        v_run=v_run,
        v_examples=v_examples,
        v_languages=v_languages,
        languages=languages,
        df_run=satterthwaite(v_run, runs),
        df_residual=residual,
        df_examples=satterthwaite(v_examples, [*nested, *parallel]),
        run_scale=run_scale,
        df_method=df,
    )


def _pooled(runs: Iterable[_Runs]) -> float:
    """The variance of one run's score, pooled over keys of any coefficient but 0."""
    squares, residual = 0.0, 0
    for r in runs:
        squares += float(np.var(r.z, ddof=1)) * (len(r.seeds) - 1) / r.scale**2
        residual += len(r.seeds) - 1
    return squares / residual


def _add(parts: _Parts, term: Term, tier: Tier) -> None:
    """Add one term's value, example variance and, for T3, languages, and its per-seed scores by key."""
    used, examples, weights = term.used, term.examples, term.language_weights
    d = np.zeros(len(examples.example))
    within = np.zeros(len(weights))
    by_language = np.zeros(len(weights))
    residuals: dict[Hashable, np.ndarray] = {}
    for key, c in used.items():
        cell = term.cells[key]
        if cell.examples is not examples and not cell.examples.same_as(examples):
            raise AnalysisError(
                "cells of one target were scored on different examples",
                "evaluate every run on the same test set",
            )
        d += c * cell.contributions
        per_seed = c * (cell.scores @ weights)
        parts.value += float(per_seed.mean())
        parts.largest = max(parts.largest, abs(c) * float(np.abs(cell.scores).max()))
        mean = cell.scores.mean(axis=0)
        by_language += c * mean
        if cell.deterministic:
            continue
        within += c * c / len(cell.seeds) * cell.within
        runs = parts.runs.setdefault(key, _Runs(cell.seeds, np.zeros(len(cell.seeds))))
        if runs.seeds != cell.seeds:
            raise AnalysisError(
                f"the runs of {key} have seeds {runs.seeds} on one target and {cell.seeds} on another",
                "aggregate over the seeds that all targets share",
            )
        runs.z = runs.z + per_seed
        runs.scale += abs(c)
        if tier == "T3":
            residuals[key] = c * weights * _interaction(cell.scores, weights)
    if tier == "T3":
        kept = np.flatnonzero(weights)
        mean = float(weights @ by_language / weights.sum())
        names = tuple(examples.languages[i] for i in kept)
        deviations = (weights * (by_language - mean))[kept]
        cut = {key: rows[:, kept] for key, rows in residuals.items()}
        parts.languages.append(Languages(names, deviations, cut, sum(map(abs, used.values()))))
    if tier == "T1":
        return
    if np.any(weights == 0):
        kept = np.flatnonzero(weights)
        examples, at = examples.subset([examples.languages[i] for i in kept])
        d, weights, within = d[at], weights[kept], within[kept]
    variance, df = examples.variance(d, weights)
    if tier != "T0":
        variance = max(0.0, variance - float(np.sum(weights**2 * within / examples.sizes)))
    (parts.parallel if examples.parallel else parts.nested).append((variance, df))


def _interaction(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(S, L) residuals of run and language: deviations from the language's mean, less those of the run's mean."""
    deviation = scores - scores.mean(axis=0)
    return deviation - (deviation @ weights / weights.sum())[:, None]


def contrast(
    cells: Sequence[Cell],
    coefficients: Sequence[float],
    *,
    tier: Tier = "T2",
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
) -> Fit:
    """``sum_k coefficients[k] * score(cells[k])`` for independently trained cells of one target."""
    keyed = dict(enumerate(cells))
    return estimate([Term(keyed, dict(enumerate(coefficients)))], tier=tier, alpha=alpha, df=df)


def did(
    v1: Cell | np.ndarray,
    v0: Cell | np.ndarray,
    t1: Cell | np.ndarray,
    t0: Cell | np.ndarray,
    *,
    tier: Tier = "T2",
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
    margin: float = 0.01,
    weights: np.ndarray | None = None,
    parallel: bool = False,
) -> Effect:
    """The difference in differences (v1 - v0) - (t1 - t0): plus arm with and without, minus arm with and without.

    Cells, or arrays of outcomes per example in [0, 1]: (S, n) for one language, (S, L, n) for several, with
    the same examples in all four; ``parallel`` where example e is the same item in every language. Languages
    of different sizes, paragraphs, F1-type metrics and deterministic cells need ``Cell.from_counts``.
    ``margin`` of equivalence and all results are fractions; ``print(effect)`` says the result in points.
    """
    cells = [x if isinstance(x, Cell) else _cell(x, parallel) for x in (v1, v0, t1, t0)]
    term = Term(dict(enumerate(cells)), dict(enumerate((1.0, -1.0, -1.0, 1.0))), weights)
    fit = estimate([term], tier=tier, alpha=alpha, df=df)
    logit = None
    if all(np.all((cell.scores >= 0) & (cell.scores <= 1)) for cell in cells):
        odds = Term({k: cell.on_logit_scale() for k, cell in enumerate(cells)}, term.coefficients, weights)
        logit = estimate([odds], tier=tier, alpha=alpha, df=df)
    p_equivalence = fit.equivalence(margin)
    runs = [cell.scores @ term.language_weights for cell in cells]
    return Effect(
        **{name: getattr(fit, name) for name in Fit.__dataclass_fields__},
        margin=margin,
        p_equivalence=p_equivalence,
        verdict=verdict(fit.p, p_equivalence, alpha),
        logit=logit,
        superiority=superiority(*runs),
        run_sd=run_sd([z for z, cell in zip(runs, cells, strict=True) if not cell.deterministic]),
    )


def _cell(outcomes: np.ndarray, parallel: bool) -> Cell:
    values = np.asarray(outcomes, dtype=np.float64)
    if values.ndim == 2:
        values = values[:, None, :]
    if values.ndim != 3 or not np.all((values >= 0) & (values <= 1)):
        raise AnalysisError(
            f"outcomes of the shape {values.shape} are no (seeds, languages, examples) array within [0, 1]",
            "pass 0/1 or per-example scores as fractions; other metrics go through Cell.from_counts",
        )
    names = [f"language {i + 1}" for i in range(values.shape[1])]
    examples = Examples.regular(names, values.shape[2], parallel=parallel)
    flat = values.reshape(len(values), -1)
    return Cell.from_counts(examples, flat, np.ones_like(flat))
