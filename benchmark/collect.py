"""From the store to the outcome record: ``outcomes/<task>.parquet``, ``predictions/`` and ``suite.json``.

The format is documented in ``docs/outcomes.md``. Files are merged in plan order, so that the bytes do not depend on
which worker was faster; ``suite.json`` is written last and its key says what the folder was made from.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import SuiteError
from .plan import Cell, Plan
from .record import RECORD, suite_record
from .store import Store, file_digest

__all__ = ["is_current", "write_outcomes"]


def is_current(plan: Plan, folder: Path) -> bool:
    """Whether the folder already holds exactly this plan's outcomes, every file as it was written, with today's record."""
    try:
        record = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
        made_as = (record["key"], record["record"])
        return made_as == (plan.key, RECORD) and record["files"] == _files(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every outcome file: what the analysis holds them against, and its signature names."""
    return {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted((folder / "outcomes").glob("*.parquet"))
    }


def write_outcomes(plan: Plan, store: Store, folder: Path) -> None:
    """Merge the artifacts of a finished plan into ``folder``.

    Raises:
        DamagedArtifact: an artifact's digest does not hold; the caller sets it aside and runs its job again.
        SuiteError: arms ran a stage with different fingerprints and no exception declares it.
    """
    schedules = _schedules(plan, store)
    cells: dict[str, list[Cell]] = defaultdict(list)
    for cell in plan.cells:
        cells[cell.task].append(cell)
    (folder / "suite.json").unlink(missing_ok=True)  # from here on the folder is not what it says
    for name in ("outcomes", "predictions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for task in plan.targets:
        _merge(plan, store, cells[task.name], f"{task.name}.parquet", folder / "outcomes")
        _merge(plan, store, cells[task.name], f"{task.name}.predictions.parquet", folder / "predictions")
    _forget(folder / "outcomes", {f"{t.name}.parquet" for t in plan.targets})
    _forget(folder / "predictions", {f"{t.name}.predictions.parquet" for t in plan.targets})
    record = suite_record(plan, store, schedules) | {"files": _files(folder)}
    _replace(folder / "suite.json", json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def _merge(plan: Plan, store: Store, cells: list[Cell], name: str, folder: Path) -> None:
    """One row group per run, the run's columns in front of the test-set columns."""
    temporary = folder / f".{name}.{os.getpid()}"
    writer: pq.ParquetWriter | None = None
    try:
        for cell in cells:
            artifact = store.get("evaluate", cell.job)
            table = pq.read_table(artifact.file(name))
            attempt = artifact.meta.get("attempt", 0)
            run: dict[str, Any] = {
                key: pa.DictionaryArray.from_arrays(
                    pa.array(np.zeros(len(table), np.int32)), pa.array([value])
                )
                for key, value in (("pair", cell.pair), ("arm", cell.arm), ("condition", cell.condition))
            }
            run["seed"] = pa.array(np.full(len(table), cell.seed, np.int32))
            run["attempt"] = pa.array(np.full(len(table), attempt, np.int8))
            whole = pa.table(run | {column: table[column] for column in table.column_names})
            if writer is None:
                writer = pq.ParquetWriter(temporary, whole.schema, compression="zstd")
            writer.write_table(whole, row_group_size=max(1, len(whole)))
        if writer is None:  # a target that no arm can be scored on
            temporary.unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)
            return
        writer.close()
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)


def _forget(folder: Path, keep: set[str]) -> None:
    """Remove outcome files of targets that the suite no longer has."""
    for path in folder.glob("*.parquet"):
        if path.name not in keep:
            path.unlink()


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _schedules(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """One line per (stage, seed): the fingerprint at attempt 0, and whether it is equal over the arms."""
    declared = {(e.arm, e.key.partition(".")[0]) for e in plan.suite.exceptions}
    lines = []
    for (stage, seed), jobs in plan.schedules.items():
        prints = {arm: _meta(plan, store, key)["fingerprint"] for arm, key in jobs.items()}
        role = stage.partition(":")[0]
        common = [arm for arm in prints if (arm.partition("/")[2], role) not in declared]
        if len({prints[arm] for arm in common}) > 1:
            odd = [arm for arm in common if prints[arm] != prints[common[0]]]
            raise SuiteError(
                f"the arms ran `{stage}` (seed {seed}) with different schedules: {', '.join(odd)} and {common[0]} differ",
                "arms must see the same examples in the same order; declare the exception in the suite if it is meant",
            )
        equal = len(set(prints.values())) == 1
        lines.append(
            {
                "stage": stage,
                "seed": seed,
                "fingerprint": next(iter(prints.values())),
                "arms": list(prints),
                "equal": equal,
            }
        )
    grounded = [job for job in plan.jobs.values() if job.type == "ground"]
    if grounded:
        prints = {job.label: _meta(plan, store, job.key)["fingerprint"] for job in grounded}
        first = next(iter(prints.values()))
        arms = [label.removeprefix("ground ") for label in prints]
        equal = len(set(prints.values())) == 1
        lines.append({"stage": "grounding", "seed": -1, "fingerprint": first, "arms": arms, "equal": equal})
    return lines


def _meta(plan: Plan, store: Store, key: str) -> dict[str, Any]:
    return store.get(plan.jobs[key].type, key).meta
