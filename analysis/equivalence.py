"""What an estimate may claim.

Equivalence by two one-sided tests, the four verdicts, the minimum detectable effect.
"""

from __future__ import annotations

import math

from scipy.special import chdtri, nctdtr, nctdtrinc, stdtr, stdtrit

from ..errors import AnalysisError
from .results import Verdict

__all__ = ["equivalence_p", "minimum_detectable_effect", "power", "smallest_margin", "verdict"]


def equivalence_p(value: float, se: float, df: float, margin: float) -> float | None:
    """p-value of "the effect lies outside (-margin, margin)" (TOST, Schuirmann 1987): the larger one-sided p.

    ``value``, ``se`` and ``margin`` in one unit. Below alpha exactly when the 1 - 2 alpha interval lies inside the
    margin. None where ``se`` is 0; ``AnalysisError`` for a margin that is not positive.
    """
    if margin <= 0:
        raise AnalysisError(
            f"the margin of equivalence must be positive, not {margin}", "set analysis.margin_* in points"
        )
    if se <= 0:
        return None
    return float(max(stdtr(df, -(value + margin) / se), stdtr(df, (value - margin) / se)))


def smallest_margin(value: float, se: float, df: float, alpha: float = 0.05) -> float:
    """The margin at which ``equivalence_p`` is alpha: only wider ones are shown to hold the effect."""
    return abs(value) + float(stdtrit(df, 1.0 - alpha)) * se


def equivalence_power(margin: float, se: float, df: float, alpha: float = 0.05) -> float:
    """Chance that two one-sided tests show an effect of 0 to be within ``margin``; ``se`` is taken as known."""
    room = margin / se - float(stdtrit(df, 1.0 - alpha))
    return max(0.0, 2.0 * float(stdtr(df, room)) - 1.0)


def verdict(p: float | None, p_equivalence: float | None, alpha: float = 0.05) -> Verdict:
    """One of four: ``p`` is the adjusted p-value of a difference, ``p_equivalence`` the TOST one."""
    differs = p is not None and p < alpha
    negligible = p_equivalence is not None and p_equivalence < alpha
    if differs:
        return "different-but-negligible" if negligible else "different"
    return "equivalent" if negligible else "inconclusive"


def power(effect: float, se: float, df: float, alpha: float = 0.05) -> float:
    """Power of the two-sided t test at a true ``effect``, by the noncentral t.

    1 where scipy's routine overflows.
    """
    critical = float(stdtrit(df, 1.0 - alpha / 2.0))
    shift = abs(effect) / se
    above, below = 1.0 - float(nctdtr(df, shift, critical)), float(nctdtr(df, shift, -critical))
    if math.isnan(above):
        return 1.0
    return above if math.isnan(below) else min(1.0, above + below)


def minimum_detectable_effect(se: float, df: float, alpha: float = 0.05, target: float = 0.8) -> float:
    """The effect that a two-sided t test with this ``se`` and ``df`` finds with power ``target``.

    0 where ``se`` is 0.

    Ignores rejections in the wrong direction (below 1e-4 at power .8). Where scipy's noncentral t has no
    answer, the central approximation (t_{1 - alpha/2} + t_target) * se is returned. Beyond a critical value of
    1e4, where the search may never end, only the chance of the standard error counts: the limit for large effects.
    """
    if se <= 0:
        return 0.0
    critical = float(stdtrit(df, 1.0 - alpha / 2.0))
    if critical > 1e4:
        return critical * math.sqrt(float(chdtri(df, 1.0 - target)) / df) * se
    shift = float(nctdtrinc(df, 1.0 - target, critical))
    if not math.isfinite(shift) or shift <= 0:
        shift = critical + float(stdtrit(df, target))
    return shift * se
