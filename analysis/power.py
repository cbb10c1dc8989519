"""Power by variance components: what an added seed buys, before anybody trains (statistics reference, section 3.5).

The variance of an effect averaged over T targets and C conditions, with S seeds per cell, equal language weights and
the runs without intermediate training shared by the conditions, is ``V = (a / C + b) 2 / S + 2 (1 / C + 1) v_c``, where

``b = sum_t (run_t + run_language_t / L + run_examples_t / (L n)) / T^2``, ``a = b + checkpoint``,
``v_c = sum_t cell_examples_t / (L n) / T^2``.

All components are variances on the scale of the score (fractions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import ndtr, ndtri, stdtrit

from ..errors import AnalysisError
from .equivalence import minimum_detectable_effect, power
from .fit import DegreesOfFreedom, satterthwaite

__all__ = [
    "Components",
    "PlannedTest",
    "PowerRow",
    "TargetComponents",
    "cost_per_seed",
    "planned_test",
    "power_table",
    "seeds_needed",
]

SEEDS = (3, 5, 10, 20)
DRAWS = 4000
"""Sets of run variances that the Welch test's power is averaged over."""


@dataclass(frozen=True)
class TargetComponents:
    """Variances of one target."""

    name: str
    sizes: tuple[int, ...]
    """Test examples per language."""
    run: float
    """One run's error, common to all languages; without the intermediate checkpoint's."""
    run_language: float
    run_examples: float
    """Variance over examples that is one run's own."""
    cell_examples: float
    """Variance over examples that the runs of a cell share, after what all cells share; effective, where a test set is
    parallel or clustered: what as many independent examples would need."""
    score: float = 0.7
    """Mean score of the cells, a fraction."""
    outcome: float = 0.21
    """Variance over examples of one run's contributions: p (1 - p) for accuracy."""
    cell_common: float = 0.0
    """The part of ``cell_examples`` that comes from items common to the languages of a parallel test set."""
    parallel: bool = False
    fixed_none: bool = False
    """Whether nothing is trained without an intermediate task, so that this side has no run variance."""

    @property
    def per_run(self) -> float:
        """Variance of one run's mean over languages."""
        return self.run + self.run_language / len(self.sizes) + self.per_run_examples

    @property
    def per_run_examples(self) -> float:
        """The part of it that one run's own examples make."""
        return self.run_examples * self._inverse

    @property
    def per_cell(self) -> float:
        """Variance over examples of a cell's mean over languages."""
        return self.cell_examples * self._inverse

    @property
    def df_examples(self) -> int:
        """Of the variance over examples (section 2.2)."""
        return max(self.sizes) - 1 if self.parallel else sum(self.sizes) - len(self.sizes)

    @property
    def _inverse(self) -> float:
        """1 / (L n) for L languages of n examples."""
        return float(np.mean(1.0 / np.asarray(self.sizes))) / len(self.sizes)


@dataclass(frozen=True)
class Components:
    """Variance components of a design, estimated (`pilot.variance_components`) or stated."""

    targets: tuple[TargetComponents, ...]
    checkpoint: float = 0.0
    """Variance of the intermediate checkpoint, common to all targets that it feeds."""

    @classmethod
    def stated(
        cls,
        *,
        sd_run: float = 0.005,
        sd_run_language: float = 0.006,
        sd_checkpoint: float = 0.0,
        run_examples: float = 0.1272,
        cell_examples: float = 0.01597,
        languages: int = 15,
        examples: int = 1000,
        targets: int = 1,
    ) -> Self:
        """Equal targets with stated SDs; the defaults are the base scenario of section 3.1 (accuracy of .7)."""
        if min(languages, targets) < 1 or examples < 2:
            raise AnalysisError(
                f"{targets} targets in {languages} languages of {examples} examples are no design",
                "at least one target, one language and two examples",
            )
        sizes = (examples,) * languages
        one = TargetComponents("", sizes, sd_run**2, sd_run_language**2, run_examples, cell_examples)
        named = (replace(one, name=f"target {i + 1}") for i in range(targets))
        return cls(tuple(named), sd_checkpoint**2)

    def of(self, name: str) -> Self:
        """One target alone. Its checkpoint error stays: it cannot be told from its runs'."""
        chosen = tuple(target for target in self.targets if target.name == name)
        if not chosen:
            raise AnalysisError(
                f"no components for {name!r}", f"targets: {', '.join(t.name for t in self.targets)}"
            )
        return replace(self, targets=chosen)


@dataclass(frozen=True)
class PowerRow:
    """What a number of seeds can see; effects in points."""

    seeds: int
    se: float
    df: float
    """Degrees of freedom; of Welch's, which vary from data to data, the median."""
    mde: float
    """Smallest effect found with the power that was asked for."""
    power: Mapping[float, float]
    """Effect in points -> power."""
    cost: float | None
    """Compute seconds of so many seeds; None where no cost is known."""


@dataclass(frozen=True, eq=False)
class PlannedTest:
    """The t test of a design whose variances are known."""

    v_runs: np.ndarray
    """(K,) contribution of each trained cell to the variance of the effect."""
    dfs: np.ndarray
    """(K,) its S - 1."""
    v_examples: float
    df_examples: float
    method: DegreesOfFreedom = "welch"
    alpha: float = 0.05
    seed: int = 0

    @property
    def se(self) -> float:
        """Of the effect, a fraction."""
        return float(np.sqrt(self.v_runs.sum() + self.v_examples))

    @cached_property
    def df(self) -> float:
        """Welch-Satterthwaite: the median over data sets with these variances; pooled: that of the design."""
        if self.method == "welch":
            return float(np.median(self._drawn[0]))
        parts = [(float(self.v_runs.sum()), float(self.dfs.sum())), (self.v_examples, self.df_examples)]
        return satterthwaite(self.se**2, [part for part in parts if part[1] > 0])

    @cached_property
    def _drawn(self) -> tuple[np.ndarray, np.ndarray]:
        """(DRAWS,) estimated df, and critical distance |estimate| from 0, of data sets with these variances."""
        rng = np.random.default_rng(self.seed)
        v = self.v_runs * rng.chisquare(self.dfs, (DRAWS, len(self.dfs))) / self.dfs
        total = v.sum(axis=1) + self.v_examples
        df = total**2 / ((v**2 / self.dfs).sum(axis=1) + self.v_examples**2 / self.df_examples)
        return df, stdtrit(df, 1.0 - self.alpha / 2.0) * np.sqrt(total)

    @property
    def width(self) -> float:
        """Expected width of the 1 - alpha interval."""
        if self.method == "pooled":
            return 2.0 * float(stdtrit(self.df, 1.0 - self.alpha / 2.0)) * self.se
        return 2.0 * float(self._drawn[1].mean())

    def floor(self, target: float) -> float:
        """The detectable effect of ever more seeds: what the examples alone hide."""
        return float(ndtri(1.0 - self.alpha / 2.0) + ndtri(target)) * math.sqrt(self.v_examples)

    def power(self, effect: float) -> float:
        """Probability of p < alpha where the true effect is ``effect``, a fraction."""
        if self.method == "pooled":
            return power(effect, self.se, self.df, self.alpha)
        # the estimate is independent of its run variances: given them, rejection is a normal probability
        critical = self._drawn[1]
        shift = abs(effect)
        return float(np.mean(ndtr((shift - critical) / self.se) + ndtr((-shift - critical) / self.se)))

    def mde(self, target: float) -> float:
        """The effect, a fraction, that is found with power ``target``."""
        if self.method == "pooled":
            return minimum_detectable_effect(self.se, self.df, self.alpha, target)
        top = self.se
        while self.power(top) < target:
            top *= 2.0
        found = root_scalar(lambda effect: self.power(effect) - target, bracket=(0.0, top), xtol=1e-7)
        return float(found.root)


def planned_test(
    components: Components,
    seeds: int,
    conditions: int = 1,
    method: DegreesOfFreedom = "welch",
    alpha: float = 0.05,
    seed: int = 0,
) -> PlannedTest:
    """The test of the difference in differences over all targets and ``conditions``; see ``power_table``.

    ``AnalysisError`` for fewer than two seeds, and where nothing varies.
    """
    if seeds < 2 or conditions < 1:
        raise AnalysisError(
            f"{seeds} seeds and {conditions} conditions carry no test over seeds",
            "two or more seeds, one or more conditions",
        )
    if not any(t.per_run + t.per_cell for t in components.targets) and not components.checkpoint:
        raise AnalysisError(
            f"nothing varies in {', '.join(t.name for t in components.targets)}: every effect would be found",
            "outcomes that are all equal plan nothing; state the components, or check the outcomes",
        )
    count = len(components.targets)
    trained = sum(t.per_run for t in components.targets) / count**2 + components.checkpoint
    none = sum(t.per_run for t in components.targets if not t.fixed_none) / count**2
    v_runs = np.array([trained / (conditions**2 * seeds)] * (2 * conditions) + [none / seeds] * 2)
    v_runs = v_runs[v_runs > 0]
    v_cell = sum(t.per_cell for t in components.targets) / count**2
    # a run that is never repeated keeps its own noise, which varies with the examples alone
    v_fixed = sum(t.per_run_examples for t in components.targets if t.fixed_none) / count**2
    df_examples = float(sum(t.df_examples for t in components.targets))
    return PlannedTest(
        v_runs,
        np.full(len(v_runs), seeds - 1.0),
        2.0 * (1.0 / conditions + 1.0) * v_cell + 2.0 * v_fixed,
        df_examples,
        method,
        alpha,
        seed,
    )


def power_table(
    components: Components,
    *,
    seeds: Sequence[int] = SEEDS,
    effects: Sequence[float] = (0.5, 1.0, 2.0),
    conditions: int = 1,
    target: float = 0.8,
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
    seconds_per_seed: float | None = None,
    seed: int = 0,
) -> list[PowerRow]:
    """What each number of seeds can see of the difference in differences, averaged over all targets of ``components``.

    ``effects`` are in points, ``conditions`` is how many intermediate conditions the effect averages over (1: one of
    them), ``alpha`` may be divided by the size of a family. ``df="welch"`` is the test in use: its power is averaged
    over simulated run variances (same ``seed``, same numbers). ``df="pooled"`` is the closed form of section 3.5 by the
    noncentral t, which promises a little more at three seeds. Examples' variance is taken as known.

    Raises ``AnalysisError`` for fewer than two seeds or less than one condition.
    """
    rows = []
    for count in seeds:
        test = planned_test(components, count, conditions, df, alpha, seed)
        rows.append(
            PowerRow(
                count,
                100.0 * test.se,
                test.df,
                100.0 * test.mde(target),
                {float(effect): test.power(effect / 100.0) for effect in effects},
                None if seconds_per_seed is None else seconds_per_seed * count,
            )
        )
    return rows


def seeds_needed(
    components: Components,
    effect: float,
    *,
    conditions: int = 1,
    target: float = 0.8,
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
    most: int = 1000,
    seed: int = 0,
) -> int | None:
    """Fewest seeds per cell that find an ``effect`` (points) with power ``target``; None where ``most`` do not.

    The examples' variance does not fall with seeds: below ``PlannedTest.floor`` no number is enough.
    """

    def enough(seeds: int) -> bool:
        return planned_test(components, seeds, conditions, df, alpha, seed).power(effect / 100.0) >= target

    if effect == 0 or not enough(most):
        return None
    low, high = 1, 2
    while not enough(high):
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def cost_per_seed(suite: Mapping[str, Any]) -> float | None:
    """Compute seconds of one seed of all cells of a suite, by its ``runs`` and ``intermediate_runs``; None where
    `suite.json` has no times."""
    jobs = [*suite.get("runs", ()), *suite.get("intermediate_runs", ())]
    timed = [job for job in jobs if job.get("seed", -1) >= 0 and job.get("seconds") is not None]
    seeds = {job["seed"] for job in timed}
    return sum(float(job["seconds"]) for job in timed) / len(seeds) if seeds else None
