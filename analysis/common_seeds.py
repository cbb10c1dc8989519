"""Which runs an analysis keeps: the seeds that all targets of a cell share."""

from __future__ import annotations

from functools import reduce

from .estimator import DETERMINISTIC
from .runs import Run

__all__ = ["common_seeds"]


def common_seeds(
    index: dict[str, list[Run]], retention: dict[str, bool], warnings: list[str]
) -> set[tuple[str, Run]]:
    """The (task, run) pairs to analyse: seeds that all targets of a cell share.

    Cells of one run beside others go.
    """
    keep: set[tuple[str, Run]] = set()
    by_cell: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for task, runs in index.items():
        for run in runs:
            if run.seed == DETERMINISTIC:
                keep.add((task, run))
                continue
            # retention is never averaged with other targets, so that it does not decide over their seeds
            cell = (run.pair, run.arm, run.condition, *([task] if retention[task] else []))
            by_cell.setdefault(cell, {}).setdefault(task, []).append(run)
    shared: dict[tuple[str, ...], set[int]] = {}
    for cell, tasks in by_cell.items():
        seeds = [{run.seed for run in runs} for runs in tasks.values()]
        shared[cell] = reduce(set.intersection, seeds)
        extra = sorted(set.union(*seeds) - shared[cell])
        if extra:
            warnings.append(
                f"{' / '.join(cell)}: seeds {', '.join(map(str, extra))} are missing on some "
                "targets and were left out on all of them."
            )
    most = max((len(seeds) for seeds in shared.values()), default=0)
    for cell, tasks in by_cell.items():
        # one run beside cells of several has no variance; a suite of one seed throughout has tier T0
        if len(shared[cell]) < min(most, 2) or not shared[cell]:
            warnings.append(
                f"{' / '.join(cell)}: {len(shared[cell])} seed(s) on all targets; "
                "the cell was left out (two are needed)."
            )
            continue
        keep.update((task, run) for task, runs in tasks.items() for run in runs if run.seed in shared[cell])
    return keep
