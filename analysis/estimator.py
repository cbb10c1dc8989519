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
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np

from ..errors import AnalysisError
from .cells import DETERMINISTIC, Cell
from .effect_sizes import run_sd, superiority
from .equivalence import verdict
from .examples import Examples
from .fit import DegreesOfFreedom, Effect, Fit, Tier, satterthwaite
from .languages import Languages, between_and_inter

__all__ = ["DETERMINISTIC", "Cell", "Examples", "Fit", "Term", "Tier", "contrast", "did", "estimate"]

ROUNDING = 1e-13
"""Standard errors below this share of the scores come from rounding; one example in 10^6 makes a larger one."""
CELLS = ("v1", "v0", "t1", "t0")
"""The arguments of ``did``, by which its errors name them."""


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
        """The coefficients that are not 0. Raises ``AnalysisError`` where all are, one is nan or has no cell."""
        used = {key: c for key, c in self.coefficients.items() if c != 0.0}
        if not used:
            raise AnalysisError("all coefficients of a term are 0", "drop the term")
        bad = [key for key, c in used.items() if key not in self.cells or not np.isfinite(c)]
        if bad:
            raise AnalysisError(
                f"the coefficient {used[bad[0]]} of {bad[0]!r} is no number or has no cell",
                f"the term has the cells {', '.join(map(repr, self.cells)) or 'none'}",
            )
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
        if weights.shape != (count,) or not np.any(weights) or not np.isfinite(weights).all():
            raise AnalysisError(
                f"language weights {weights.tolist()} for {count} languages",
                f"one finite weight for each of {', '.join(self.examples.languages)}, not all 0",
            )
        return weights

    @property
    def own_noise(self) -> float:
        """Example noise of single runs, which the variance over runs holds already."""
        weights, cells = self.language_weights, self.cells  # one run, trained or not, has noise 0
        return sum(c * c * cells[k].own_noise(weights) / len(cells[k].seeds) for k, c in self.used.items())


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

    The run-specific part includes what a run's errors have in common over the languages of a parallel set and
    within a paragraph (`Examples.run_noise`); section 2.2 takes them for independent (up to 1.15 times too wide).

    Welch-Satterthwaite degrees of freedom over all parts; a deterministic cell adds no run variance and no
    degrees of freedom. ``df="pooled"`` assumes one run variance for all cells (per unit of coefficient) with
    the sum of S - 1 degrees of freedom; it is not valid where a cell is noisier than the others.

    Raises ``AnalysisError`` for a trained cell with one run (only ``T0`` exists there), for seeds that differ
    between the terms of one key, for ``T3`` with a target in one language or language weights that add to 0,
    for an unknown tier or kind of df, ``alpha`` outside (0, 1) and for an empty list of terms.
    """
    if not terms:
        raise AnalysisError("an estimate needs at least one target", "check that the outcomes hold the cells")
    _check_options(tier, alpha, df)
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


def _check_options(tier: str, alpha: float, df: str) -> None:
    for name, value, known in (("tier", tier, get_args(Tier)), ("df", df, get_args(DegreesOfFreedom))):
        if value not in known:
            raise AnalysisError(f"no {name} {value!r}", f"{name} is one of {', '.join(known)}")
    if not 0.0 < alpha < 1.0:
        raise AnalysisError(f"alpha is {alpha}", "alpha is a fraction, such as .05")


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
    if tier == "T3" and abs(weights.sum()) < 1e-9 * np.abs(weights).sum():
        raise AnalysisError(
            "language weights that add to 0 compare languages: nothing to generalise to new ones",
            'ask for tier="T2" (these languages)',
        )
    d = np.zeros(len(examples.example))
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
        parts.largest = max(parts.largest, abs(c) * cell.largest)
        if tier == "T3":
            by_language += c * cell.scores.mean(axis=0)
        if cell.deterministic:
            continue
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
        share = weights[kept] / weights.sum()
        parts.languages.append(Languages(names, deviations, share, cut, sum(map(abs, used.values()))))
    if tier == "T1":
        return
    if np.any(weights == 0):
        kept = np.flatnonzero(weights)
        examples, at = examples.subset([examples.languages[i] for i in kept])
        d, weights = d[at], weights[kept]
    variance, df = examples.variance(d, weights)
    if tier != "T0":
        variance = max(0.0, variance - term.own_noise)
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
    if len(cells) != len(coefficients):
        raise AnalysisError(
            f"{len(cells)} cells but {len(coefficients)} coefficients", "pass one coefficient for each cell"
        )
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
    the same examples in all four and a row for every seed, of which cells may have different numbers;
    ``parallel`` where example e is the same item in every language. Languages of different sizes, paragraphs,
    F1-type metrics and deterministic cells need ``Cell.from_counts`` on ``Examples.labelled``. ``weights``, (L,),
    are relative and not negative. ``margin`` of equivalence and all results are fractions; ``print(effect)`` says
    the result in points.

    Raises ``AnalysisError`` as ``estimate`` and ``Cell.from_counts`` do, for arrays of unlike shapes or with more
    seeds than examples (axes in another order), for negative weights and for a margin of 1 or more.
    """
    if not 0.0 < margin < 1.0:
        raise AnalysisError(
            f"the margin of equivalence is {margin}", "margin is a fraction: 0.01 is one point of the score"
        )
    given = dict(zip(CELLS, (v1, v0, t1, t0), strict=True))
    cells = {name: x if isinstance(x, Cell) else _cell(name, x, parallel) for name, x in given.items()}
    _check_alike(cells)
    term = Term(cells, dict(zip(CELLS, (1.0, -1.0, -1.0, 1.0), strict=True)), weights)
    if weights is not None:
        relative = term.language_weights
        if np.any(relative < 0):
            raise AnalysisError(
                f"negative language weights: {relative.tolist()}", "weights are shares, such as [2, 1, 1]"
            )
        term = replace(term, weights=relative / relative.sum())
    fit = estimate([term], tier=tier, alpha=alpha, df=df)
    logit = None
    if all(np.all((cell.scores >= 0) & (cell.scores <= 1)) for cell in cells.values()):
        odds = replace(term, cells={name: cell.on_logit_scale() for name, cell in cells.items()})
        logit = estimate([odds], tier=tier, alpha=alpha, df=df)
    p_equivalence = fit.equivalence(margin)
    runs = {name: cell.scores @ term.language_weights for name, cell in cells.items()}
    means = {name: float(z.mean()) for name, z in runs.items()}
    return Effect(
        **{name: getattr(fit, name) for name in Fit.__dataclass_fields__},
        margin=margin,
        p_equivalence=p_equivalence,
        verdict=verdict(fit.p, p_equivalence, alpha),
        logit=logit,
        superiority=superiority(*runs.values()),
        run_sd=run_sd([z for name, z in runs.items() if not cells[name].deterministic]),
        gains=(means["v1"] - means["v0"], means["t1"] - means["t0"]),
        size=(len(term.examples.languages), len(term.examples.example)),
    )


def _cell(name: str, outcomes: np.ndarray, parallel: bool) -> Cell:
    try:
        values = np.asarray(outcomes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AnalysisError(
            f"{name} is no array of numbers: {error}",
            "pass (seeds, examples) or (seeds, languages, examples); languages of different sizes go through "
            "Examples.labelled and Cell.from_counts",
        ) from error
    if values.ndim == 2:
        values = values[:, None, :]
    if values.ndim != 3 or not values.size:
        raise AnalysisError(
            f"{name} has the shape {np.shape(outcomes)}",
            "pass (seeds, examples) or (seeds, languages, examples); one run is x[None]",
        )
    if np.isnan(values).any():
        raise AnalysisError(
            f"{name} holds {int(np.isnan(values).sum())} missing outcomes (nan)",
            "score every example in every run, or leave the example out of all of them",
        )
    if not np.all((values >= 0) & (values <= 1)):
        raise AnalysisError(
            f"{name} holds outcomes from {values.min():g} to {values.max():g}, not within [0, 1]",
            "pass 0/1 or per-example scores as fractions; other metrics go through Cell.from_counts",
        )
    if values.shape[0] > values.shape[2]:
        raise AnalysisError(
            f"{name} has the shape {np.shape(outcomes)}: more seeds than examples",
            "the first axis is the seed and the last one the example; turn a table of examples by .T",
        )
    languages = [f"language {i + 1}" for i in range(values.shape[1])]
    examples = Examples.regular(languages, values.shape[2], parallel=parallel)
    flat = values.reshape(len(values), -1)
    try:
        return Cell.from_counts(examples, flat, np.ones_like(flat))
    except AnalysisError as error:
        raise AnalysisError(f"{name}: {error.message}", error.hint) from error


def _check_alike(cells: Mapping[str, Cell]) -> None:
    """Name the shapes where the test sets differ in them; ``estimate`` compares their ids."""
    shapes = {name: (len(c.examples.languages), len(c.examples.example)) for name, c in cells.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{name} {of} x {n // of}" for name, (of, n) in shapes.items())
        raise AnalysisError(
            f"the four cells were scored on different examples (languages x examples: {told})",
            "evaluate every run on the same test set",
        )
