"""The grand effect and the map by other roads than the closed form: resampled, permuted, shrunken.

`crosschecks.py` does one cell from the counts of its runs. The mean over targets and conditions needs no counts: its
runs are resampled as the scores that each checkpoint gives to all targets together, its examples as contributions (for
F1 their linear influence, whose error the check of a single cell shows).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from ..errors import AnalysisError, unknown
from .bootstrap import BLOCK, Bootstrap
from .cells import Cell
from .comparisons import NONE
from .crosschecks import CrossCheck, crosscheck
from .estimator import Term
from .examples import Examples
from .families import joint_test
from .fit import Fit, satterthwaite
from .moderation import SMALLEST_FAMILY
from .outcomes import Record, read_record
from .permutation import Permutation, synchronized_permutation
from .planning import chosen_pair
from .shrinkage import Shrunken, shrink
from .study import Design, Study, terms_of

__all__ = ["Checked", "Grand", "ShrunkenMap", "check_folder", "check_grand", "contrast_of", "shrink_map"]

Key = tuple[str, str]
MANY = 20_000
"""Units of the test sets above which languages share the weights of a resample."""


@dataclass(frozen=True)
class Grand:
    """Fractions throughout."""

    cells: int
    """(condition, target) cells that the mean is over."""
    closed: Fit
    """Tier T2."""
    runs: Fit
    """Tier T1: what the permutation is to be compared with."""
    bootstrap: Bootstrap
    permutation: Permutation | None
    """None where cells have unequal or fewer than two runs, or none is trained without an intermediate task."""


@dataclass(frozen=True)
class ShrunkenMap:
    """Points; entries are in the order of ``cells``."""

    cells: tuple[Key, ...]
    """(condition, target)"""
    fits: tuple[Fit, ...]
    """Closed form, moderated in a family of twenty or more; fractions."""
    shrunken: Shrunken
    moderated: bool


@dataclass(frozen=True)
class Checked:
    """What `xtremex crosscheck` prints."""

    pair: str
    contrast: str
    alpha: float
    grand: Grand
    cell: Key
    """(condition, target) that was checked from its counts: the one asked for, or the largest |t| of the map."""
    cell_runs: Fit
    """Tier T1 of the cell, beside its permutation."""
    checked: CrossCheck
    map: ShrunkenMap | None
    """None where fewer than two cells have a test."""


def check_folder(
    folder: Path,
    *,
    pair: str | None = None,
    contrast: str | None = None,
    cell: Key | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Checked:
    """Check the grand effect, one cell of the map and the whole map of an outcome folder.

    Raises ``UnknownName`` for a pair or contrast that is not there, ``AnalysisError`` for a cell that is not, and as
    ``check_grand`` and ``crosschecks.crosscheck`` do.
    """
    record = read_record(folder)
    pair = chosen_pair(record, pair)
    chosen = contrast_of(record, pair, contrast)
    study, design = _design(record, pair, chosen)
    if cell is not None and cell not in design.cells:
        conditions, targets = (dict.fromkeys(names) for names in zip(*design.cells, strict=True))
        raise AnalysisError(
            f"{pair} / {chosen['name']}: the map has no outcomes of {' -> '.join(cell)}",
            f"conditions: {', '.join(conditions)}; targets: {', '.join(targets)}",
        )
    grand = check_grand(record, pair, chosen, resamples=resamples, seed=seed)
    shrunken = shrink_map(record, pair, chosen) if len(design.cells) > 1 else None
    if cell is None and shrunken is not None:
        sizes = [abs(fit.value) / fit.se for fit in shrunken.fits]
        cell = shrunken.cells[int(np.argmax(sizes))]
    cell = cell or next(iter(design.cells))
    arms = chosen["plus"], chosen["minus"]
    checked = crosscheck(folder, record, pair, arms, *cell, resamples=resamples, seed=seed)
    runs = study.fit(terms_of([cell], design.grids, _signs(chosen)), "T1")
    return Checked(pair, chosen["name"], study.alpha, grand, cell, runs, checked, shrunken)


def contrast_of(record: Record, pair: str, name: str | None) -> Mapping[str, str]:
    """The contrast of a pair by name, or its first; ``UnknownName``, or ``AnalysisError`` for a pair of one arm."""
    contrasts = {c["name"]: c for p in record.suite["pairs"] if p["name"] == pair for c in p["contrasts"]}
    if not contrasts:
        raise AnalysisError(
            f"the pair {pair} has no contrast: with one arm there is no effect to check", "name another pair"
        )
    if name is None:
        return next(iter(contrasts.values()))
    if name not in contrasts:
        raise unknown("contrast", name, contrasts)
    return contrasts[name]


def _signs(contrast: Mapping[str, str]) -> dict[str, float]:
    return {contrast["plus"]: 1.0, contrast["minus"]: -1.0}


def check_grand(
    record: Record, pair: str, contrast: Mapping[str, str], *, resamples: int = 10_000, seed: int = 0
) -> Grand:
    """The effect of ``contrast``, mean over conditions and targets, by closed form, bootstrap and permutation.

    Same seed, same numbers. Raises ``AnalysisError`` where the map is empty, a trained cell has one run, or fewer than
    100 resamples are asked for.
    """
    study, design = _design(record, pair, contrast)
    if resamples < 100:
        raise AnalysisError(f"{resamples} resamples", "ask for a hundred or more")
    terms = terms_of(design.cells, design.grids, _signs(contrast))
    single = [" / ".join(key) for key, seeds in _by_key(terms)[1].items() if len(seeds) == 1]
    if single:
        raise AnalysisError(
            f"{pair} / {contrast['name']}: one run cannot be drawn again; one in {', '.join(single)}",
            "train two or more seeds; `xtremex report` says what one seed can tell",
        )
    closed, runs = (study.fit(terms, tier) for tier in ("T2", "T1"))
    found = _bootstrap(terms, closed, resamples, np.random.default_rng(seed))
    return Grand(len(design.cells), closed, runs, found, _permutation(terms, contrast, seed))


def _design(record: Record, pair: str, contrast: Mapping[str, str]) -> tuple[Study, Design]:
    study = Study(record)
    design = study.design(pair, _signs(contrast))
    if not design.cells:
        raise AnalysisError(
            f"{pair} / {contrast['name']}: no target has both arms with and without an intermediate task",
            "`xtremex run` the rest of the suite first",
        )
    return study, design


def _by_key(
    terms: Sequence[Term],
) -> tuple[dict[Key, np.ndarray], dict[Key, tuple[int, ...]], dict[Key, float]]:
    """Per key: (S,) sum over targets of coefficient x score, its seeds, and what deterministic cells add."""
    scores: dict[Key, np.ndarray] = {}
    seeds: dict[Key, tuple[int, ...]] = {}
    fixed: dict[Key, float] = {}
    for term in terms:
        for key, c in term.used.items():
            cell: Cell = term.cells[key]
            z = c * (cell.scores @ term.language_weights)
            if cell.deterministic:
                fixed[key] = fixed.get(key, 0.0) + float(z[0])
            else:
                scores[key] = scores.get(key, 0.0) + z
                seeds[key] = cell.seeds
    return scores, seeds, fixed


def _bootstrap(terms: Sequence[Term], closed: Fit, resamples: int, rng: np.random.Generator) -> Bootstrap:
    runs = np.zeros(resamples)
    parts: list[tuple[float, float]] = []
    for z in _by_key(terms)[0].values():
        # S - 1 of S: S of them would have (S - 1) / S of the variance (Rao & Wu 1988)
        taken = z[rng.integers(0, len(z), (resamples, len(z) - 1))]
        runs += taken.mean(axis=1) - z.mean()
        parts.append((float(z.var(ddof=1)) / len(z), len(z) - 1.0))
    examples, v_examples, shared = np.zeros(resamples), 0.0, _units(terms) > MANY
    for term in terms:
        d = sum(c * term.cells[key].contributions for key, c in term.used.items())
        units = term.examples.unit_sums(np.asarray(d)[None, :], term.language_weights[None, :])[0]
        df = float(len(units) - (1 if term.examples.parallel else len(term.examples.languages)))
        units = _by_rank(units, term.examples) if shared else units
        draws = np.concatenate(
            [
                (rng.poisson(1.0, (min(BLOCK, resamples - start), len(units))) - 1.0) @ units
                for start in range(0, resamples, BLOCK)
            ]
        )
        raw = float(draws.var(ddof=1))
        v = max(0.0, raw - term.own_noise)
        examples += (draws - draws.mean()) * np.sqrt(v / raw) if raw > 0 else 0.0
        v_examples += v
        parts.append((v, df))
    draws = closed.value + runs + examples
    se = float(draws.std(ddof=1))
    df = satterthwaite(sum(v for v, _ in parts), parts)
    half = float(stdtrit(df, 1.0 - closed.alpha / 2.0)) * se
    p = min(1.0, 2.0 * float(stdtr(df, -abs(closed.value) / se))) if se > 0 else None
    low, high = (float(q) for q in np.quantile(draws, [closed.alpha / 2.0, 1.0 - closed.alpha / 2.0]))
    return Bootstrap(
        closed.value,
        se,
        df,
        p,
        closed.value - half,
        closed.value + half,
        (low, high),
        float(runs.var(ddof=1)),
        v_examples,
        resamples,
    )


def _units(terms: Sequence[Term]) -> int:
    return sum(len(term.examples.example) for term in terms)


def _by_rank(units: np.ndarray, examples: Examples) -> np.ndarray:
    """(G,) sums of units -> sums over the languages' units of the same rank: unbiased for the variance."""
    if examples.parallel:
        return units
    sizes = examples.sizes
    if examples.clustered:
        bounds = zip(examples.offsets[:-1], examples.offsets[1:], strict=True)
        sizes = np.array([len(np.unique(examples.cluster[start:stop])) for start, stop in bounds])
    rank = np.concatenate([np.arange(n) for n in sizes])
    return np.bincount(rank, weights=units)


def _permutation(terms: Sequence[Term], contrast: Mapping[str, str], seed: int) -> Permutation | None:
    scores, seeds, fixed = _by_key(terms)
    # seeds are nested in cells: their number is to agree, not their names
    counts = {len(s) for s in seeds.values()}
    if len(counts) != 1 or min(counts) < 2:
        return None
    sums: dict[Hashable, Any] = {}
    for key in {**scores, **fixed}:
        side = key[0], key[1] == NONE
        sums[side] = sums.get(side, 0.0) + scores.get(key, 0.0) + fixed.get(key, 0.0)
    plus, minus = contrast["plus"], contrast["minus"]
    sides = [sums[plus, False], -sums[plus, True], -sums[minus, False], sums[minus, True]]
    if any(np.ndim(side) == 0 for side in sides):
        return None
    return synchronized_permutation(*sides, seed=seed)


def shrink_map(record: Record, pair: str, contrast: Mapping[str, str]) -> ShrunkenMap:
    """The condition x target map, shrunken by its design's covariance; moderated variances where it is large enough.

    Raises ``AnalysisError`` where fewer than two cells have a test.
    """
    study, design = _design(record, pair, contrast)
    contrasts = {
        f"{condition}/{task}": terms_of([(condition, task)], design.grids, _signs(contrast))
        for condition, task in design.cells
    }
    family = joint_test(contrasts, correction="none", alpha=study.alpha)
    trained = sum(fit.df_residual > 0 for fit in family.fits)
    if trained >= SMALLEST_FAMILY and any(fit.v_run > 0 for fit in family.fits):
        family = joint_test(contrasts, correction="none", alpha=study.alpha, moderate=True)
    at = [i for i, fit in enumerate(family.fits) if fit.p is not None]
    if len(at) < 2:
        raise AnalysisError(
            f"{pair} / {contrast['name']}: {len(at)} cells of the map have a test; two are needed to shrink",
            "run more conditions or targets",
        )
    se = np.array([100.0 * family.fits[i].se for i in at])
    correlation = family.correlation[np.ix_(at, at)]
    # effects that share most of their runs may be nearly linear in each other
    ridge = 1e-9 * np.eye(len(at))
    names = [design.cells[i] for i in at]
    shrunken = shrink(
        [100.0 * family.fits[i].value for i in at],
        (correlation + ridge) * np.outer(se, se),
        [c for c, _ in names],
        [t for _, t in names],
        margin=study.settings.margin_task,
    )
    return ShrunkenMap(
        tuple(names), tuple(family.fits[i] for i in at), shrunken, family.moderation is not None
    )
