"""Two seeds with the same outcomes: the seed reached nothing (statistics reference, section 2.8)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from ..errors import AnalysisError
from .cells import DUPLICATE_MINIMUM
from .reduction import Sums
from .runs import Rows, Run

__all__ = ["MINIMUM", "RARER", "duplicates"]

MINIMUM = {"trained": DUPLICATE_MINIMUM, "zero-shot": 1000}
"""Two seeds that agree on this many outcomes share their training; on fewer they may agree by chance.

More are asked where no head is trained on the target: an encoder that a short stage hardly moved may rank
alike.
"""
RARER = 20
"""Examples that both runs got wrong, and that both got right, from which on equal outcomes are no chance: where a
task is nearly solved, two seeds may well fail on the same few."""


def duplicates(
    name: str,
    runs: Sequence[Run],
    rows: Sequence[Rows],
    sums: Sums,
    *,
    small: bool,
    collapsed: Collection[int],
) -> str:
    """Refuse equal outcomes under two seeds: the seed reached nothing.

    Returns the seeds where that is excused: too few examples to tell, or both runs collapsed, as constant guesses are
    equal whatever the seed.
    """
    excused = ""
    num, den = [r.num for r in rows], [r.den for r in rows]
    for i, j in combinations(range(len(runs)), 2):
        # equal outcomes have equal sums: the rest need no comparison of examples
        if not np.array_equal(sums.means(num[i]), sums.means(num[j])):
            continue
        if not (np.array_equal(num[i], num[j]) and np.array_equal(den[i], den[j])):
            continue
        rarer = min(np.count_nonzero(num[i]), np.count_nonzero(num[i] != den[i]))
        if small or rarer < RARER or {runs[i].seed, runs[j].seed} <= set(collapsed):
            excused = excused or f"seeds {runs[i].seed} and {runs[j].seed}"
            continue
        raise AnalysisError(
            f"{name}: seeds {runs[i].seed} and {runs[j].seed} gave identical outcomes on {len(num[i])} "
            "examples: seed not applied",
            "check that the seed reaches initialisation, data order and dropout; if nothing is trained here, "
            "store the cell once with seed -1",
        )
    return excused
