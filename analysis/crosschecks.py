"""One cell of the map by three roads: the closed form, the hierarchical bootstrap, the synchronized permutation.

From the outcome folder, because resampling needs the counts of every run, which a record no longer holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AnalysisError
from .bootstrap import Bootstrap, hierarchical_bootstrap
from .cells import Cell
from .comparisons import NONE
from .estimator import Fit, contrast
from .outcomes import Record
from .permutation import Permutation, synchronized_permutation
from .runs import OutcomeFile, Run, read_run, runs_of
from .settings import Settings

__all__ = ["CrossCheck", "crosscheck"]

SIGNS = (1.0, -1.0, -1.0, 1.0)


@dataclass(frozen=True)
class CrossCheck:
    """Fractions throughout."""

    closed: Fit
    bootstrap: Bootstrap
    permutation: Permutation | None
    """None where the four cells have unequal or fewer than two runs. It knows runs only: compare it with tier T1."""


def crosscheck(
    folder: Path,
    record: Record,
    pair: str,
    arms: tuple[str, str],
    condition: str,
    task: str,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> CrossCheck:
    """The effect of ``condition`` on ``task``, plus arm against minus arm (``arms``), tier T2.

    ``record`` is what ``read_record(folder)`` gave: its seeds and languages are used. Raises ``AnalysisError`` where one
    of the four cells is missing or has one trained run.
    """
    grid = record.cells.get((pair, task), {})
    keys = [(arm, c) for arm in arms for c in (condition, NONE)]
    missing = [" / ".join(key) for key in keys if key not in grid]
    if missing:
        known = sorted({f"{arm} / {c}" for arm, c in grid})
        raise AnalysisError(
            f"{pair} / {task} has no outcomes of {', '.join(missing)}",
            f"it has {', '.join(known)}" if known else "see `pairs` and `targets` of suite.json",
        )
    cells = [grid[key] for key in keys]
    closed = contrast(cells, SIGNS, alpha=Settings.of(record.suite).alpha)
    target = next(t for t in record.suite["targets"] if t["task"] == task)
    entries = {
        (r["pair"], r["arm"], r["condition"], r["seed"]): r for r in record.suite["runs"] if r["task"] == task
    }
    file = OutcomeFile(Path(folder) / "outcomes" / f"{task}.parquet")
    lineage = {(task, p, a, c, str(s)): entry for (p, a, c, s), entry in entries.items()}
    runs = {(run.pair, run.arm, run.condition, run.seed): run for run in runs_of(file, lineage)}
    counts = []
    for (arm, c), cell in zip(keys, cells, strict=True):
        identities = [(pair, arm, c, s) for s in cell.seeds]
        counts.append(_counts(file, target, [(runs[i], entries[i]) for i in identities], cell))
    found = hierarchical_bootstrap(
        cells[0].examples,
        [num for num, _ in counts],
        [den for _, den in counts],
        SIGNS,
        resamples=resamples,
        seed=seed,
        alpha=closed.alpha,
    )
    permutation = None
    if len({len(cell.seeds) for cell in cells}) == 1 and len(cells[0].seeds) > 1:
        permutation = synchronized_permutation(*(cell.scores.mean(axis=1) for cell in cells), seed=seed)
    return CrossCheck(closed, found, permutation)


def _counts(
    file: OutcomeFile, target: dict[str, Any], runs: list[tuple[Run, dict[str, Any]]], cell: Cell
) -> tuple[np.ndarray, np.ndarray]:
    """(S, N) numerators and denominators of a cell, in its languages."""
    rows = [read_run(file, target, run, entry).subset(cell.examples.languages) for run, entry in runs]
    return np.stack([r.num for r in rows]), np.stack([r.den for r in rows])
