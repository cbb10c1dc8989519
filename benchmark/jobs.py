"""What a worker does with a job: ``perform(job, store)``. Everything that touches torch is behind this file."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import ArtifactError, XtremexError
from ..models.catalogue import Backbone, load, load_tower, weights_digest
from ..models.grounding import ground
from ..models.tower import ImageTower, Tower
from ..models.use import applied
from ..tasks.base import Model, Outcomes, Task
from ..tasks.kinds import kind
from ..tasks.sources import keys as own_ids
from .environment import versions
from .plan import Job
from .schedule import seed_for
from .store import Artifact, Store
from .training import Trained, autocast, train, training_set

__all__ = ["perform"]

ENCODER = "encoder.safetensors"
MAX_ATTEMPTS = 2
"""A failed run is tried once more with new randomness (the restart rule; statistics note, section 2.8)."""


def perform(job: Job, store: Store) -> Artifact:
    """Compute one job under its lock and store it; returns at once when another process already did."""
    with store.lock(job.key):
        if store.has(job.type, job.key):
            return store.get(job.type, job.key)
        action = {"describe": _describe, "ground": _ground, "train": _train, "evaluate": _evaluate}[job.type]

        def write(folder: Path) -> dict[str, Any]:
            started = time.perf_counter()
            meta = action(job, store, folder)
            return meta | {
                "label": job.label,
                "seconds": round(time.perf_counter() - started, 3),
                "versions": versions(),
            }

        return store.put(job.type, job.key, write)


def _describe(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    """Read every split and language of a task, so that bad data stop the suite before any training."""
    task = job.tasks[0]
    counts: dict[str, dict[str, int]] = {}
    if task.train_languages:
        for split in ("train", "dev"):
            counts[split] = {lang: len(task.source.load(task, split, lang)) for lang in task.train_languages}
    baselines = {}
    if "target" in task.roles:
        counts["test"] = {lang: len(task.source.load(task, "test", lang)) for lang in task.languages}
        baselines = {lang: kind(task.kind).baselines(task, "test", lang) for lang in task.languages}
    dev = kind(task.kind).baselines(task, "dev", task.source_language) if task.train_languages else {}
    return {"counts": counts, "baselines": baselines, "dev_baselines": dev}


def _ground(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    assert job.grounding is not None
    carrier = _carrier(job)
    carrier.restore(None)
    numerics = job.numerics
    grounded = ground(carrier.adapter, job.grounding, device=numerics.device, precision=numerics.precision)
    carrier.write(folder)
    if grounded.tower is not None:
        grounded.tower.save(folder / "tower")
    losses = [round(x, 5) for x in grounded.losses]
    return {"ancestor": carrier.digest, "fingerprint": grounded.fingerprint, "losses": losses}


def _train(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    carrier = _carrier(job)
    with _as_used(carrier, job):
        _, meta = _fine_tune(carrier, job, store, job.tasks)
    carrier.write(folder)
    return meta | {"ancestor": carrier.digest}


def _evaluate(job: Job, store: Store, folder: Path) -> dict[str, Any]:
    carrier = _carrier(job)
    with _as_used(carrier, job):
        meta = _score(carrier, job, store, folder)
    return meta | {"encoder": asdict(carrier.adapter.info)}


def _as_used(carrier: _Carrier, job: Job) -> AbstractContextManager[None]:
    """The carrier's encoder on the terms of the job's pair; the next job may have others."""
    assert job.backbone is not None
    return applied(carrier.adapter, job.use, job.backbone.name)


def _score(carrier: _Carrier, job: Job, store: Store, folder: Path) -> dict[str, Any]:
    """The target stage where there is one, then the outcomes of every test set, written into ``folder``."""
    meta: dict[str, Any] = {}
    head = None
    if job.stage is not None:
        # one run per training set: its first task stands for the group
        trained, meta = _fine_tune(carrier, job, store, job.tasks[:1])
        head = trained.heads[0]
    else:
        carrier.restore(_base(job, store))
    model = Model(carrier.adapter, head, _tower(job, store))
    carrier.encoder.eval()
    scores: dict[str, Any] = {}
    for task in job.tasks:
        outcomes: list[Outcomes] = []
        scorer = kind(task.kind)
        with torch.inference_mode(), autocast(job.numerics.device, job.numerics.precision):
            if hasattr(scorer, "evaluate_languages"):
                outcomes, sweep = scorer.evaluate_languages(model, task, "test", batch_tokens=16384)
                if sweep is not None:
                    meta.setdefault("sweep", {})[task.name] = asdict(sweep)
            else:
                for language in task.languages:
                    outcomes += scorer.evaluate(model, task, "test", language, batch_tokens=16384)
        _write_outcomes(task, outcomes, folder)
        scores[task.name] = {o.language: round(o.score(task.metrics[0]), 6) for o in reversed(outcomes)}
    return meta | {"scores": scores}


def _fine_tune(
    carrier: _Carrier, job: Job, store: Store, tasks: tuple[Task, ...]
) -> tuple[Trained, dict[str, Any]]:
    """Train with the restart rule: a failed attempt (never judged on test data) is repeated once, then kept and flagged."""
    assert job.stage is not None
    base = _base(job, store)
    data = [training_set(task, job.stage) for task in tasks]
    attempts = []
    for attempt in range(MAX_ATTEMPTS):
        carrier.restore(base)
        trained = train(
            carrier.adapter,
            tasks,
            job.stage,
            name=job.stage_name,
            seed=job.seed,
            attempt=attempt,
            device=job.numerics.device,
            precision=job.numerics.precision,
            data=data,
        )
        attempts.append(trained)
        if not trained.failure:
            break
    last = attempts[-1]
    return last, {
        # fingerprints are compared at attempt 0, where every arm has one
        "fingerprint": attempts[0].fingerprint,
        "attempt": len(attempts) - 1,
        "failures": [a.failure for a in attempts if a.failure],
        "collapsed": bool(last.failure),
        "dev": round(last.dev, 6),
        "best_step": last.best_step,
        "curve": [[step, round(score, 6)] for step, score in last.curve],
    }


class _Carrier:
    """A worker's one copy of a backbone, and the way back to its ancestor's weights.

    Only what training can change (trainable parameters, buffers) is kept twice and stored; a stored encoder is these
    tensors where they differ, plus the digest of the ancestor they belong to.
    """

    def __init__(self, backbone: Backbone, device: str) -> None:
        self.adapter = load(backbone)
        self.encoder = cast(nn.Module, self.adapter).to(device)
        """The same object, as the torch module that it is."""
        self.digest = weights_digest(self.adapter)
        self.ancestor = {name: tensor.detach().clone() for name, tensor in self._changeable()}

    def _changeable(self) -> list[tuple[str, Tensor]]:
        state = self.encoder.state_dict(keep_vars=True)
        frozen = {name for name, p in self.encoder.named_parameters() if not p.requires_grad}
        return [(name, tensor) for name, tensor in state.items() if name not in frozen]

    def restore(self, base: Artifact | None) -> None:
        """The ancestor's weights, then the changes of ``base``."""
        changed: dict[str, Tensor] = {}
        if base is not None:
            if base.meta["ancestor"] != self.digest:
                raise ArtifactError(
                    f"{base.path}: was trained from other weights than the backbone has now",
                    "the backbone's files changed under the same revision: pin another revision, or remove the store",
                )
            changed = load_file(base.file(ENCODER))
        with torch.no_grad():
            for name, tensor in self._changeable():
                tensor.copy_(changed.get(name, self.ancestor[name]))
        for parameter in self.encoder.parameters():
            parameter.grad = None

    def write(self, folder: Path) -> None:
        changed = {
            name: tensor.detach().to("cpu").contiguous()
            for name, tensor in self._changeable()
            if not torch.equal(tensor, self.ancestor[name])
        }
        try:
            save_file(changed, folder / ENCODER)
        except SafetensorError as error:
            if "os error 28" not in str(error):  # ENOSPC, which the library wraps in an error of its own
                raise
            raise OSError(errno.ENOSPC, str(error)) from error


@lru_cache(maxsize=1)
def _load_carrier(backbone: Backbone, device: str) -> _Carrier:
    return _Carrier(backbone, device)


def _carrier(job: Job) -> _Carrier:
    assert job.backbone is not None
    torch.manual_seed(seed_for("load"))  # nothing in a loaded encoder may depend on what ran before
    return _load_carrier(job.backbone, job.numerics.device)


def _base(job: Job, store: Store) -> Artifact | None:
    return store.get(*job.base) if job.base else None


@lru_cache(maxsize=4)
def _load_tower(folder: Path, key: str, device: str) -> Tower:
    return Tower.load(folder).to(device).eval()


@lru_cache(maxsize=1)
def _own_tower(backbone: Backbone, device: str) -> ImageTower:
    return load_tower(backbone).to(device)


def _tower(job: Job, store: Store) -> ImageTower | None:
    """The tower that grounding made, or the one that the backbone brings; None where no task looks at pictures."""
    if all(task.kind != "image-text" for task in job.tasks):
        return None
    if not job.tower:
        assert job.backbone is not None
        return _own_tower(job.backbone, job.numerics.device)
    artifact = store.get("ground", job.tower)
    files = [name for name in artifact.manifest["files"] if name.startswith("tower/")]
    if not files:
        raise XtremexError(f"{artifact.path}: this arm has no image tower")
    for name in files:
        artifact.file(name)
    return _load_tower(artifact.path / "tower", job.tower, job.numerics.device)


def _own_ids(task: Task, languages: Iterable[str]) -> dict[str, dict[int, str]]:
    """Language -> example id -> the data set's own id, for submissions; empty where it has none."""
    tables = {}
    for language in dict.fromkeys(languages):
        known = own_ids(task, "test", language)
        examples = task.source.load(task, "test", language) if known else []
        tables[language] = {e.id: key for e, key in zip(examples, known, strict=True)}
    return tables


def _write_outcomes(task: Task, outcomes: list[Outcomes], folder: Path) -> None:
    """``<task>.parquet`` (numerators and denominators) and ``<task>.predictions.parquet``, rows in test-set order."""

    def column(values: list[str], sizes: list[int]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(
            pa.array([i for i, n in enumerate(sizes) for _ in range(n)], pa.int32()),
            pa.array(values, pa.string()),
        )

    sizes = [len(o.example) for o in outcomes]
    keys = {
        "language": column([o.language for o in outcomes], sizes),
        "view": column([o.view for o in outcomes], sizes),
        "example": pa.chunked_array([o.example.astype("int32") for o in outcomes]),
        "cluster": pa.chunked_array([o.cluster.astype("int32") for o in outcomes]),
    }
    columns = dict(keys)
    for metric in outcomes[0].metrics:
        columns[f"{metric}.num"] = pa.chunked_array(
            [o.metrics[metric][0].astype("float64") for o in outcomes]
        )
        columns[f"{metric}.den"] = pa.chunked_array(
            [o.metrics[metric][1].astype("float64") for o in outcomes]
        )
    pq.write_table(pa.table(columns), folder / f"{task.name}.parquet")
    tables = _own_ids(task, (o.language for o in outcomes))
    own = [tables[o.language].get(int(example), "") for o in outcomes for example in o.example]
    printed = [p for o in outcomes for p in (o.predictions or [""] * len(o.example))]
    if task.kind == "mining":  # a mined distractor has no row of its own that would tell its id
        mined = (tables[o.language] for o in outcomes for _ in o.example)
        printed = [ids.get(int(p), p) if p else "" for ids, p in zip(mined, printed, strict=True)]
    table = pa.table(
        {name: keys[name] for name in ("language", "view", "example")}
        | {"key": pa.array(own, pa.string()), "prediction": pa.array(printed, pa.string())}
    )
    pq.write_table(table, folder / f"{task.name}.predictions.parquet")
