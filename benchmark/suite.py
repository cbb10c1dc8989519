"""A suite: which arms, which conditions, which targets, how trained. One TOML file becomes one frozen `Suite`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..door import build, read_toml
from ..errors import SuiteError, unknown
from ..models.catalogue import Backbone, backbones, parse_backbone
from ..models.grounding import GroundingConfig
from ..tasks.base import Task
from ..tasks.catalogue import load_tasks, parse_task, tasks

__all__ = ["Arm", "Contrast", "Pair", "Stage", "Suite", "builtin_suites", "load_suite"]


@dataclass(frozen=True)
class Stage:
    """Hyper-parameters of one fine-tuning run. Every field enters the schedule's fingerprint."""

    steps: int
    """Optimizer steps."""
    batch_size: int
    """Examples per optimizer step, whatever the micro-batches."""
    encoder_lr: float
    head_lr: float
    warmup: float = 0.1
    """Share of the steps over which the rate rises from 0; it then falls linearly to 0."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Maximal gradient norm; 0 switches clipping off."""
    evaluations: int = 2
    """How often dev is scored, evenly spaced, the last time at the last step; the best checkpoint is kept."""
    micro_batch_tokens: int = 8192
    """Tokens, padding included, in one forward pass of a step; gradients are summed, the step stays the same."""
    limit: int = 0
    """Use only the first so many training examples; 0 uses all."""
    sampling: Literal["proportional", "temperature"] = "proportional"
    """How a mixture draws the task of a step: by size, or by size to the power 1 / temperature."""
    temperature: float = 1.0
    cap: int = 0
    """Sizes above the cap count as the cap in a mixture; 0 means no cap (Phang et al. 2020 sec. 3.2 cap at 2^19)."""


@dataclass(frozen=True)
class Arm:
    """The role of one backbone in a comparison; `grounding` names the objective that makes it from the backbone."""

    backbone: str
    grounding: Literal["", "text", "vision", "scrambled"] = ""
    intermediate: dict[str, Any] = field(default_factory=dict)
    """Exceptions from the common schedule; refused unless declared under `exceptions`."""
    target: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Contrast:
    plus: str
    minus: str
    role: Literal["primary", "placebo"] = "primary"

    @property
    def name(self) -> str:
        return f"{self.plus}-{self.minus}"


@dataclass(frozen=True)
class Pair:
    """Arms with one ancestor: same architecture, tokenizer and initial weights."""

    name: str
    arms: dict[str, Arm]
    contrasts: tuple[Contrast, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Exemption:
    """A declared departure of one arm from the common schedule."""

    arm: str
    key: str
    """`intermediate.encoder_lr`, `target.steps`, ..."""
    reason: str


@dataclass(frozen=True)
class Analysis:
    alpha: float = 0.05
    margin_task: float = 1.0
    margin_aggregate: float = 0.5


@dataclass(frozen=True)
class _File:
    """The suite file as written; `Suite` is the same with every name resolved."""

    name: str
    title: str
    seeds: tuple[int, ...]
    pairs: tuple[Pair, ...]
    conditions: dict[str, tuple[str, ...]]
    targets: tuple[str, ...]
    intermediate: Stage
    target: Stage
    grounding: dict[str, Any] = field(default_factory=dict)
    notice: str = ""
    per_task: dict[str, dict[str, Any]] = field(default_factory=dict)
    exceptions: tuple[Exemption, ...] = ()
    languages: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    """Languages that the encoders' pre-training did not cover: controls in the report."""
    analysis: Analysis = Analysis()
    task_files: tuple[str, ...] = ()
    tasks: dict[str, Any] = field(default_factory=dict)
    backbones: dict[str, Any] = field(default_factory=dict)
    contamination: tuple[dict[str, str], ...] = ()


@dataclass(frozen=True)
class Suite:
    """A suite with every name resolved."""

    path: Path
    digest: str
    name: str
    title: str
    notice: str
    seeds: tuple[int, ...]
    pairs: tuple[Pair, ...]
    conditions: dict[str, tuple[Task, ...]]
    targets: tuple[Task, ...]
    backbones: dict[str, Backbone]
    grounding: dict[str, GroundingConfig]
    """Objective -> configuration; equal but for the objective."""
    intermediate: Stage
    target: Stage
    per_task: dict[str, dict[str, Any]]
    exceptions: tuple[Exemption, ...]
    untrained: tuple[str, ...]
    analysis: Analysis
    contamination: tuple[dict[str, str], ...]

    def stage(self, role: Literal["intermediate", "target"], arm: Arm, tasks: tuple[Task, ...]) -> Stage:
        """The stage for these tasks: the common one, then what holds for a single task, then the arm's exceptions."""
        stage: Stage = getattr(self, role)
        if len(tasks) == 1:
            stage = replace(stage, **self.per_task.get(tasks[0].name, {}))
        return replace(stage, **getattr(arm, role))


def builtin_suites() -> dict[str, Path]:
    """Name -> file of the suites that ship with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}


def load_suite(name_or_path: str) -> Suite:
    """Read and check a suite: a built-in name or the path of a TOML file.

    Raises `SuiteError` or `UnknownName` naming the file, the key and the nearest valid names; nothing is written.
    """
    shipped = builtin_suites()
    path = shipped.get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise (
            unknown("suite", name_or_path, shipped)
            if path.suffix != ".toml"
            else SuiteError(f"{path}: no such file", f"give a suite file, or one of: {', '.join(shipped)}")
        )
    raw = build(_File, read_toml(path), str(path))
    _check_shape(raw, path)
    known_tasks = _tasks(raw, path)
    known_backbones = {name: _own_backbone(name, table, path) for name, table in raw.backbones.items()}
    used = _backbones(raw, path, known_backbones)
    grounding = {}
    for objective in sorted({arm.grounding for pair in raw.pairs for arm in pair.arms.values()} - {""}):
        grounding[objective] = build(
            GroundingConfig, {"objective": objective, **raw.grounding}, f"{path}: grounding"
        )
    return Suite(
        path=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        name=raw.name,
        title=raw.title,
        notice=raw.notice,
        seeds=raw.seeds,
        pairs=tuple(replace(pair, contrasts=pair.contrasts or _contrasts(pair)) for pair in raw.pairs),
        conditions={
            name: tuple(
                _in_role(
                    _find(known_tasks, t, f"{path}: conditions.{name}"),
                    "intermediate",
                    f"{path}: conditions.{name}",
                )
                for t in members
            )
            for name, members in {"none": (), **raw.conditions}.items()
        },
        targets=tuple(
            _restrict(
                _in_role(_find(known_tasks, t, f"{path}: targets"), "target", f"{path}: targets"),
                raw.languages,
            )
            for t in raw.targets
        ),
        backbones=used,
        grounding=grounding,
        intermediate=raw.intermediate,
        target=raw.target,
        per_task=raw.per_task,
        exceptions=raw.exceptions,
        untrained=raw.untrained,
        analysis=raw.analysis,
        contamination=raw.contamination,
    )


def _check_shape(raw: _File, path: Path) -> None:
    for what, value in (("seeds", raw.seeds), ("pairs", raw.pairs), ("targets", raw.targets)):
        if not value:
            raise SuiteError(f"{path}: `{what}` is empty", f"a suite needs at least one of its {what}")
        if what != "pairs" and len(set(value)) != len(value):
            raise SuiteError(f"{path}: `{what}` names something twice: {', '.join(map(str, value))}")
    if any(seed < 0 for seed in raw.seeds):
        raise SuiteError(f"{path}: seeds: a seed is negative", "seeds are whole numbers from 0")
    if raw.conditions.get("none"):
        raise SuiteError(
            f"{path}: conditions.none must be empty", "`none` is the absence of an intermediate task"
        )
    for name, members in raw.conditions.items():
        if name != "none" and not members:
            raise SuiteError(f"{path}: conditions.{name} names no task", "only `none` may be empty")
    for role in ("intermediate", "target"):
        stage: Stage = getattr(raw, role)
        for key in ("steps", "batch_size", "evaluations", "micro_batch_tokens"):
            if getattr(stage, key) < 1:
                raise SuiteError(f"{path}: {role}.{key} must be at least 1, found {getattr(stage, key)}")
    for pair in raw.pairs:
        for name, arm in pair.arms.items():
            for role in ("intermediate", "target"):
                _check_stage_keys(getattr(arm, role), f"{path}: pairs.{pair.name}.arms.{name}.{role}")
        for contrast in pair.contrasts:
            for arm in (contrast.plus, contrast.minus):
                if arm not in pair.arms:
                    raise unknown("arm", arm, pair.arms, f"{path}: pairs.{pair.name}.contrasts")
    for name, table in raw.per_task.items():
        _check_stage_keys(table, f"{path}: per_task.{name}")
        if name not in {*raw.targets, *(t for members in raw.conditions.values() for t in members)}:
            raise unknown(
                "task",
                name,
                [*raw.targets, *(t for m in raw.conditions.values() for t in m)],
                f"{path}: per_task",
            )
    arms = {name for pair in raw.pairs for name in pair.arms}
    for exemption in raw.exceptions:
        if exemption.arm not in arms:
            raise unknown("arm", exemption.arm, arms, f"{path}: exceptions")
        if not exemption.reason.strip():
            raise SuiteError(
                f"{path}: exceptions: `{exemption.key}` of arm `{exemption.arm}` gives no reason"
            )


def _check_stage_keys(table: dict[str, Any], where: str) -> None:
    defaults = {
        f.name: 1 for f in fields(Stage) if f.name in ("steps", "batch_size", "encoder_lr", "head_lr")
    }
    build(Stage, {**defaults, **table}, where)


def _tasks(raw: _File, path: Path) -> dict[str, Task]:
    """Inline tables and task files of the suite, before the catalogue's names."""
    own: dict[str, Task] = {}
    for name in raw.task_files:
        own |= load_tasks(path.parent / name)
    for name, table in raw.tasks.items():
        own[name] = parse_task(name, table, f"{path}: tasks.{name}", path.parent)
    catalogue = tasks()
    wanted = {*raw.targets, *(t for members in raw.conditions.values() for t in members)}
    clash = sorted(set(own) & set(catalogue.names()))
    if clash:
        raise SuiteError(
            f"{path}: the task name `{clash[0]}` is taken by the catalogue", "give your task another name"
        )
    known = {name: catalogue.get(name) for name in catalogue.names() if name in wanted}
    return _Table(own | known, [*own, *catalogue.names()])


class _Table(dict[str, Task]):
    """The tasks a suite uses; remembers all names there are, for the neighbours in a message."""

    def __init__(self, content: dict[str, Task], names: list[str]) -> None:
        super().__init__(content)
        self.names = names


def _find(table: dict[str, Task], name: str, where: str) -> Task:
    if name not in table:
        raise unknown("task", name, table.names if isinstance(table, _Table) else table, where)
    return table[name]


def _in_role(task: Task, role: str, where: str) -> Task:
    if role not in task.roles:
        raise SuiteError(
            f"{where}: the task `{task.name}` cannot serve as {role}", f"its roles: {', '.join(task.roles)}"
        )
    return task


def _restrict(task: Task, languages: tuple[str, ...]) -> Task:
    """Only the suite's languages, the source language always among them."""
    if not languages:
        return task
    kept = tuple(x for x in task.languages if x in languages or x == task.source_language)
    return replace(task, languages=kept)


def _own_backbone(name: str, table: Any, path: Path) -> Backbone:
    """A backbone of the suite's own; a relative checkpoint folder is meant from where the suite file lies."""
    backbone = parse_backbone(name, table, f"{path}: backbones.{name}")
    beside = path.parent / backbone.checkpoint
    return replace(backbone, checkpoint=str(beside.resolve())) if beside.is_dir() else backbone


def _backbones(raw: _File, path: Path, own: dict[str, Backbone]) -> dict[str, Backbone]:
    catalogue = backbones()
    used = {}
    for pair in raw.pairs:
        for name, arm in pair.arms.items():
            if arm.backbone in own:
                used[arm.backbone] = own[arm.backbone]
            elif arm.backbone in catalogue:
                used[arm.backbone] = catalogue[arm.backbone]
            else:
                where = f"{path}: pairs.{pair.name}.arms.{name}.backbone"
                raise unknown("backbone", arm.backbone, [*own, *catalogue], where)
    return used


def _contrasts(pair: Pair) -> tuple[Contrast, ...]:
    """Every other arm against `text`; a scrambled arm is the placebo."""
    if "text" not in pair.arms:
        return ()
    others = [name for name in pair.arms if name != "text"]
    return tuple(Contrast(name, "text", "placebo" if name == "scrambled" else "primary") for name in others)
