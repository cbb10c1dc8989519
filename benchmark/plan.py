"""The plan: a suite becomes jobs, each addressed by the hash of all that determines it, with shared prefixes.

describe   read and check a task's data, count it, compute its baselines      (before any training)
ground     make an arm from its ancestor
train      an intermediate stage; its encoder feeds every target
evaluate   a target stage (where the target trains one) and the test sets that share its training set
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Literal

from ..errors import SuiteError
from ..models.catalogue import Backbone, identity
from ..models.grounding import GroundingConfig, fingerprint
from ..models.use import Use
from ..tasks.base import Task
from ..tasks.kinds import kinds
from .policy import Terms, settle
from .store import Store, digest
from .suite import Arm, Pair, Stage, Suite

__all__ = ["Cell", "Job", "Numerics", "Plan", "make_plan", "scored"]

ENGINE = 2
"""Raised when the engine computes different numbers from the same inputs; old artifacts are then not reused."""

UNCOUNTED = ("source", "roles", "description", "licence", "benchmark")
"""Fields of a task that change no number; the source counts by its fingerprint."""

JobType = Literal["describe", "ground", "train", "evaluate"]


@dataclass(frozen=True)
class Numerics:
    """What, besides the experiment, decides the bits of a result on one machine."""

    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1
    machine: str = field(default_factory=platform.machine)


@dataclass(frozen=True)
class Job:
    """A node of the plan. Everything a worker needs is in here; artifacts are named by their keys."""

    type: JobType
    key: str
    label: str
    """Jobs with one label cost about the same: ``evaluate mini-inference``."""
    needs: tuple[str, ...] = ()
    """Keys of jobs whose artifacts are read."""
    tasks: tuple[Task, ...] = ()
    """describe: one task; train: the stage's tasks; evaluate: the test sets to score."""
    backbone: Backbone | None = None
    grounding: GroundingConfig | None = None
    base: tuple[JobType, str] | None = None
    """Type and key of the job whose encoder to start from; None: the backbone as it is."""
    tower: str = ""
    """Key of the grounding artifact with the image tower, for image-text retrieval; "": the backbone brings its own."""
    stage: Stage | None = None
    stage_name: str = ""
    seed: int = -1
    numerics: Numerics = Numerics()
    use: Use = Use()
    """What the policy of the job's pair changes in the encoder (train, evaluate)."""


@dataclass(frozen=True)
class Cell:
    """One run of the suite's table: (pair, arm, condition, target, seed) and the job that produces it."""

    pair: str
    arm: str
    condition: str
    task: str
    seed: int
    """-1: deterministic, nothing is trained."""
    job: str


@dataclass(frozen=True)
class Plan:
    suite: Suite
    numerics: Numerics
    jobs: dict[str, Job]
    """Key -> job, in an order in which every job follows what it needs."""
    cells: tuple[Cell, ...]
    schedules: dict[tuple[str, int], dict[str, str]]
    """(stage name, seed) -> {"pair/arm": key of a job that ran the stage at this seed}."""
    terms: dict[str, Terms]
    """Pair -> what its policy comes to."""

    @property
    def targets(self) -> tuple[Task, ...]:
        """The suite's targets that some arm can be scored on."""
        return tuple(task for task in self.suite.targets if scored(task, self.suite))

    @cached_property
    def key(self) -> str:
        """The address of the whole result: what the merged outcomes are made of."""
        return digest([self.suite.digest, sorted(self.jobs)])

    def missing(self, store: Store) -> list[Job]:
        return [job for job in self.jobs.values() if not store.has(job.type, job.key)]


def make_plan(suite: Suite, numerics: Numerics) -> Plan:
    """Lay out all jobs of a suite. Trains nothing, reads no data beyond fingerprints, needs no torch.

    Raises:
        SuiteError: an arm departs from the common schedule and no exception declares it; a task's kind is unknown; a
            pair's policy asks of an arm what it cannot do.
    """
    check_identity(suite)
    check_shared_runs(suite)
    builder = _Builder(suite, numerics)
    used = (
        *(task for members in suite.conditions.values() for task in members),
        *(task for task in suite.targets if scored(task, suite)),
    )
    for task in {task.name: task for task in used}.values():  # in both roles: read as the target that it is
        builder.describe(task)
    for pair in suite.pairs:
        for arm_name, arm in pair.arms.items():
            for condition in suite.conditions:
                builder.targets(pair, arm_name, arm, condition)
    return Plan(suite, numerics, builder.jobs, tuple(builder.cells), builder.schedules, builder.terms)


def check_identity(suite: Suite) -> None:
    """Every arm goes through the same schedule, or the suite says where it does not and why.

    Stages are compared as they will run, with what holds for a single task: an arm's key may equal the common stage and
    still differ from the others' there.
    """
    declared = {(e.arm, e.key) for e in suite.exceptions}
    stages: list[tuple[Literal["intermediate", "target"], tuple[Task, ...]]] = [
        *(("intermediate", members) for members in suite.conditions.values() if members),
        *(("target", (task,)) for task in suite.targets if task.train_languages),
    ]
    for pair in suite.pairs:
        for name, arm in pair.arms.items():
            for role, tasks in stages:
                common = asdict(suite.stage(role, Arm(arm.backbone), tasks))
                for key, value in asdict(suite.stage(role, arm, tasks)).items():
                    if value != common[key] and (name, f"{role}.{key}") not in declared:
                        raise SuiteError(
                            f"{suite.path}: pairs.{pair.name}.arms.{name}.{role}.{key} = {value} departs from the common "
                            f"schedule ({common[key]}), so the arms would not be comparable",
                            f'remove it, or declare it: [[exceptions]] arm = "{name}", key = "{role}.{key}", reason = "..."',
                        )


def check_shared_runs(suite: Suite) -> None:
    """Targets that share a training run must agree on it: the first of them would silently decide for the others."""
    for group in _by_train_set([task for task in suite.targets if task.train_languages]):
        for pair in suite.pairs:
            for arm in pair.arms.values():
                first = suite.stage("target", arm, group[:1])
                for task in group[1:]:
                    own = suite.stage("target", arm, (task,))
                    odd = [k for k, v in asdict(own).items() if v != getattr(first, k)]
                    odd += ["max_length"] if task.max_length != group[0].max_length else []
                    if odd:
                        raise SuiteError(
                            f"{suite.path}: `{group[0].name}` and `{task.name}` share one training run "
                            f"(train_set `{task.train_set}`) and differ in {', '.join(odd)}",
                            "give them the same values under [per_task.NAME] and [overrides.NAME]",
                        )


class _Builder:
    """Collects jobs under their keys; asking twice for the same job gives the same job (shared prefixes).

    Digests of what many jobs have in common are taken once: a plan of 100,000 jobs is made in seconds.
    """

    def __init__(self, suite: Suite, numerics: Numerics) -> None:
        self.suite = suite
        self.numerics = numerics
        self.jobs: dict[str, Job] = {}
        self.cells: list[Cell] = []
        self.schedules: dict[tuple[str, int], dict[str, str]] = {}
        self.terms = {pair.name: settle(pair, suite.backbones, suite.path) for pair in suite.pairs}
        self._numerics = digest(asdict(numerics))
        self._tasks: dict[tuple[str, tuple[str, ...]], str] = {}
        self._backbones: dict[str, str] = {}
        self._stages: dict[Stage, str] = {}
        self._grounding: dict[GroundingConfig, str] = {}
        self._trained: dict[tuple[str, str, int], Job] = {}

    def key(self, kind: JobType, *determined_by: object) -> str:
        return digest([ENGINE, kind, *determined_by])

    def add(self, job: Job) -> Job:
        return self.jobs.setdefault(job.key, job)

    def task_digest(self, task: Task) -> str:
        """All that a task contributes to a number: its declaration and its data's fingerprint."""
        known = (task.name, task.languages)  # a suite may restrict a target and not the intermediate task
        if known not in self._tasks:
            fields = {k: v for k, v in vars(task).items() if k not in UNCOUNTED}
            kind = kinds.origin(task.kind)  # a third party's kind counts with its version
            self._tasks[known] = digest([fields, kind, task.source.fingerprint()])
        return self._tasks[known]

    def backbone_digest(self, name: str) -> str:
        if name not in self._backbones:
            self._backbones[name] = digest(identity(self.suite.backbones[name]))
        return self._backbones[name]

    def stage_digest(self, stage: Stage | None) -> str:
        if stage is None:
            return ""
        if stage not in self._stages:
            self._stages[stage] = digest(asdict(stage))
        return self._stages[stage]

    def _items(self, config: GroundingConfig) -> str:
        """What grounding shows: items, placebo assignment and the versions of the packages that they come from."""
        if config not in self._grounding:
            self._grounding[config] = fingerprint(config)
        return self._grounding[config]

    def describe(self, task: Task) -> Job:
        return self.add(
            Job("describe", self.key("describe", self.task_digest(task)), f"read {task.name}", tasks=(task,))
        )

    def ground(self, arm: Arm) -> Job | None:
        """The job that makes the arm from its backbone, or None where the arm is the backbone itself."""
        if not arm.grounding:
            return None
        config = self.suite.grounding[arm.grounding]
        return self.add(
            Job(
                "ground",
                self.key(
                    "ground",
                    self._numerics,
                    self.backbone_digest(arm.backbone),
                    asdict(config),
                    self._items(config),
                ),
                f"ground {arm.grounding}",
                backbone=self.suite.backbones[arm.backbone],
                grounding=config,
                numerics=self.numerics,
            )
        )

    def train(
        self, arm_id: str, arm: Arm, use: Use, ground: Job | None, condition: str, seed: int
    ) -> Job | None:
        """The intermediate stage of a condition, or None for ``none``: trained once, feeds all targets."""
        members = self.suite.conditions[condition]
        if not members:
            return None
        known = self._trained.get((arm_id, condition, seed))
        if known is not None:
            return known
        stage = self.suite.stage("intermediate", arm, members)
        name = "intermediate:" + "+".join(task.name for task in members)
        job = self.add(
            Job(
                "train",
                self.key(
                    "train", *self._lineage(arm, use, ground, members), self.stage_digest(stage), name, seed
                ),
                f"train {condition}",
                needs=(ground.key,) if ground else (),
                tasks=members,
                backbone=self.suite.backbones[arm.backbone],
                base=(ground.type, ground.key) if ground else None,
                stage=stage,
                stage_name=name,
                seed=seed,
                numerics=self.numerics,
                use=use,
            )
        )
        self.schedules.setdefault((name, seed), {})[arm_id] = job.key
        self._trained[arm_id, condition, seed] = job
        return job

    def _lineage(self, arm: Arm, use: Use, base: Job | None, tasks: tuple[Task, ...]) -> tuple[object, ...]:
        return (
            self._numerics,
            self.backbone_digest(arm.backbone),
            base.key if base else "",
            [self.task_digest(task) for task in tasks],
            # an arm that is used as it is shares its jobs with every pair that asks nothing else of it
            *([asdict(use)] if use else []),
        )

    def targets(self, pair: Pair, arm_name: str, arm: Arm, condition: str) -> None:
        """All runs of one arm under one condition: trained targets by training set, the others by encoder."""
        arm_id = f"{pair.name}/{arm_name}"
        use = self.terms[pair.name].uses[arm_name]
        ground = self.ground(arm)
        trained = [t for t in self.suite.targets if t.train_languages]
        zero_shot = [
            t for t in self.suite.targets if not t.train_languages and _has_tower(t, arm, self.suite)
        ]
        for group in _by_train_set(trained):
            stage = self.suite.stage("target", arm, group[:1])
            for seed in self.suite.seeds:
                base = self.train(arm_id, arm, use, ground, condition, seed) or ground
                job = self.evaluate(arm, use, base, group, seed, stage=stage)
                self.schedules.setdefault((job.stage_name, seed), {})[arm_id] = job.key
                self.cells += [Cell(pair.name, arm_name, condition, t.name, seed, job.key) for t in group]
        # Without an intermediate stage nothing is trained: one deterministic run, seed -1.
        for seed in self.suite.seeds if self.suite.conditions[condition] else (-1,):
            base = self.train(arm_id, arm, use, ground, condition, seed) or ground
            for task in zero_shot:
                tower = ground if task.kind == "image-text" else None
                job = self.evaluate(arm, use, base, (task,), -1, tower=tower)
                self.cells.append(Cell(pair.name, arm_name, condition, task.name, seed, job.key))

    def evaluate(
        self,
        arm: Arm,
        use: Use,
        base: Job | None,
        tasks: tuple[Task, ...],
        seed: int,
        *,
        stage: Stage | None = None,
        tower: Job | None = None,
    ) -> Job:
        """Score ``tasks``, after a target stage on the first one's training set where ``stage`` is given."""
        name = f"target:{tasks[0].train_set or tasks[0].name}" if stage else ""
        lineage = self._lineage(arm, use, base, tasks)
        tower_key = tower.key if tower else ""
        return self.add(
            Job(
                "evaluate",
                self.key("evaluate", *lineage, tower_key, self.stage_digest(stage), name, seed),
                f"evaluate {'+'.join(t.name for t in tasks)}",
                needs=tuple(dict.fromkeys(j.key for j in (base, tower) if j)),
                tasks=tasks,
                backbone=self.suite.backbones[arm.backbone],
                base=(base.type, base.key) if base else None,
                tower=tower_key,
                stage=stage,
                stage_name=name,
                seed=seed,
                numerics=self.numerics,
                use=use,
            )
        )


def scored(task: Task, suite: Suite) -> bool:
    """Whether any arm can be scored on the target; data that nobody reads need not be there."""
    return any(_has_tower(task, arm, suite) for pair in suite.pairs for arm in pair.arms.values())


def _has_tower(task: Task, arm: Arm, suite: Suite) -> bool:
    """Image-text retrieval exists for arms that were grounded on pictures, and for backbones that bring an image tower.

    An arm grounded on texts has no tower, whatever its backbone: the pair's other arm would be scored with another.
    """
    if task.kind != "image-text":
        return True
    return arm.grounding in ("vision", "scrambled") if arm.grounding else suite.backbones[arm.backbone].images


def _by_train_set(tasks: list[Task]) -> Iterator[tuple[Task, ...]]:
    """Targets that share a training set share its run (XQuAD and MLQA are both read after SQuAD 1.1)."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.train_set or task.name, []).append(task)
    yield from map(tuple, groups.values())
