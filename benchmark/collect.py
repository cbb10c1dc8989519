"""From the store to the outcome record: ``outcomes/<task>.parquet``, ``predictions/`` and ``suite.json``.

The format is documented in ``docs/outcomes.md``. Files are merged in plan order, so that the bytes do not depend on
which worker was faster; ``suite.json`` is written last and its key says what the folder was made from.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import SuiteError
from ..models.catalogue import Backbone, identity
from ..tasks.base import Task
from ..tasks.languages import language_families, language_names
from .environment import describe
from .plan import Cell, Plan
from .store import Store, digest

__all__ = ["is_current", "write_outcomes"]


def is_current(plan: Plan, folder: Path) -> bool:
    """Whether the folder already holds exactly this plan's outcomes."""
    try:
        return json.loads((folder / "suite.json").read_text(encoding="utf-8")).get("key") == plan.key
    except (OSError, ValueError):
        return False


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
    for name in ("outcomes", "predictions"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for task in plan.suite.targets:
        _merge(plan, store, cells[task.name], f"{task.name}.parquet", folder / "outcomes")
        _merge(plan, store, cells[task.name], f"{task.name}.predictions.parquet", folder / "predictions")
    _forget(folder / "outcomes", {f"{t.name}.parquet" for t in plan.suite.targets})
    _forget(folder / "predictions", {f"{t.name}.predictions.parquet" for t in plan.suite.targets})
    record = _record(plan, store, schedules)
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
            run["seed"] = pa.array(np.full(len(table), cell.seed, np.int16))
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
    declared = {e.arm for e in plan.suite.exceptions}
    lines = []
    for (stage, seed), jobs in plan.schedules.items():
        prints = {arm: _meta(plan, store, key)["fingerprint"] for arm, key in jobs.items()}
        equal = len(set(prints.values())) == 1
        odd = {arm for arm in prints if prints[arm] != next(iter(prints.values()))}
        if not equal and not {arm.split("/")[1] for arm in prints} & declared:
            raise SuiteError(
                f"the arms ran `{stage}` (seed {seed}) with different schedules: {', '.join(sorted(odd))} differ",
                "arms must see the same examples in the same order; declare the exception in the suite if it is meant",
            )
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


def _record(plan: Plan, store: Store, schedules: list[dict[str, Any]]) -> dict[str, Any]:
    suite = plan.suite
    metas = {job.key: store.get(job.type, job.key).meta for job in plan.jobs.values()}
    described = {job.tasks[0].name: metas[key] for key, job in plan.jobs.items() if job.type == "describe"}
    mixed = sorted({json.dumps(meta["versions"], sort_keys=True) for meta in metas.values()})
    environment = describe(plan.numerics) | {"mixed_versions": len(mixed) > 1}
    environment["commit"] = _commit()
    seconds = sum(meta["seconds"] for meta in metas.values())
    disk = sum(
        f["bytes"]
        for job in plan.jobs.values()
        for f in store.get(job.type, job.key).manifest["files"].values()
    )
    stages = digest([sorted({line["fingerprint"] for line in schedules})])
    members = {task.name: task for tasks in suite.conditions.values() for task in tasks}
    return {
        "format": 1,
        "key": plan.key,
        "version": environment.get("xtremex", "unknown"),
        "suite": {"name": suite.name, "title": suite.title, "notice": suite.notice, "digest": suite.digest},
        "pairs": [_pair(pair) for pair in suite.pairs],
        "backbones": {name: _backbone(backbone, plan, metas) for name, backbone in suite.backbones.items()},
        "grounding": asdict(next(iter(suite.grounding.values()))) if suite.grounding else None,
        "stages": {
            "intermediate": asdict(suite.intermediate),
            "target": asdict(suite.target),
            "per_task": suite.per_task,
        },
        "conditions": [
            {"name": n, "tasks": [t.name for t in members]} for n, members in suite.conditions.items()
        ],
        "intermediate_tasks": [_intermediate_task(task, described[task.name]) for task in members.values()],
        "intermediate_runs": _intermediate_runs(plan, metas),
        "targets": [_target(task, described[task.name], store, plan) for task in suite.targets],
        "seeds": list(suite.seeds),
        "analysis": asdict(suite.analysis),
        "schedules": schedules,
        "exceptions": [_exception(suite, e) for e in suite.exceptions],
        "runs": [_run(cell, metas[cell.job], plan, metas) for cell in plan.cells],
        "contamination": list(suite.contamination),
        "cost": {"seconds": round(seconds, 1), "jobs": len(plan.jobs), "disk_bytes": disk},
        "environment": environment,
        "signature": "|".join(
            [
                f"xtremex:{environment.get('xtremex', 'unknown')}",
                f"suite:{suite.name}#{suite.digest[:8]}",
                "arms:" + ",".join(f"{n}@{_revision(b)}" for n, b in suite.backbones.items()),
                f"schedule:{stages[:8]}",
                "tasks:" + ",".join(f"{t.name}.v{t.version}" for t in suite.targets),
                f"seeds:{','.join(map(str, suite.seeds))}",
                f"device:{plan.numerics.device}-{plan.numerics.precision}",
            ]
        ),
    }


def _pair(pair: Any) -> dict[str, Any]:
    return {
        "name": pair.name,
        "arms": {
            name: f"{arm.backbone}@grounded-{arm.grounding}" if arm.grounding else arm.backbone
            for name, arm in pair.arms.items()
        },
        "contrasts": [
            {"name": c.name, "plus": c.plus, "minus": c.minus, "role": c.role} for c in pair.contrasts
        ],
        "note": pair.note,
    }


def _backbone(backbone: Backbone, plan: Plan, metas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The catalogue's entry, and all that the loaded encoder declared about itself (``EncoderInfo``)."""
    scored = (job.key for job in plan.jobs.values() if job.type == "evaluate" and job.backbone == backbone)
    first = next(scored, None)
    declared = {
        "adapter": backbone.adapter,
        "checkpoint": backbone.checkpoint,
        "revision": _revision(backbone),
        "licence": backbone.licence,
        "ancestor": backbone.ancestor,
        "objective": backbone.objective,
        "frozen": list(backbone.frozen),
    }
    info = metas[first].get("encoder", {}) if first else {}
    return info | {key: value for key, value in declared.items() if value is not None}


def _revision(backbone: Backbone) -> str:
    """What pins the weights: the revision, a package's version, or the start of a folder's digest."""
    return backbone.revision or str(identity(backbone)["content"])[:12] or "unpinned"


def _intermediate_task(task: Task, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metrics[0],
        "version": task.version,
        "licence": task.licence,
        "description": task.description,
        "dev_baselines": described["dev_baselines"],
    }


def _intermediate_runs(plan: Plan, metas: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One line per intermediate stage that was trained; it feeds all targets of its arm, condition and seed."""
    lines = []
    for (stage, seed), jobs in plan.schedules.items():
        if stage.startswith("intermediate:"):
            for arm, key in jobs.items():
                meta = metas[key]
                run = {"arm": arm, "condition": plan.jobs[key].label.removeprefix("train "), "seed": seed}
                lines.append(
                    run | {k: meta[k] for k in ("attempt", "collapsed", "dev", "best_step", "seconds")}
                )
    return lines


def _target(task: Task, described: dict[str, Any], store: Store, plan: Plan) -> dict[str, Any]:
    cell = next((c for c in plan.cells if c.task == task.name), None)
    views, clustered = [""], False
    if cell is not None:
        table = pq.read_table(
            store.get("evaluate", cell.job).file(f"{task.name}.parquet"),
            columns=["view", "example", "cluster"],
        )
        views = list(dict.fromkeys(table["view"].to_pylist()))
        clustered = not table["example"].equals(table["cluster"])
    return {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metrics[0],
        "metrics": list(task.metrics),
        "languages": list(task.languages),
        "language_names": language_names(task.languages),
        "language_families": language_families(task.languages),
        "untrained_languages": [x for x in plan.suite.untrained if x in task.languages],
        "source_language": task.source_language,
        "parallel": task.parallel,
        "clustered": clustered,
        "view": views[0],
        "views": views,
        "retention": task.kind == "image-text",
        "version": task.version,
        "licence": task.licence,
        "description": task.description,
        "baselines": described["baselines"],
        "dev_baselines": described["dev_baselines"],
        "examples": described["counts"]["test"],
    }


def _exception(suite: Any, exemption: Any) -> dict[str, Any]:
    role, _, key = exemption.key.partition(".")
    values = [
        getattr(pair.arms[exemption.arm], role, {}).get(key)
        for pair in suite.pairs
        if exemption.arm in pair.arms
    ]
    return {
        "arm": exemption.arm,
        "key": exemption.key,
        "value": values[0] if values else None,
        "reason": exemption.reason,
    }


def _run(cell: Cell, meta: dict[str, Any], plan: Plan, metas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """One line per cell; a collapse or restart of the intermediate stage is its runs' as well."""
    base = plan.jobs[cell.job].base
    before = metas[base[1]] if base and base[0] == "train" else {}
    return {
        "pair": cell.pair,
        "arm": cell.arm,
        "condition": cell.condition,
        "task": cell.task,
        "seed": cell.seed,
        "attempt": meta.get("attempt", 0),
        "collapsed": bool(meta.get("collapsed")),
        "dev": meta.get("dev"),
        "best_step": meta.get("best_step"),
        "intermediate_attempt": before.get("attempt", 0),
        "intermediate_collapsed": bool(before.get("collapsed")),
        "seconds": meta["seconds"],
        "job": cell.job,
    }


def _commit() -> str | None:
    """The commit the package runs from, when it runs from a clone."""
    root = Path(__file__).resolve().parents[1]
    try:
        head = (root / ".git" / "HEAD").read_text().strip()
        return (
            (root / ".git" / head.removeprefix("ref: ")).read_text().strip()
            if head.startswith("ref: ")
            else head
        )
    except OSError:
        return None
