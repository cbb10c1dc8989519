"""What an estimate is: value, interval, test and the parts of its variance; printable as sentence, row and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

import numpy as np
from scipy.special import stdtr, stdtrit

from .equivalence import equivalence_p, minimum_detectable_effect, verdict
from .results import Verdict

__all__ = ["DegreesOfFreedom", "Effect", "Fit", "Tier", "satterthwaite", "scales_disagree"]

Tier = Literal["T0", "T1", "T2", "T3"]
DegreesOfFreedom = Literal["welch", "pooled"]
POINTS = 100.0
FEW_LANGUAGES = 10


def satterthwaite(total: float, parts: Sequence[tuple[float, float]]) -> float:
    """Degrees of freedom of a variance ``total`` that was estimated from (variance, df) ``parts``.

    ``total`` is their sum or, where a part was subtracted, less. Each part's square is divided by its own df,
    which also defines the 0 / 0 of parts that do not vary; where none varies, the df of all parts add. At
    least 1: where most of a part was subtracted again, the ratio may fall below any t that has a scale.
    """
    spread = sum(v * v / df for v, df in parts)
    if spread <= 0:
        return float(sum(df for _, df in parts))
    return float(max(1.0, total * total / spread))


@dataclass(frozen=True)
class Fit:
    """An estimate on the scale of the scores (fractions)."""

    value: float
    se: float
    df: float
    p: float | None
    """Two-sided; None where the estimated variance is 0 and no test exists."""
    low: float
    high: float
    v_run: float
    v_examples: float
    tier: Tier
    seeds: int
    """Fewest runs behind a trained cell; 0 when all cells are deterministic."""
    v_languages: float = 0.0
    """What new languages add to the variance; 0 below T3."""
    languages: int = 0
    """Languages the interval generalises from, over all targets; 0 below T3, where languages are fixed."""
    df_run: float = 0.0
    """df of ``v_run``, by Welch-Satterthwaite unless pooled; with the prior's once moderated. 0 without runs."""
    df_residual: float = 0.0
    """Residual df of the runs: the sum of S - 1 over trained cells."""
    df_examples: float = 0.0
    run_scale: float = 0.0
    """Sum of coefficient^2 / S: ``v_run / run_scale`` is the (mean) variance of one run."""
    df_method: DegreesOfFreedom = "welch"
    alpha: float = 0.05
    p_unmoderated: float | None = None
    """The p-value before the run variance was moderated; None where it was not."""

    @classmethod
    def of(
        cls, value: float, variance: float, df: float, *, alpha: float, tier: Tier, seeds: int, **parts: Any
    ) -> Self:
        """The t test and the 1 - alpha interval of an estimate with this variance and df."""
        se = float(np.sqrt(variance))
        p, half = None, 0.0
        if se > 0:
            p = float(min(1.0, 2.0 * stdtr(df, -abs(value) / se)))
            half = float(stdtrit(df, 1.0 - alpha / 2.0)) * se
        low, high = value - half, value + half
        return cls(
            value=value, se=se, df=df, p=p, low=low, high=high, tier=tier, seeds=seeds, alpha=alpha, **parts
        )

    def moderated(self, variance: float, df_run: float) -> Self:
        """With this ``variance`` of one run and its df instead of its own; ``p_unmoderated`` keeps the p-value."""
        v_run = variance * self.run_scale
        total = v_run + self.v_examples
        df = satterthwaite(total, [(v_run, df_run), (self.v_examples, self.df_examples or 1.0)])
        new = Fit.of(
            self.value,
            total,
            df,
            alpha=self.alpha,
            tier=self.tier,
            seeds=self.seeds,
            v_run=v_run,
            v_examples=self.v_examples,
        )
        changed = {name: getattr(new, name) for name in ("se", "df", "p", "low", "high", "v_run")}
        return replace(self, **changed, df_run=df_run, p_unmoderated=self.p)

    @property
    def variance(self) -> float:
        return self.v_run + self.v_examples + self.v_languages

    @property
    def shares(self) -> dict[str, float]:
        """Shares of the variance: ``run``, ``examples`` and, at T3, ``languages``; all 0 where nothing varies."""
        parts = {"run": self.v_run, "examples": self.v_examples}
        if self.tier == "T3":
            parts["languages"] = self.v_languages
        total = self.variance
        return {name: v / total if total > 0 else 0.0 for name, v in parts.items()}

    @property
    def mde(self) -> float:
        """Minimum detectable effect (power .8 at alpha) with this variance and df, a fraction."""
        return minimum_detectable_effect(self.se, self.df, self.alpha)

    def equivalence(self, margin: float) -> float | None:
        """TOST p-value against ``margin``, a fraction; None where nothing varies."""
        return equivalence_p(self.value, self.se, self.df, margin)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Sentences to print beside the estimate."""
        found = []
        if self.tier == "T0":
            found.append("Tier T0 speaks of these checkpoints only, not of training again.")
        if self.tier in ("T1", "T2", "T3") and self.seeds == 2:
            found.append("Two seeds: the run variance has one degree of freedom per cell.")
        if self.tier != "T0" and self.df_residual > 0 and self.v_run == 0:
            found.append("The runs of a cell did not differ at all: check that their seeds do.")
        if 0 < self.languages < FEW_LANGUAGES:
            found.append(
                f"Tier T3 generalises to new languages from {self.languages}; fewer than {FEW_LANGUAGES} say little."
            )
        return tuple(found)

    def __str__(self) -> str:
        value, low, high = (f"{POINTS * x:+.2f}" for x in (self.value, self.low, self.high))
        return f"{value} points ({100 * (1 - self.alpha):g} % CI {low} to {high}, {self._test()})"

    def _test(self) -> str:
        about = f"tier {self.tier}, {_seeds(self.seeds)}"
        if self.p is None:
            return f"no test: nothing varied, {about}"
        moderated = "" if self.p_unmoderated is None else f" moderated, unmoderated {_p(self.p_unmoderated)}"
        return f"t = {self.value / self.se:.2f}, {self.df_method} df {self.df:.1f}, {_p(self.p)}{moderated}, {about}"

    def row(self) -> dict[str, float | int | str | None]:
        """Flat columns for a table; value, interval, se and detectable effect in points."""
        return {
            "estimate": POINTS * self.value,
            "low": POINTS * self.low,
            "high": POINTS * self.high,
            "se": POINTS * self.se,
            "df": self.df,
            "p": self.p,
            "p_unmoderated": self.p_unmoderated,
            "tier": self.tier,
            "df_method": self.df_method,
            "seeds": self.seeds,
            "mde": POINTS * self.mde,
            **{f"share_{name}": share for name, share in self.shares.items()},
        }

    def to_json(self) -> dict[str, Any]:
        """All fields (fractions) as plain data, with ``shares``, ``mde`` and ``cautions``."""
        return asdict(self) | {"shares": self.shares, "mde": self.mde, "cautions": list(self.cautions)}


@dataclass(frozen=True)
class Effect(Fit):
    """A difference in differences with everything that a reader needs to judge it; made by ``did``."""

    margin: float = 0.01
    """Margin of equivalence, a fraction."""
    p_equivalence: float | None = None
    verdict: Verdict = "inconclusive"
    logit: Fit | None = None
    """The same contrast of log-odds; None for scores outside [0, 1]."""
    superiority: float | None = None
    """P(gain of plus > gain of minus) over all combinations of runs, ties counted half (section 2.7)."""
    run_sd: float | None = None
    """SD of one run's score, pooled over the trained cells, a fraction; None without two runs in any."""
    gains: tuple[float, float] | None = None
    """Of the plus and of the minus arm, fractions: ``value`` is their difference."""
    size: tuple[int, int] | None = None
    """Languages, and examples in all of them."""

    def moderated(self, variance: float, df_run: float) -> Self:
        new = super().moderated(variance, df_run)
        p = new.equivalence(self.margin)
        return replace(new, p_equivalence=p, verdict=verdict(new.p, p, self.alpha))

    @property
    def standardised(self) -> float | None:
        """The effect in run SDs; None where runs do not vary."""
        return self.value / self.run_sd if self.run_sd else None

    @property
    def scale_dependent(self) -> bool:
        """Whether sign or significance differ between points and log-odds (Loftus 1978).

        Both with their own variances: log-odds are not moderated.
        """
        p = self.p if self.p_unmoderated is None else self.p_unmoderated
        return self.logit is not None and scales_disagree(self.value, p, self.logit, self.alpha)

    def __str__(self) -> str:
        shares = ", ".join(f"{name} {100 * share:.0f} %" for name, share in self.shares.items())
        equivalent = "" if self.p_equivalence is None else f" (TOST {_p(self.p_equivalence)})"
        told = [
            f"Difference in differences {super().__str__()}: {self.verdict.replace('-', ' ')} at a margin of "
            f"±{POINTS * self.margin:g} points{equivalent}",
            *([] if self.gains is None else [self._gains(*self.gains)]),
            f"detectable with power .8: {POINTS * self.mde:.2f} points",
            f"variance: {shares}",
        ]
        if self.superiority is not None and self.standardised is not None:
            told.append(f"{self.standardised:+.2f} run SDs, P(larger gain) = {self.superiority:.2f}")
        if self.logit is not None:
            logit = f"log-odds {self.logit.value:+.3f} ({_p(self.logit.p)})"
            told.append(logit + (": scale-dependent interaction" if self.scale_dependent else ""))
        return " ".join(["; ".join(told) + ".", *self.cautions])

    def _gains(self, plus: float, minus: float) -> str:
        languages, examples = self.size or (0, 0)
        where = f"{languages} language{'s' if languages != 1 else ''}, {examples} examples"
        return f"gains {POINTS * plus:+.2f} (plus arm) and {POINTS * minus:+.2f} (minus arm), {where}"

    def row(self) -> dict[str, float | int | str | None]:
        logit = self.logit
        return super().row() | {
            "margin": POINTS * self.margin,
            "p_equivalence": self.p_equivalence,
            "verdict": self.verdict,
            "logit": None if logit is None else logit.value,
            "p_logit": None if logit is None else logit.p,
            "scale_dependent": self.scale_dependent,
            "superiority": self.superiority,
            "standardised": self.standardised,
        }

    def to_json(self) -> dict[str, Any]:
        more = {"standardised": self.standardised, "scale_dependent": self.scale_dependent}
        return super().to_json() | more


def scales_disagree(value: float, p: float | None, logit: Fit, alpha: float) -> bool:
    """Whether an effect (a fraction) and the same contrast of log-odds differ in sign or in significance."""
    if p is None or logit.p is None:
        return False
    # the sign of an effect that is 0 but for rounding means nothing
    signs = value * logit.value < 0 and min(abs(value), abs(logit.value)) > 1e-12
    return signs or (p < alpha) != (logit.p < alpha)


def _seeds(count: int) -> str:
    return "nothing trained" if count == 0 else "1 seed" if count == 1 else f"{count} seeds"


def _p(p: float | None) -> str:
    """``p = .031``; the zero is left out, as the field prints it."""
    if p is None:
        return "p undefined"
    return "p < .001" if p < 0.001 else "p > .999" if p > 0.999 else f"p = {p:.3f}".replace("0.", ".", 1)
