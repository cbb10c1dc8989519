"""Effects by language moved towards their mean, beside the raw ones: with many languages the extremes are mostly noise.

Empirical Bayes with moments and one factor for all languages (statistics reference, sections 2.6 and 2.7). Languages
share their training runs: an error that is common to all of them moves their mean, not their differences. The grand
effect's variance holds it whole, a language's own part is what its variance has beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .results import Estimate, LanguageEffect

__all__ = ["FEWEST", "Shrinkage", "shrink_languages"]

FEWEST = 5
"""Languages; the spread of fewer cannot be estimated."""


@dataclass(frozen=True)
class Shrinkage:
    factor: float
    """What is left of a language's distance from the mean: 0 where the spread is what noise makes, 1 without noise."""
    spread: float
    """Estimated SD of the true effects over languages, in points."""
    values: Mapping[str, float]
    """Language -> shrunken effect in points."""


def shrink_languages(effects: Sequence[LanguageEffect], grand: Estimate | None) -> Shrinkage | None:
    """The effects of one contrast in the languages of the pre-training; controls are left out.

    None where there are too few languages with a standard error.
    """
    kept = [x for x in effects if not x.untrained and math.isfinite(x.value) and math.isfinite(x.se)]
    if grand is None or len(kept) < FEWEST or not math.isfinite(grand.se):
        return None
    values = np.array([x.value for x in kept])
    errors = np.array([x.se for x in kept])
    count = len(kept)
    # mean variance = common + own; variance of the mean = common + own / count
    own = max(0.0, (float(np.mean(errors**2)) - grand.se**2) * count / (count - 1))
    between = max(0.0, float(values.var(ddof=1)) - own)
    factor = between / (between + own) if between + own > 0 else 0.0
    centre = float(values.mean())
    moved = centre + factor * (values - centre)
    return Shrinkage(
        factor, math.sqrt(between), {x.language: float(v) for x, v in zip(kept, moved, strict=True)}
    )
