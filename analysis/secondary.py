"""What stands beside the effects, as plain data: other tiers and samples, replication, failures, registration.

Values and intervals are in points, as in `results.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "ITT",
    "Absent",
    "CellLanguage",
    "Correlation",
    "FailureCount",
    "FailureTest",
    "LeaveOut",
    "LogOdds",
    "Prior",
    "Registration",
    "Replicability",
    "Replication",
    "Sensitivity",
    "Tested",
]

ITT = "intention-to-treat"
"""``what`` of a `Sensitivity` that imputes instead of leaving out."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """An estimate with its interval and its t test against 0, adjusted for nothing; points unless the class says otherwise.

    What else a p-value needs, the kind of df, is the suite's (`Estimate.df_method`).
    """

    value: float
    low: float
    high: float
    se: float
    """0 where nothing varies."""
    df: float
    p: float | None
    """Two-sided; None where nothing varies and no test exists."""
    tier: str
    """``T2`` beside effects of tier T3 where languages are fixed: one language, languages left out."""
    seeds: int
    """Fewest runs behind a trained cell; 0 where nothing is trained."""


@dataclass(frozen=True)
class LogOdds(Tested):
    """An effect on the logit scale, in log-odds; with the run variance moderated where the effect's is."""


@dataclass(frozen=True)
class Absent:
    """A view that the design cannot give, and why."""

    view: str
    """``T3``, or the ``what`` of a `Sensitivity`."""
    pair: str
    contrast: str
    reason: str


@dataclass(frozen=True)
class LeaveOut(Tested):
    """The primary effect without some languages: a family (no independent evidence), the training language, controls."""

    pair: str
    contrast: str
    role: str
    family: str
    left_out: tuple[str, ...]
    """Languages that are left out."""
    targets: int
    """Targets with other languages left."""
    what: Literal["family", "source", "untrained"] = "family"
    """``source``: the language of training, in which nothing is transferred; ``untrained``: what pre-training did not
    cover. ``family`` is empty for both."""


@dataclass(frozen=True)
class CellLanguage(Tested):
    """The effect in one language of a cell of the map that was found; exploratory."""

    pair: str
    contrast: str
    role: str
    condition: str
    target: str
    language: str
    name: str
    p_adjusted: float | None
    """Benjamini-Hochberg within the cell at alpha x cells found / cells tested (Benjamini & Bogomolov 2014)."""


@dataclass(frozen=True)
class Correlation:
    """How the effects of a family move together by design: they share runs without intermediate training."""

    pair: str
    contrast: str
    family: str
    names: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Prior:
    """What the run variances of a map were moderated with (Smyth 2004)."""

    pair: str
    contrast: str
    family: str
    cells: int
    """Cells with runs."""
    df: float | None
    """Prior degrees of freedom; None for infinity: about their target's level, the variances differ no more than
    chance explains."""
    run_sd: float
    """Prior SD of one run's score, in points: of the targets' levels, the geometric mean."""
    levels: tuple[tuple[str, float], ...] = ()
    """(target, SD of one run's score there in points), moderated; only targets with three cells or more."""


@dataclass(frozen=True)
class Replicability:
    """In how many targets one condition has an effect (Benjamini & Heller 2008; Dror et al. 2017)."""

    pair: str
    contrast: str
    role: str
    condition: str
    """An intermediate condition, or ``*``: the targets' means over conditions."""
    targets: int
    """Targets with a test."""
    count: int
    """Largest u for which "an effect in at least u targets" holds at alpha; the number that Holm rejects."""
    positive: int
    """Of the ``count`` targets with the smallest p-values, those in which the effect is above 0."""
    p: tuple[float, ...]
    """p-value of "in at least u targets" for u = 1, 2, ...; Bonferroni combination, for any dependence."""


@dataclass(frozen=True)
class Replication:
    """One contrast in every pair that has it: the largest of the p-values, with the signs."""

    contrast: str
    role: str
    condition: str
    pairs: tuple[str, ...]
    values: tuple[float, ...]
    p: float | None
    """Of "an effect in every pair", a condition's adjusted within each pair (Holm); None where a pair has no test."""
    agree: bool
    """Whether all effects point the same way: without it the p-value claims nothing."""
    shown: bool
    """``agree`` and p below alpha, with three seeds or more."""


@dataclass(frozen=True)
class FailureCount:
    """A cell's runs: planned, analysed, restarted, collapsed; which languages they lack and which were left out."""

    pair: str
    arm: str
    condition: str
    target: str
    planned: int
    """1 where nothing is trained."""
    analysed: int
    restarted: int
    """Runs whose target stage needed a second attempt."""
    collapsed: int
    """Runs whose target stage collapsed at the last attempt and was kept."""
    intermediate_restarted: int
    intermediate_collapsed: int
    missing_languages: tuple[str, ...]
    """Languages of the target that a run of this cell lacks."""
    missing_seeds: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Each of them -> the seeds of the runs that lack it."""
    left_out: tuple[str, ...] = ()
    """Languages that the analysis left out here because this cell, or another of its pair and target, lacks them:
    scores are compared on the intersection (statistics reference, section 2.8)."""

    @property
    def missing(self) -> int:
        return max(0, self.planned - self.analysed)

    @property
    def complete(self) -> bool:
        failed = self.restarted + self.collapsed + self.intermediate_restarted + self.intermediate_collapsed
        return not (failed or self.missing or self.missing_languages)


@dataclass(frozen=True)
class FailureTest:
    """Whether training failed at the first attempt more often in one arm than in the other."""

    pair: str
    contrast: str
    role: str
    test: str
    """``imbalance`` (Fisher's exact test of two arms) or ``interaction`` (Zelen's exact test of equal odds ratios
    with and without intermediate training: "less collapse" may be an effect)."""
    stage: str
    """``intermediate`` or ``target``."""
    failed: dict[str, int]
    """``vision`` or, for the interaction, ``vision/with`` and ``vision/none`` -> trainings that failed."""
    trainings: dict[str, int]
    """The same keys -> trainings."""
    p: float


@dataclass(frozen=True)
class Sensitivity(Tested):
    """The grand effect under another treatment of failed runs."""

    pair: str
    contrast: str
    role: str
    what: str
    """``without-collapsed``, or ``without-restarted``: without every run that failed at its first attempt; the seeds
    concerned are left out of their arm and condition on all targets.

    ``intention-to-treat``: with every target stage that was restarted at the baseline where its first attempt ended.
    """
    dropped: int
    """Runs (seed of an arm and condition) left out, each on all targets; runs put at the baseline."""
    changed: bool
    """Whether one of the two is significant and the other is not, or both are with opposite signs; the primary analysis
    keeps every run."""


@dataclass(frozen=True)
class Registration:
    """The registered design (`preregistration.json`) and what was analysed instead."""

    sha256: str
    registered: str
    """UTC time."""
    late: bool
    """Made after outcomes existed: nothing in it is confirmatory."""
    hypotheses: int
    deviations: tuple[str, ...]
    """Differences between the registered and the analysed design, a sentence each."""
    changed: tuple[str, ...] = ()
    """Pairs whose effects the deviations made exploratory; ``*`` for all."""
