"""What more seeds would buy: an estimate's own variance, projected to other numbers of seeds.

The run part of the variance falls with seeds, the part of the shared test examples does not: ``V(S) = V_run S0 / S +
V_examples`` (statistics reference, section 3.5). The run part's df grow with S - 1. At the estimate's own seeds the
projection is the printed detectable effect.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from .equivalence import equivalence_power, minimum_detectable_effect
from .results import Estimate

__all__ = ["SEEDS", "Projected", "floor", "project", "seeds_for_equivalence"]

SEEDS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20)


@dataclass(frozen=True)
class Projected:
    """Points; ``estimated`` is the number of seeds that the variance was estimated from."""

    seeds: int
    se: float
    df: float
    mde: float
    estimated: bool


def _parts(e: Estimate) -> tuple[float, float] | None:
    """Variance over runs, and what seeds do not lower; None where nothing can be projected.

    So at tier T3: what languages add keeps its few degrees of freedom, which an estimate does not tell apart.
    """
    run = e.variance_shares.get("run", 0.0)
    if not (math.isfinite(e.se) and e.se > 0 and math.isfinite(e.df) and e.df > 0 and math.isfinite(run)):
        return None
    if not 0 < run <= 1 + 1e-9 or e.seeds < 2 or e.tier == "T3":
        return None
    return run * e.se**2, max(0.0, 1 - run) * e.se**2


def project(e: Estimate, seeds: Sequence[int] = SEEDS, alpha: float = 0.05) -> tuple[Projected, ...]:
    """The detectable effect (80 % power, two-sided, not corrected) at each number of seeds; the estimate's own is added.

    Empty where the runs have no variance, at tier T3 and for moderated estimates, whose df are not their runs' alone.
    """
    parts = _parts(e)
    if parts is None or e.p_unmoderated is not None:
        return ()
    run, rest = parts
    # Satterthwaite turned round; the examples' own df are so many that their term drops out
    df_run = e.df * (run / (run + rest)) ** 2
    found = []
    for count in sorted({*seeds, e.seeds}):
        v = run * e.seeds / count
        df = (v + rest) ** 2 / v**2 * df_run * (count - 1) / (e.seeds - 1)
        se = math.sqrt(v + rest)
        found.append(
            Projected(count, se, df, minimum_detectable_effect(se, df, alpha), estimated=count == e.seeds)
        )
    return tuple(found)


def seeds_for_equivalence(e: Estimate, alpha: float = 0.05, most: int = 1000) -> int | None:
    """Seeds with which an effect of 0 is shown to be within the estimate's margin four times in five.

    None where ``project`` is empty and where ``most`` are too few: the shared test examples' part stays.
    """
    counts = range(2, most + 1)
    ahead = {x.seeds: x for x in project(e, (most,), alpha)}
    if most not in ahead or equivalence_power(e.margin, ahead[most].se, ahead[most].df, alpha) < 0.8:
        return None

    def enough(count: int) -> bool:
        [x] = (x for x in project(e, (count,), alpha) if x.seeds == count)
        return equivalence_power(e.margin, x.se, x.df, alpha) >= 0.8

    return counts[bisect_left(counts, True, key=enough)]


def floor(e: Estimate, alpha: float = 0.05) -> float | None:
    """The detectable effect that no number of seeds goes below: the shared test examples' part alone.

    None where ``project`` is empty.
    """
    parts = _parts(e)
    if parts is None or e.p_unmoderated is not None:
        return None
    return minimum_detectable_effect(math.sqrt(parts[1]), 1e6, alpha)
