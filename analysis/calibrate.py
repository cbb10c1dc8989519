"""The error rate of the test in use on a suite's own design, beside the tests that the field uses.

The design is simulated with the suite's estimated variance components (`pilot.py`): the first contrast's seeds in each
cell, the targets, languages and test sizes, parallel test sets with the covariance that their languages were found to have,
and binary outcomes whose latent difficulty gives the estimated shares of run-specific and cell-specific example variance.
Metrics other than accuracy stand in as accuracy with as many examples as give their variance, paragraphs as single
examples with the variance that they were found to have. Main effects are 0, and the languages' own effects vary as in the
generator's base scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import ndtri

from ..errors import AnalysisError
from .comparisons import NONE
from .estimator import Term, estimate
from .families import by_target
from .fit import DegreesOfFreedom
from .habits import HABITS, Drawn, Interval
from .moderation import moderated
from .multiplicity import benjamini_hochberg, holm
from .outcomes import Record
from .pilot import variance_components
from .power import Components, PlannedTest, TargetComponents
from .settings import Settings
from .simulate import Scenario, simulate_together

__all__ = [
    "IN_USE",
    "Calibrated",
    "calibrate_components",
    "calibrate_suite",
    "familywise_error",
    "joint_success",
    "planned",
    "scenario_of",
]

IN_USE = "MWV-t, tier T2 (in use)"
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


@dataclass(frozen=True)
class Calibrated:
    """One test on one effect of the design."""

    scope: str
    """The target, or ``*`` for the mean over targets."""
    method: str
    datasets: int
    error: float
    """Share of data sets in which a true effect is rejected at alpha: the type-I error."""
    coverage: float | None
    """Of the 1 - alpha interval; None for a test without one."""
    width: float | None
    """Mean width of the interval, in points."""
    standard_error: float
    """Monte-Carlo standard error of ``error`` at the nominal rate."""


def joint_success(p: float, correlation: float) -> float:
    """P(both of two outcomes succeed), each with probability ``p``, for a latent ``correlation`` (Plackett 1954)."""
    t = float(ndtri(p))
    r = 0.5 * correlation * (_NODES + 1.0)
    slope = np.exp(-t * t / (1.0 + r)) / (2.0 * np.pi * np.sqrt(1.0 - r * r))
    return p * p + 0.5 * correlation * float(_WEIGHTS @ slope)


def scenario_of(
    target: TargetComponents, seeds: int | tuple[int, ...], checkpoint: float = 0.0, effect: float = 0.0
) -> Scenario:
    """A scenario of the generator with these components, of one condition; ``seeds`` per cell, or four numbers: plus arm
    with and without, minus arm with and without."""
    p = float(np.clip(target.score, 0.05, 0.95))
    total = p * (1.0 - p)
    scale = total / target.outcome if target.outcome > 0 else 1.0
    own = min(scale * target.run_examples, 0.95 * total)
    languages, effective = len(target.sizes), scale * target.cell_examples
    # two languages have at most all of it in common, and then each has its share of the whole
    apart = max(effective - scale * target.cell_common, effective / languages)
    covariance = (effective - apart) / (languages - 1) if target.parallel and languages > 1 else 0.0
    cell = min(apart, 0.95 * (total - own))

    def correlation(wanted: float) -> float:
        """The latent correlation at which two runs share this much variance."""
        top = 0.999
        if joint_success(p, top) - p * p <= wanted:
            return top
        return float(root_scalar(lambda r: joint_success(p, r) - p * p - wanted, bracket=(0.0, top)).root)

    within, between = correlation(total - own), correlation(total - own - cell)
    latent = within - between
    together = min(1.0, correlation(covariance) / latent) if latent > 0 and covariance > 0 else 0.0
    sizes = tuple(max(2, round(n * scale)) for n in target.sizes)
    return Scenario(
        seeds=seeds,
        languages=languages,
        examples=sizes[0] if len(set(sizes)) == 1 else sizes,
        mean=p,
        arm=0.0,
        condition=0.0,
        effect=effect,
        sd_run=float(np.sqrt(target.run)),
        sd_run_language=float(np.sqrt(target.run_language)),
        sd_checkpoint=float(np.sqrt(checkpoint)),
        parallel=target.parallel,
        parallel_share=together,
        difficulty=(between, latent),
        fixed_none=target.fixed_none,
    )


def calibrate_suite(
    record: Record,
    datasets: int = 200,
    seed: int = 0,
    *,
    pair: str | None = None,
    habits: Sequence[str] = tuple(HABITS),
    progress: Callable[[], None] | None = None,
) -> list[Calibrated]:
    """Rows for every target and for the mean over targets (one condition against ``none``, two arms), by test.

    ``pair`` defaults to the first with outcomes, ``progress`` is called after every data set; alpha and df are the
    suite's. Same seed, same numbers. Raises ``AnalysisError`` where no cell has two runs, or no arm a condition and
    ``none``.
    """
    settings = Settings.of(record.suite)
    pair = next(p for p, _ in record.cells) if pair is None else pair
    return calibrate_components(
        variance_components(record, pair),
        _seeds(record, pair),
        datasets,
        seed,
        alpha=settings.alpha,
        df=settings.df,
        habits=habits,
        progress=progress,
    )


def _seeds(record: Record, pair: str) -> int | tuple[int, ...]:
    """Fewest runs of a trained cell on each side of the pair's first contrast: plus with, without, minus with, without."""
    trained = [
        (arm, condition == NONE, len(cell.seeds))
        for (p, _), grid in record.cells.items()
        if p == pair
        for (arm, condition), cell in grid.items()
        if len(cell.seeds) > 1
    ]
    least = min(count for *_, count in trained)
    contrasts = [c for p in record.suite["pairs"] if p["name"] == pair for c in p["contrasts"]]
    if not contrasts:
        return least
    sides = [(contrasts[0][arm], none) for arm in ("plus", "minus") for none in (False, True)]
    return tuple(min((n for *at, n in trained if tuple(at) == side), default=least) for side in sides)


def calibrate_components(
    components: Components,
    seeds: int | tuple[int, ...],
    datasets: int = 200,
    seed: int = 0,
    *,
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
    habits: Sequence[str] = tuple(HABITS),
    progress: Callable[[], None] | None = None,
) -> list[Calibrated]:
    """As ``calibrate_suite``, from components that are known; ``seeds`` as in ``scenario_of``.

    A habit that has no test of so few languages has no row. ``AnalysisError`` for fewer than one data set.
    """
    if datasets < 1:
        raise AnalysisError(f"{datasets} data sets give no rate", "some hundreds give one to a point or two")
    scenarios = [scenario_of(target, seeds, components.checkpoint) for target in components.targets]
    names = [target.name for target in components.targets]
    scopes = {name: [i] for i, name in enumerate(names)} | (
        {"*": list(range(len(names)))} if len(names) > 1 else {}
    )
    rng = np.random.default_rng(seed)
    rows: dict[tuple[str, str], list[tuple[bool, float]]] = {}
    for _ in range(datasets):
        tasks = simulate_together(scenarios, rng)
        drawn = [Drawn(task.cells(), scenarios[0].coefficients) for task in tasks]
        for scope, chosen in scopes.items():
            truth = float(np.mean([tasks[i].truth for i in chosen]))
            targets = [drawn[i] for i in chosen]
            intervals = {IN_USE: _in_use(targets, alpha, df)} | {
                h: HABITS[h](targets, alpha, rng) for h in habits
            }
            for method, interval in intervals.items():
                if interval is None:
                    continue
                found = interval.misses(truth, alpha), interval.high - interval.low
                rows.setdefault((scope, method), []).append(found)
        if progress is not None:
            progress()
    error = float(np.sqrt(alpha * (1.0 - alpha) / datasets))
    result = []
    for scope, method in rows:
        missed, width = (float(np.mean(column)) for column in zip(*rows[scope, method], strict=True))
        interval = not np.isnan(width)
        result.append(
            Calibrated(
                scope,
                method,
                datasets,
                missed,
                1.0 - missed if interval else None,
                100.0 * width if interval else None,
                error,
            )
        )
    return result


def familywise_error(
    scenario: Scenario, datasets: int, seed: int = 0, *, alpha: float = 0.05
) -> dict[str, float]:
    """Share of data sets in which some cell of the condition x target map is rejected though no effect is there.

    Keys: ``uncorrected``, ``Holm`` (the tests in use), ``moderated + Holm`` and ``moderated + BH`` (under the global
    null, BH's false discovery rate). The scenario's effect and the languages' own must be 0; ``AnalysisError`` else.
    """
    if scenario.effect or scenario.sd_effect_language:
        raise AnalysisError(
            f"an effect of {scenario.effect} with SD {scenario.sd_effect_language} over languages is no null",
            "set effect=0 and sd_effect_language=0",
        )
    rng = np.random.default_rng(seed)
    last = scenario.conditions
    counts = dict.fromkeys(("uncorrected", "Holm", "moderated + Holm", "moderated + BH"), 0)
    for _ in range(datasets):
        terms = []
        for task in simulate_together([scenario] * scenario.tasks, rng):
            cells = dict(enumerate(task.cells()))
            for c in range(last):
                signs = {c: 1.0, last: -1.0, last + 1 + c: -1.0, 2 * last + 1: 1.0}
                terms.append([Term(cells, signs)])
        fits = [estimate(term, alpha=alpha) for term in terms]
        new, _ = moderated(fits, by_target(terms))
        p, q = ([fit.p if fit.p is not None else 1.0 for fit in some] for some in (fits, new))
        adjusted = zip(counts, (np.asarray(p), holm(p), holm(q), benjamini_hochberg(q)), strict=True)
        for name, values in adjusted:
            counts[name] += bool(np.any(values < alpha))
    return {name: count / datasets for name, count in counts.items()}


def _in_use(targets: Sequence[Drawn], alpha: float, df: DegreesOfFreedom) -> Interval:
    terms = [
        Term(dict(enumerate(t.cells)), {k: c / len(targets) for k, c in enumerate(t.coefficients)})
        for t in targets
    ]
    fit = estimate(terms, alpha=alpha, df=df)
    return Interval(fit.low, fit.high)


def planned(scenario: Scenario, alpha: float = 0.05) -> PlannedTest:
    """What the formula of section 3.5 says of a scenario, its variances known: for the width that a test may have.

    Success probabilities of the languages are taken as the mean. For accuracy only; ``AnalysisError`` for F1.
    """
    if scenario.metric != "accuracy":
        raise AnalysisError(
            "the formula's variances are those of accuracy", "compare widths of scenarios of accuracy"
        )
    p, (common, cell) = scenario.mean, scenario.difficulty
    count, tasks, sizes = scenario.languages, scenario.tasks, np.array(scenario.sizes)
    # as many examples in every language give the same variance
    n = 1.0 / float(np.mean(1.0 / sizes))
    shared = joint_success(p, common + cell)
    own, cells = p - shared, _shared_by_cell(scenario)
    if scenario.parallel and scenario.run_share:
        among_cell = scenario.parallel_share * cell
        among_run = among_cell + scenario.run_share * (1.0 - common - cell)
        own += (count - 1) * (joint_success(p, among_run) - joint_success(p, among_cell))
    c = np.asarray(scenario.coefficients)
    seeds = np.broadcast_to(np.asarray(scenario.seeds, dtype=np.float64), c.shape)
    run = np.broadcast_to(np.asarray(scenario.sd_run, dtype=np.float64) ** 2, c.shape)
    trained = np.array(([1.0] * scenario.conditions + [0.0]) * 2)
    one = run + (scenario.sd_run_language**2 + own / n) / count
    v_runs = c**2 / seeds * (one / tasks + trained * scenario.sd_checkpoint**2)
    v_examples = float(c @ c) * cells / (count * n * tasks)
    if scenario.fixed_none:
        # the noise of the one run is fixed with it, and varies with the examples alone
        v_examples += float(c @ ((1.0 - trained) * c)) * own / (count * n * tasks)
        v_runs = v_runs * trained
    kept = v_runs > 0
    units = -(-sizes // scenario.cluster_size)
    df = float(tasks * (units.max() - 1 if scenario.parallel else np.sum(units - 1)))
    return PlannedTest(v_runs[kept], seeds[kept] - 1.0, v_examples, df, alpha=alpha)


def _shared_by_cell(scenario: Scenario) -> float:
    """Variance over examples that the runs of a cell share after what all runs share; of as many independent examples."""
    p, (common, cell), more = scenario.mean, scenario.difficulty, scenario.languages - 1

    def left(among_all: float, among_cell: float) -> float:
        return joint_success(p, among_all + among_cell) - joint_success(p, among_all)

    total = left(common, cell)
    together = scenario.parallel_share * cell
    if scenario.cluster_size == 1:
        return total + (more * left(0.0, together) if scenario.parallel else 0.0)
    # neighbours in a paragraph share half of it, in a parallel set those of other languages too
    neighbours = scenario.cluster_size - 1
    total += neighbours * left(common / 2.0, cell / 2.0)
    if scenario.parallel:
        total += more * left(common / 2.0, together)
        total += more * neighbours * left(common / 2.0, together / 2.0)
    return total
