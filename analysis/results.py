"""What the analysis says, as plain data: `report.json` is exactly this tree, and every table and figure reads only it.

Values, intervals, margins and detectable effects are in *points* (100 x the metric); scores in [0, 1] stay fractions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from .secondary import (
    Absent,
    CellLanguage,
    Correlation,
    FailureCount,
    FailureTest,
    LeaveOut,
    LogOdds,
    Prior,
    Registration,
    Replicability,
    Replication,
    Sensitivity,
    Tested,
)

__all__ = [
    "Answer",
    "BenchmarkScore",
    "Estimate",
    "Gain",
    "LanguageEffect",
    "LayerCurve",
    "LayerScore",
    "Results",
    "Retention",
    "Score",
]

FEWEST_FOR_A_VERDICT = 3
"""Seeds from which on a run variance of its own carries a verdict."""
Verdict = Literal["different", "equivalent", "different-but-negligible", "inconclusive"]
Status = Literal["confirmatory", "exploratory", "unregistered"]


@dataclass(frozen=True)
class Estimate:
    """One effect (a difference in differences) with everything that a reader needs to judge it."""

    pair: str
    contrast: str
    """``vision-text`` or ``scrambled-text``: delta(plus) - delta(minus)."""
    role: str
    """``primary`` or ``placebo``; in ``Results.further`` also ``placebo-difference`` and ``trend``."""
    condition: str
    """An intermediate condition, or ``*`` for the mean over them."""
    target: str
    """A target task, or ``*`` for the mean over them."""
    value: float
    low: float
    high: float
    se: float
    df: float
    p: float | None
    """None where the design cannot give one (every part deterministic); otherwise two-sided.

    In a map of 20 trained cells or more the run variance is moderated; ``p_unmoderated`` has the other.
    """
    p_adjusted: float | None
    family: str
    """Name of the family the correction ran over: ``grand``, ``conditions``, ``targets``, ``map``.

    ``primary`` is the condition that the suite names as its primary hypothesis, in place of the grand effect.
    """
    family_size: int
    correction: str
    """``holm``, ``bh`` or ``none``."""
    tier: str
    seeds: int
    margin: float
    p_equivalence: float | None
    """TOST p-value against ``margin``."""
    verdict: Verdict
    """``inconclusive`` wherever ``provisional``."""
    mde: float
    """Minimum detectable effect, in points: 80 % power at alpha, given this estimate's variance and df."""
    variance_shares: dict[str, float]
    """Shares of the variance of the estimate: ``run``, ``examples`` and, at T3, ``languages``.

    They sum to 1; all 0 where nothing varies.
    """
    languages: int
    examples: int
    """Test examples per run, over all languages and targets."""
    df_method: str = "welch"
    p_unmoderated: float | None = None
    """The p-value with the estimate's own run variance; None where it was not moderated."""
    p_by: float | None = None
    """Map: adjusted by Benjamini & Yekutieli, valid under any dependence. A sensitivity check."""
    p_max_t: float | None = None
    """Conditions: adjusted by step-down max-T with the design's correlation, beside Holm."""
    logit: LogOdds | None = None
    """The same contrast of log-odds; None at another tier than the primary one."""
    scale_dependent: bool = False
    """Whether sign or significance (unadjusted) differ between points and log-odds (Loftus 1978)."""
    superiority: float | None = None
    """P(gain of plus > gain of minus) for two runs drawn at random; mean over conditions. None for a trend."""
    run_sd: float | None = None
    """SD of one run's score, in points, as the test estimates it (moderated in a moderated map)."""
    standardised: float | None = None
    """The effect in run SDs."""
    status: Status = "unregistered"
    """``confirmatory``: registered before scores were read and analysed as registered."""

    @property
    def provisional(self) -> bool:
        """Two seeds, and a run variance from these cells alone: one degree of freedom per cell carries no verdict.

        Variances that are moderated, or pooled because the suite asks for it, borrow from other cells (statistics
        reference, section 2.8).
        """
        alone = self.p_unmoderated is None and self.df_method == "welch"
        return self.seeds == FEWEST_FOR_A_VERDICT - 1 and self.tier != "T0" and alone


@dataclass(frozen=True)
class Gain(Tested):
    """delta(a, c, t): score after intermediate training minus score without, for one arm.

    ``condition`` and ``target`` may be ``*`` as in ``Estimate``: the mean over them.
    """

    pair: str
    arm: str
    condition: str
    target: str


@dataclass(frozen=True)
class Score:
    """A cell: mean over seeds of the mean over languages, as a fraction."""

    pair: str
    arm: str
    condition: str
    target: str
    metric: str
    mean: float
    sd: float | None
    """Standard deviation over seeds; None for one run."""
    seeds: int
    source: float | None
    """Score in the source language; None where it is no test language (retrieval)."""
    transfer: float | None
    """Mean over the other languages."""
    baseline: float | None
    """Mean over languages of the best baseline."""
    deterministic: bool


@dataclass(frozen=True)
class LanguageEffect(Tested):
    """The effect in one language, averaged over targets that have it and over conditions (exploratory)."""

    pair: str
    contrast: str
    role: str
    language: str
    name: str
    family: str
    untrained: bool
    """Whether the encoder's pre-training did not cover the language (a control)."""
    targets: int


@dataclass(frozen=True)
class Retention:
    """Image-text retrieval before and after intermediate training; outside every family of effects."""

    pair: str
    arm: str
    condition: str
    """``none`` is "before"."""
    target: str
    metric: str
    mean: float
    change: float | None
    """Points against ``none``; None for ``none`` itself."""
    low: float | None
    high: float | None
    seeds: int
    chance: float | None


@dataclass(frozen=True)
class BenchmarkScore:
    """A score as the benchmark itself averages: a task, a group of tasks, or the whole (`analysis/xtreme.py`)."""

    pair: str
    arm: str
    condition: str
    level: str
    """``task``, ``group`` or ``overall``."""
    name: str
    """The task (``xnli``), the group (``tagging``) or ``overall``."""
    group: str
    metric: str
    counted: bool
    """Whether it enters the averages; False for a metric shown beside (accuracy of part-of-speech tags)."""
    mean: float | None
    """Over seeds of the mean over all official languages (English included); None where ``missing`` names some."""
    sd: float | None
    seeds: int
    source: float | None
    """Score in English; None where English is no test language, and for means over tasks."""
    transfer: float | None
    """Mean over the other official languages."""
    gap: float | None
    """``source - transfer``."""
    languages: int
    missing: tuple[str, ...]
    """Official languages (of a task) or tasks (of a mean) that are not there."""


@dataclass(frozen=True)
class LayerCurve:
    """Retrieval score by layer, mean over seeds, for one pooling."""

    pair: str
    arm: str
    condition: str
    task: str
    split: str
    """``test``, or ``dev`` where the test set was not scored at every layer."""
    pooling: str
    layers: tuple[int, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class LayerScore:
    """Retrieval at one rule for the layer: ``fixed`` in advance, ``chosen`` on dev, ``best`` on the scored split."""

    pair: str
    arm: str
    condition: str
    task: str
    rule: str
    split: str
    views: tuple[str, ...]
    """The views the rule took, over seeds, most frequent first."""
    mean: float
    sd: float | None
    seeds: int
    gain: float | None
    """Points against ``none`` under the same rule; None for ``none`` itself."""


@dataclass(frozen=True)
class Answer:
    """The opening sentence of a report and the numbers behind it."""

    sentence: str
    """One sentence with effect, interval, p, verdict and what the seeds could detect."""
    estimate: Estimate | None
    """The grand effect; None when there is none: one arm, or no cell that all arms of the contrast have."""
    role: str
    lead: str = ""
    """The verdict in a word or two, as it stands in the sentence; empty where there is none."""


@dataclass(frozen=True)
class Results:
    suite: dict[str, Any]
    """`suite.json`, whole."""
    answers: tuple[Answer, ...]
    """Primary first, then the placebo; per pair."""
    estimates: tuple[Estimate, ...]
    """All effects: grand, per condition, per target, and the condition x target map."""
    gains: tuple[Gain, ...]
    scores: tuple[Score, ...]
    languages: tuple[LanguageEffect, ...]
    retention: tuple[Retention, ...]
    warnings: tuple[str, ...]
    """Sentences a reader must see: restarts, collapses, dropped languages, exceptions, few seeds."""
    signature: str
    benchmark: tuple[BenchmarkScore, ...] = ()
    """Official averages; empty where no target belongs to a benchmark."""
    layer_scores: tuple[LayerScore, ...] = ()
    layer_curves: tuple[LayerCurve, ...] = ()
    further: tuple[Estimate, ...] = ()
    """Derived contrasts, grand and per condition: placebo differences, trends over a ladder of arms (points per
    step)."""
    generalisation: tuple[Estimate, ...] = ()
    """Tier T3, where ten languages or more were tested: the grand effects and those per condition once more."""
    absent: tuple[Absent, ...] = ()
    leave_out: tuple[LeaveOut, ...] = ()
    cell_languages: tuple[CellLanguage, ...] = ()
    """Languages within the cells of the map that were found."""
    correlations: tuple[Correlation, ...] = ()
    priors: tuple[Prior, ...] = ()
    replicability: tuple[Replicability, ...] = ()
    replication: tuple[Replication, ...] = ()
    """Over pairs; empty where no contrast is in two pairs."""
    failures: tuple[FailureCount, ...] = ()
    """Every cell of the design, retention included."""
    failure_tests: tuple[FailureTest, ...] = ()
    """Empty where no training failed."""
    sensitivity: tuple[Sensitivity, ...] = ()
    registration: Registration | None = None
    """None where no design was registered."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
