"""A suite: which arms, which conditions, which targets, how trained. One TOML file becomes one frozen `Suite`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..door import build, read_toml
from ..errors import SuiteError, unknown
from ..models.catalogue import Backbone, backbones, check_loadable, get, parse_backbone
from ..models.grounding import GroundingConfig
from ..tasks.base import Task
from ..tasks.catalogue import Declarations, load_tasks, tasks
from ..tasks.contamination import known_overlaps
from ..tasks.kinds import kind
from ..tasks.places import COMMIT, Places
from ..tasks.sources import SharedTraining, located
from .pairs import take_pairs
from .schema import (
    Analysis,
    Arm,
    Contrast,
    Exemption,
    Expected,
    Override,
    Pair,
    Policy,
    Stage,
    SuiteFile,
    build_partial,
    check_shape,
    overridden,
)

__all__ = [
    "Analysis",
    "Arm",
    "Contrast",
    "Exemption",
    "Pair",
    "Policy",
    "Stage",
    "Suite",
    "SuiteFile",
    "builtin_suites",
    "is_hub_id",
    "load_suite",
]


@dataclass(frozen=True)
class Suite:
    """A suite with every name resolved."""

    path: Path
    digest: str
    setup: str
    """Digest of what the file says of encoders, data and training beyond stages and names: comments and titles aside."""
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
    """Overlaps of an intermediate task with a target: the catalogue's, then the suite's own."""
    expected: tuple[Expected, ...]

    def stage(self, role: Literal["intermediate", "target"], arm: Arm, tasks: tuple[Task, ...]) -> Stage:
        """The stage for these tasks: the common one, then what holds for a single task, then the arm's exceptions."""
        stage: Stage = getattr(self, role)
        if len(tasks) == 1:
            stage = overridden(stage, self.per_task.get(tasks[0].name, {}))
        return overridden(stage, getattr(arm, role))


def builtin_suites() -> dict[str, Path]:
    """Name -> file of the suites that ship with the package."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "suites").glob("*.toml"))}


def load_suite(name_or_path: str, places: Places | None = None, without: Sequence[str] = ()) -> Suite:
    """Read and check a suite: a built-in name or the path of a TOML file.

    Args:
        places: where data are that no package ships; by default nowhere.
        without: tasks to leave out, as intermediate and as target (a corpus that one has no licence for).

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
    table = read_toml(path)
    taken = take_pairs(table, path)
    raw = _leave_out(build(SuiteFile, table, str(path)), without, path)
    check_shape(raw, path)
    places = places or Places()
    known_tasks = _tasks(raw, path)
    known_backbones = {name: _own_backbone(name, table, path) for name, table in raw.backbones.items()}
    used = _backbones(raw, path, known_backbones, places)
    grounding = {}
    for objective in sorted({arm.grounding for pair in raw.pairs for arm in pair.arms.values()} - {""}):
        grounding[objective] = build(
            GroundingConfig, {"objective": objective, **raw.grounding}, f"{path}: grounding"
        )
    conditions = {
        name: tuple(
            located(task, places) for task in _members(members, known_tasks, f"{path}: conditions.{name}")
        )
        for name, members in {"none": (), **raw.conditions}.items()
    }
    targets = tuple(located(task, places) for task in _targets(raw, path, known_tasks))
    intermediates = {task.name: task for members in conditions.values() for task in members}
    return Suite(
        path=path,
        digest=hashlib.sha256(
            path.read_bytes() + "".join([*taken, *(f"|without {x}" for x in without)]).encode()
        ).hexdigest(),
        setup=_setup(raw),
        name=raw.name,
        title=raw.title,
        notice=raw.notice,
        seeds=raw.seeds,
        pairs=tuple(
            _typed(replace(pair, contrasts=pair.contrasts or _contrasts(pair)), path) for pair in raw.pairs
        ),
        conditions=conditions,
        targets=targets,
        backbones=used,
        grounding=grounding,
        intermediate=raw.intermediate,
        target=raw.target,
        per_task={
            name: build_partial(table, f"{path}: per_task.{name}") for name, table in raw.per_task.items()
        },
        exceptions=raw.exceptions,
        untrained=raw.untrained,
        analysis=raw.analysis,
        contamination=(
            *known_overlaps(intermediates.values(), targets),
            *(asdict(overlap) for overlap in raw.contamination),
        ),
        expected=raw.expected,
    )


SPELLED = frozenset(
    ("name", "title", "notice", "seeds", "conditions", "targets", "intermediate", "target", "per_task")
    + ("analysis", "untrained", "contamination", "expected")
)
"""Keys that a registered design spells out (`analysis/preregister.py`), or that determine no score."""


def _setup(raw: SuiteFile) -> str:
    rest = {key: value for key, value in asdict(raw).items() if key not in SPELLED}
    rest["pairs"] = [{key: pair[key] for key in ("name", "arms", "policy")} for pair in rest["pairs"]]
    return hashlib.sha256(json.dumps(rest, sort_keys=True, default=str).encode()).hexdigest()


def _typed(pair: Pair, path: Path) -> Pair:
    """Exceptions of arms in the types of a stage: 3 and 3.0 are one number, and must be one address."""
    where = f"{path}: pairs.{pair.name}.arms"
    arms = {
        name: replace(
            arm,
            intermediate=build_partial(arm.intermediate, f"{where}.{name}.intermediate"),
            target=build_partial(arm.target, f"{where}.{name}.target"),
        )
        for name, arm in pair.arms.items()
    }
    return replace(pair, arms=arms)


def _leave_out(raw: SuiteFile, without: Sequence[str], path: Path) -> SuiteFile:
    """The suite without some of its tasks; a condition that loses all of its tasks goes with them."""
    used = {*raw.targets, *(t for members in raw.conditions.values() for t in members)}
    for name in without:
        if name not in used:
            raise unknown("task", name, used, f"{path}: to be left out")
    if not without:
        return raw
    kept = {name: tuple(t for t in members if t not in without) for name, members in raw.conditions.items()}
    return replace(
        raw,
        title=f"{raw.title} (without {', '.join(without)})",
        targets=tuple(t for t in raw.targets if t not in without),
        conditions={name: members for name, members in kept.items() if members or name == "none"},
        per_task={name: table for name, table in raw.per_task.items() if name not in without},
        overrides={name: table for name, table in raw.overrides.items() if name not in without},
        contamination=tuple(o for o in raw.contamination if {o.intermediate, o.target}.isdisjoint(without)),
        expected=tuple(
            e
            for e in raw.expected
            if e.task not in without and (e.condition == "none" or kept.get(e.condition))
        ),
    )


def _tasks(raw: SuiteFile, path: Path) -> dict[str, Task]:
    """Inline tables and task files of the suite, before the catalogue's names."""
    own: dict[str, Task] = {}
    for name in raw.task_files:
        own |= load_tasks(path.parent / name)
    own |= Declarations(raw.tasks, f"{path}: tasks", path.parent, own).all()
    catalogue = tasks()
    wanted = {*raw.targets, *(t for members in raw.conditions.values() for t in members)}
    clash = sorted(set(own) & set(catalogue.names()))
    if clash:
        raise SuiteError(
            f"{path}: the task name `{clash[0]}` is taken by the catalogue", "give your task another name"
        )
    wanted |= {task.train_set for task in own.values()}
    wanted |= {catalogue.get(name).train_set for name in wanted if name in catalogue}
    known = own | {name: catalogue.get(name) for name in catalogue.names() if name in wanted}
    shipped = (
        path in builtin_suites().values()
    )  # tests check these; a kind's options are known to its module, with torch
    changed = {
        name: _changed(task, raw.overrides[name], "" if shipped else f"{path}: overrides.{name}")
        if name in raw.overrides
        else task
        for name, task in known.items()
    }
    return _Table(changed, [*own, *catalogue.names()])


def _changed(task: Task, override: Override, checked: str) -> Task:
    """The task as the suite wants it; ``checked``, where given, is the place that a message about its options names."""
    if checked and override.options:
        known = kind(task.kind).options
        for option in override.options:
            if option not in known:
                raise unknown("option", option, known, checked)
    return replace(
        task,
        max_length=override.max_length or task.max_length,
        options={**task.options, **override.options},
    )


class _Table(dict[str, Task]):
    """The tasks a suite uses; remembers all names there are, for the neighbours in a message."""

    def __init__(self, content: dict[str, Task], names: list[str]) -> None:
        super().__init__(content)
        self.names = names


def _find(table: dict[str, Task], name: str, where: str) -> Task:
    if name not in table:
        raise unknown("task", name, table.names if isinstance(table, _Table) else table, where)
    return table[name]


def _members(names: tuple[str, ...], known: dict[str, Task], where: str) -> list[Task]:
    return [_in_role(_find(known, name, where), "intermediate", where) for name in names]


def _in_role(task: Task, role: str, where: str) -> Task:
    if role not in task.roles:
        raise SuiteError(
            f"{where}: the task `{task.name}` cannot serve as {role}", f"its roles: {', '.join(task.roles)}"
        )
    return task


def _targets(raw: SuiteFile, path: Path, known: dict[str, Task]) -> tuple[Task, ...]:
    """The targets in the suite's languages, training on what their `train_set` names."""
    where = f"{path}: targets"
    whole = [_in_role(_find(known, name, where), "target", where) for name in raw.targets]
    there = {language for task in whole for language in task.languages}
    for language in raw.languages:
        if language not in there:
            raise unknown("language", language, there, f"{path}: languages")
    targets = []
    for task in whole:
        # the source language stays, so that transfer can be told from the task's difficulty
        kept = tuple(x for x in task.languages if x in raw.languages or x == task.source_language)
        if raw.languages and not kept:
            raise SuiteError(
                f"{path}: languages leave the target `{task.name}` without any", "add one of its own"
            )
        targets.append(_with_training(replace(task, languages=kept) if raw.languages else task, known, where))
    if all(task.kind == "image-text" for task in targets):
        raise SuiteError(f"{where}: only retention targets", "effects need a target of another kind")
    return tuple(targets)


def _with_training(task: Task, known: dict[str, Task], where: str) -> Task:
    """A target whose `train_set` names another task trains on that task's data."""
    owner = known.get(task.train_set)
    if owner is None or owner.name == task.name or not task.train_languages:
        return task
    # choices are scored one by one: a head for three fits two
    labelled = task.kind != "multiple-choice"
    if owner.kind != task.kind or (labelled and owner.labels != task.labels):
        raise SuiteError(
            f"{where}: `{task.name}` has the train_set `{owner.name}`, a task of another kind or other labels",
            "tasks that share a training set share its head: kind and labels must be equal",
        )
    source = SharedTraining(own=task.source, training=owner.source, trainer=owner)
    return replace(
        task, source=source, train_languages=owner.train_languages, source_language=owner.source_language
    )


def _own_backbone(name: str, table: Any, path: Path) -> Backbone:
    """A backbone of the suite's own; a relative checkpoint folder is meant from where the suite file lies."""
    backbone = parse_backbone(name, table, f"{path}: backbones.{name}")
    beside = path.parent / backbone.checkpoint
    return replace(backbone, checkpoint=str(beside.resolve())) if beside.is_dir() else backbone


def _backbones(raw: SuiteFile, path: Path, own: dict[str, Backbone], places: Places) -> dict[str, Backbone]:
    catalogue = backbones()
    used = {}
    for pair in raw.pairs:
        for name, arm in pair.arms.items():
            if arm.backbone in own:
                used[arm.backbone] = own[arm.backbone]
            elif arm.backbone.partition("@")[0] in catalogue:
                used[arm.backbone] = get(arm.backbone)
            else:
                where = f"{path}: pairs.{pair.name}.arms.{name}.backbone"
                raise unknown("backbone", arm.backbone, [*own, *catalogue], where)
    for backbone in used.values():
        check_loadable(backbone)
        _check_pinned(backbone, path)
    return {name: _at_commit(backbone, places) for name, backbone in used.items()}


def _at_commit(backbone: Backbone, places: Places) -> Backbone:
    """A backbone at the commit that `xtremex fetch` found for its revision."""
    commit = places.pins.models.get(f"{backbone.checkpoint}@{backbone.revision or 'main'}")
    return replace(backbone, revision=commit) if commit else backbone


def _check_pinned(backbone: Backbone, path: Path) -> None:
    """A hub id's branch or tag moves, and results under one address would mix two encoders."""
    declared = backbones().get(backbone.name)
    if declared is not None and backbone.revision == declared.revision:
        return  # the catalogue's branch is resolved by `xtremex fetch`
    if is_hub_id(backbone) and backbone.revision and not COMMIT.fullmatch(backbone.revision):
        raise SuiteError(
            f"{path}: backbone `{backbone.name}` is at revision `{backbone.revision}`, which can move",
            "give the 40 digits of the commit; leave the revision out once, and the error prints the present one",
        )


def is_hub_id(backbone: Backbone) -> bool:
    """Whether the checkpoint is an id of the Hugging Face hub rather than a folder or a package."""
    known = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", backbone.checkpoint)
    return bool(known) and not Path(backbone.checkpoint).is_dir()


def _contrasts(pair: Pair) -> tuple[Contrast, ...]:
    """Every other arm against `text`; a scrambled arm is the placebo."""
    if "text" not in pair.arms:
        return ()
    others = [name for name in pair.arms if name != "text"]
    return tuple(Contrast(name, "text", "placebo" if name == "scrambled" else "primary") for name in others)
