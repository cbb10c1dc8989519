"""Failed and missing runs (statistics reference, section 2.8): counted per cell, and tested for imbalance.

A training fails at its first attempt where it was restarted or collapsed. That is decided on the source
language's dev set and the loss, never on test scores, and before the arms are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

from .comparisons import NONE, Comparison
from .estimator import DETERMINISTIC
from .secondary import FailureCount, FailureTest
from .study import Study

__all__ = ["counts", "failure_tests", "zelen"]

Runs = Sequence[Mapping[str, Any]]


def counts(study: Study) -> list[FailureCount]:
    """Every cell of the design; a retention target's only where an arm has runs of it (an image tower)."""
    suite = study.suite
    listed: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for run in suite["runs"]:
        key = (run["pair"], run["arm"], run["condition"], run["task"])
        listed.setdefault(key, []).append(run)
    lacking: dict[tuple[str, str, str, str], dict[str, list[int]]] = {}
    for gap in study.record.gaps:
        mine = lacking.setdefault((gap.pair, gap.arm, gap.condition, gap.target), {})
        for code in gap.languages:
            mine.setdefault(code, []).append(gap.seed)
    found = []
    for pair in suite["pairs"]:
        for target in suite["targets"]:
            grid = study.record.cells.get((pair["name"], target["task"]), {})
            first = next(iter(grid.values()), None)
            scored = first.examples.languages if first is not None else ()
            lost = tuple(code for code in target["languages"] if code not in scored)
            for arm in pair["arms"]:
                for condition in (NONE, *study.intermediate):
                    place = (pair["name"], arm, condition, target["task"])
                    runs = listed.get(place, [])
                    if not runs and target["retention"]:
                        continue
                    cell = grid.get((arm, condition))
                    fixed = any(int(run["seed"]) == DETERMINISTIC for run in runs)
                    found.append(
                        FailureCount(
                            pair=pair["name"],
                            arm=arm,
                            condition=condition,
                            target=target["task"],
                            planned=1 if fixed else max(len(runs), len(suite["seeds"])),
                            analysed=0 if cell is None else len(cell.seeds),
                            restarted=_count(runs, "attempt"),
                            collapsed=_count(runs, "collapsed"),
                            intermediate_restarted=_count(runs, "intermediate_attempt"),
                            intermediate_collapsed=_count(runs, "intermediate_collapsed"),
                            missing_languages=tuple(lacking.get(place, ())),
                            missing_seeds={c: tuple(s) for c, s in lacking.get(place, {}).items()},
                            left_out=lost if cell is not None else (),
                        )
                    )
    return found


def _count(runs: Runs, key: str) -> int:
    return sum(bool(run.get(key)) for run in runs)


def failure_tests(study: Study, comparison: Comparison) -> list[FailureTest]:
    """Imbalance of each stage and the interaction of the target stage; empty where no training failed.

    An intermediate training counts once, though it feeds all targets. The target stages of one intermediate
    checkpoint are counted as independent, so that a small p-value there may come from one bad checkpoint.
    """
    if comparison.arms is None:
        return []
    runs = [r for r in study.suite["runs"] if r["pair"] == comparison.pair and r["arm"] in comparison.arms]
    intermediate: dict[tuple[Any, ...], bool] = {}
    for run in runs:
        if run["condition"] != NONE:
            key = (run["arm"], run["condition"], run["seed"])
            failed = bool(run.get("intermediate_attempt") or run.get("intermediate_collapsed"))
            intermediate[key] = intermediate.get(key, False) or failed
    target = [(r["arm"], r["condition"], _failed(r)) for r in runs if _trained(r)]
    stages = {
        "intermediate": [(arm, condition, failed) for (arm, condition, _), failed in intermediate.items()],
        "target": target,
    }
    found = []

    def add(test: str, stage: str, sides: Mapping[str, list[bool]], p: Callable[..., float]) -> None:
        failed = {side: sum(members) for side, members in sides.items()}
        trainings = {side: len(members) for side, members in sides.items()}
        if any(failed.values()) and all(trainings.values()):
            value = p(list(failed.values()), list(trainings.values()))
            found.append(
                FailureTest(
                    comparison.pair, comparison.name, comparison.role, test, stage, failed, trainings, value
                )
            )

    for stage, members in stages.items():
        sides = {arm: [failed for a, _, failed in members if a == arm] for arm in comparison.arms}
        add("imbalance", stage, sides, _fisher)
    sides = {
        f"{arm}/{with_}": [f for a, c, f in target if a == arm and (c == NONE) == (with_ == NONE)]
        for with_ in ("with", NONE)
        for arm in comparison.arms
    }
    add("interaction", "target", sides, zelen)
    return found


def _trained(run: Mapping[str, Any]) -> bool:
    """Whether the run trained a head on its target; older files do not say, and all their runs with a seed count."""
    if int(run["seed"]) == DETERMINISTIC:
        return False
    return _failed(run) or "best_step" not in run or run["best_step"] is not None


def _failed(run: Mapping[str, Any]) -> bool:
    return bool(run.get("attempt") or run.get("collapsed"))


def _fisher(failed: Sequence[int], trainings: Sequence[int]) -> float:
    """Fisher's exact test of two arms."""
    (a, b), (m, n) = failed, trainings
    split = np.arange(max(0, a + b - n), min(m, a + b) + 1)
    return _as_rare(_chances(split, a + b, m, n), a - int(split[0]))


def _chances(split: np.ndarray, failed: int, plus: int, minus: int) -> np.ndarray:
    """Hypergeometric probability that ``split`` of the failures are of the plus arm; scipy.stats is slow to import."""

    def ways(n: int, k: np.ndarray) -> np.ndarray:
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    total = ways(plus + minus, np.array(failed))
    return np.exp(ways(plus, split) + ways(minus, failed - split) - total)


def _as_rare(chances: np.ndarray, found: int) -> float:
    """Share of the outcomes that are not more probable than the one found; ties up to rounding count."""
    kept = chances <= chances[found] * (1.0 + 1e-7)
    return float(min(1.0, chances[kept].sum() / chances.sum()))


def zelen(failed: Sequence[int], trainings: Sequence[int]) -> float:
    """Exact p-value of equal odds ratios in two 2 x 2 tables (Zelen 1971): the difference in differences of failures.

    ``failed`` and ``trainings`` are [plus, minus] of the first table, then of the second. Given all margins and
    the failures of plus in both tables together, the split of these is free of the common odds ratio; the
    p-value adds all splits that are not more probable than the one found.
    """
    a1, b1, a0, b0 = failed
    m1, n1, m0, n0 = trainings
    total = a1 + a0
    low = max(0, a1 + b1 - n1, total - min(m0, a0 + b0))
    high = min(m1, a1 + b1, total - max(0, a0 + b0 - n0))
    split = np.arange(low, high + 1)
    chances = _chances(split, a1 + b1, m1, n1) * _chances(total - split, a0 + b0, m0, n0)
    return _as_rare(chances, a1 - low)
