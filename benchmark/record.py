"""``suite.json``: all that a reader of the outcomes must know and the Parquet files do not say (``docs/outcomes.md``)."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ..models.catalogue import Backbone, identity
from ..tasks.base import Task
from ..tasks.languages import language_families, language_names
from ..tasks.sources import leaves
from .caveats import caveats, differing, policy_words
from .environment import describe
from .plan import Cell, Plan
from .policy import in_short
from .store import MANIFEST, Store, digest
from .suite import Exemption, Pair, Suite

__all__ = ["RECORD", "design_record", "suite_record"]

RECORD = 5
"""Raised when the record says more, or says it otherwise, of the same results; finished folders then get theirs anew.

``format``, unlike it, is raised when older readers would misread it.
"""


def suite_record(plan: Plan, store: Store, schedules: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of ``suite.json`` for a finished plan; ``DamagedArtifact`` when a manifest cannot be read."""
    suite = plan.suite
    manifests = {job.key: store.get(job.type, job.key).manifest for job in plan.jobs.values()}
    metas = {key: manifest["meta"] for key, manifest in manifests.items()}
    described = {job.tasks[0].name: metas[key] for key, job in plan.jobs.items() if job.type == "describe"}
    mixed = sorted({json.dumps(meta["versions"], sort_keys=True) for meta in metas.values()})
    environment = describe(plan.numerics) | {"mixed_versions": len(mixed) > 1}
    environment["commit"] = _commit()
    seconds = sum(meta["seconds"] for meta in metas.values())
    disk = sum(file["bytes"] for manifest in manifests.values() for file in manifest["files"].values())
    stages = digest([sorted({line["fingerprint"] for line in schedules})])
    members = _intermediate(suite)
    return {
        "format": 1,
        "record": RECORD,
        "key": plan.key,
        "version": environment.get("xtremex", "unknown"),
        "suite": {
            "name": suite.name,
            "title": suite.title,
            "notice": suite.notice,
            "digest": suite.digest,
            "setup": suite.setup,
        },
        "scored": _scored(plan, store),
        "pairs": [_pair(pair, plan, metas) for pair in suite.pairs],
        "backbones": {name: _backbone(backbone, plan, metas) for name, backbone in suite.backbones.items()},
        "grounding": _grounding(suite),
        "stages": _stages(suite),
        "conditions": _conditions(suite),
        "intermediate_tasks": [_intermediate_task(task, described[task.name]) for task in members.values()],
        "intermediate_runs": _intermediate_runs(plan, metas),
        "targets": [_target(task, described[task.name], store, plan) for task in plan.targets],
        "seeds": list(suite.seeds),
        "analysis": asdict(suite.analysis),
        "schedules": schedules,
        "exceptions": [_exception(suite, e) for e in suite.exceptions],
        "runs": [_run(cell, metas[cell.job], plan, metas) for cell in plan.cells],
        "sweeps": _sweeps(plan, metas),
        "contamination": list(suite.contamination),
        "expected": [asdict(line) for line in suite.expected],
        "cost": {"seconds": round(seconds, 1), "jobs": len(plan.jobs), "disk_bytes": disk},
        "environment": environment,
        "signature": "|".join(
            [
                f"xtremex:{environment.get('xtremex', 'unknown')}",
                f"suite:{suite.name}#{suite.digest[:8]}",
                "arms:" + ",".join(f"{n}@{_revision(b)}" for n, b in suite.backbones.items()),
                f"schedule:{stages[:8]}",
                *(f"policy:{name}={in_short(terms)}" for name, terms in plan.terms.items() if terms),
                "tasks:" + ",".join(f"{t.name}.v{t.version}" for t in plan.targets),
                f"seeds:{','.join(map(str, suite.seeds))}",
                f"device:{plan.numerics.device}-{plan.numerics.precision}",
            ]
        ),
    }


def design_record(plan: Plan) -> dict[str, Any]:
    """What of ``suite.json`` a plan knows before anything was run: all that a registration freezes."""
    suite = plan.suite
    return {
        "suite": {"name": suite.name, "digest": suite.digest, "setup": suite.setup},
        "pairs": [_pair_design(pair) for pair in suite.pairs],
        "conditions": _conditions(suite),
        "targets": [_target_design(task) for task in plan.targets],
        "seeds": list(suite.seeds),
        "stages": _stages(suite),
        "analysis": asdict(suite.analysis),
        "backbones": {name: {"revision": _revision(backbone)} for name, backbone in suite.backbones.items()},
        "intermediate_tasks": [
            {"task": name, "revision": _data(task)} for name, task in _intermediate(suite).items()
        ],
    }


def _intermediate(suite: Suite) -> dict[str, Task]:
    return {task.name: task for tasks in suite.conditions.values() for task in tasks}


def _stages(suite: Suite) -> dict[str, Any]:
    return {
        "intermediate": asdict(suite.intermediate),
        "target": asdict(suite.target),
        "per_task": suite.per_task,
    }


def _conditions(suite: Suite) -> list[dict[str, Any]]:
    return [
        {"name": name, "tasks": [task.name for task in chosen]} for name, chosen in suite.conditions.items()
    ]


def _pair_design(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.name,
        "arms": {
            name: f"{arm.backbone}@grounded-{arm.grounding}" if arm.grounding else arm.backbone
            for name, arm in pair.arms.items()
        },
        # JSON objects are written with sorted keys: lists keep the order of the suite
        "order": list(pair.arms),
        "ladder": list(pair.ladder),
        "contrasts": [
            {"name": c.name, "plus": c.plus, "minus": c.minus, "role": c.role} for c in pair.contrasts
        ],
    }


def _target_design(task: Task) -> dict[str, Any]:
    return {
        "task": task.name,
        "metric": task.metrics[0],
        "languages": list(task.languages),
        "retention": task.kind == "image-text",
        "version": task.version,
        "revision": _data(task),
    }


def _grounding(suite: Suite) -> dict[str, Any] | None:
    """What the grounded arms have in common: everything but the objective."""
    for config in suite.grounding.values():
        return {key: value for key, value in asdict(config).items() if key != "objective"}
    return None


def _pair(pair: Pair, plan: Plan, metas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    known = {cell.arm: metas[cell.job]["encoder"] for cell in reversed(plan.cells) if cell.pair == pair.name}
    infos = {arm: known[arm] for arm in pair.arms if arm in known}
    terms = plan.terms[pair.name]
    odd = differing(infos, terms)
    caution = f"Not a matched pair: the arms differ in {', '.join(odd)}." if odd else ""
    tasks = [task for job in plan.jobs.values() for task in job.tasks]
    longest = max((task.max_length for task in tasks), default=0)
    return _pair_design(pair) | {
        "note": f"{pair.note} {caution}".strip(),
        "differing": odd,
        "policy": policy_words(pair, terms, infos),
        "caveats": caveats(pair, terms, infos, longest, {task.kind for task in tasks}),
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
    info = metas[first]["encoder"] if first else {}
    return info | {key: value for key, value in declared.items() if value is not None}


def _revision(backbone: Backbone) -> str:
    """What pins the weights: the revision, a package's version, or the start of a folder's digest."""
    return backbone.revision or str(identity(backbone)["content"])[:12] or "unpinned"


def _data(task: Task) -> str:
    """What pins the task's data: the commits of its repositories, else the start of its fingerprint's digest."""
    commits = (getattr(getattr(leaf.source, "files", None), "pin", None) for leaf in leaves(task))
    known = dict.fromkeys(pin.commit for pin in commits if pin is not None)
    return ", ".join(known) or digest(task.source.fingerprint())[:12]


def _intermediate_task(task: Task, described: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": task.name,
        "kind": task.kind,
        "metric": task.metrics[0],
        "version": task.version,
        "revision": _data(task),
        "licence": task.licence,
        "description": task.description,
        "dev_baselines": described["dev_baselines"],
        "train_examples": _train_examples(described),
    }


def _train_examples(described: dict[str, Any]) -> int | None:
    """Over all training languages; None for tasks that train nothing."""
    counts = described["counts"].get("train")
    return sum(counts.values()) if counts else None


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
    return _target_design(task) | {
        "kind": task.kind,
        "metrics": list(task.metrics),
        "language_names": language_names(task.languages),
        "language_families": language_families(task.languages),
        "untrained_languages": [x for x in plan.suite.untrained if x in task.languages],
        "source_language": task.source_language,
        "parallel": task.parallel,
        "clustered": clustered,
        "view": views[0],
        "views": views,
        "benchmark": task.benchmark,
        "licence": task.licence,
        "description": task.description,
        "baselines": described["baselines"],
        "dev_baselines": described["dev_baselines"],
        "examples": described["counts"]["test"],
        "train_examples": _train_examples(described),
    }


def _sweeps(plan: Plan, metas: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Scores of every layer and pooling, of the runs whose task asks for them; means over languages."""
    return [
        {
            "pair": cell.pair,
            "arm": cell.arm,
            "condition": cell.condition,
            "seed": cell.seed,
            "task": cell.task,
        }
        | metas[cell.job]["sweep"][cell.task]
        for cell in plan.cells
        if cell.task in metas[cell.job].get("sweep", {})
    ]


def _exception(suite: Suite, exemption: Exemption) -> dict[str, Any]:
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


def _scored(plan: Plan, store: Store) -> str | None:
    """UTC time of the earliest test score in the store: what is registered later was not registered before."""
    files = [
        store.folder(job.type, job.key) / MANIFEST for job in plan.jobs.values() if job.type == "evaluate"
    ]
    if not files:
        return None
    first = min(file.stat().st_mtime for file in files)
    return datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds")


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
