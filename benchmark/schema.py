"""What a suite file may say: its tables as frozen dataclasses, and all that can be refused before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from ..door import build
from ..errors import SuiteError, unknown

__all__ = [
    "Analysis",
    "Arm",
    "Contrast",
    "Exemption",
    "Expected",
    "Overlap",
    "Override",
    "Pair",
    "Policy",
    "Stage",
    "SuiteFile",
    "build_partial",
    "check_shape",
    "overridden",
]


@dataclass(frozen=True)
class Stage:
    """Hyper-parameters of one fine-tuning run. Every field enters the schedule's fingerprint."""

    batch_size: int
    """Examples per optimizer step, whatever the micro-batches."""
    encoder_lr: float
    head_lr: float
    steps: int = 0
    """Optimizer steps; a stage says either this or `epochs`."""
    epochs: float = 0.0
    """Passes over the training data, of a mixture over all its parts, each counted up to `cap`."""
    warmup: float = 0.1
    """Share of the steps over which the rate rises from 0; it then falls linearly to 0."""
    weight_decay: float = 0.01
    clip: float = 1.0
    """Maximal gradient norm; 0 switches clipping off."""
    evaluations: int = 2
    """How often dev is scored, evenly spaced, the last time at the last step; the best checkpoint is kept.

    1 means that nothing is chosen on dev: the last checkpoint is kept.
    """
    evaluate_every: int = 0
    """Steps between two scorings of dev, in place of `evaluations`; the last step is scored as well."""
    dev_limit: int = 0
    """Score only so many dev examples of a task, evenly spaced (jiant scores the first 500); 0 scores all."""
    micro_batch_tokens: int = 8192
    """Tokens, padding included, in one forward pass of a step; gradients are summed, the step stays the same."""
    limit: int = 0
    """Use only so many training examples of a task, evenly spaced; 0 uses all."""
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
class Policy:
    """What all arms of a pair are used with, whatever each was trained with (``benchmark/policy.py``).

    The defaults ask for what all arms can do. Where the catalogue does not state (``facts``) what an arm can do, the arms
    stay as they are, and the report says so.
    """

    max_length: Literal["accepted", "trained"] | int = "accepted"
    """Tokens of the longest input: the fewest that an arm accepts, or was trained on, or so many."""
    pair_encoding: Literal["shared", "joint", "separate"] = "shared"
    """``shared``: joint where every arm is, else separate."""
    pooling: Literal["shared", "native", "mean", "cls"] = "shared"
    """What heads read as a sentence vector. ``shared``: the native one where all arms pool alike, to vectors of unit length
    or not, else the mean."""
    dropout: Literal["shared", "native"] | float = "shared"
    """A number, and ``shared`` where the arms' rates differ (their smallest), is put everywhere; where they are equal,
    ``shared`` is ``native``: as each was trained."""
    prefix: Literal["native", "none"] = "native"
    """``native``: every arm has the text prefix of its training."""


@dataclass(frozen=True)
class Pair:
    """Arms with one ancestor: same architecture, tokenizer and initial weights."""

    name: str
    arms: dict[str, Arm]
    contrasts: tuple[Contrast, ...] = ()
    ladder: tuple[str, ...] = ()
    """Arms from the least to the most of what they differ in: the report tests the trend of their gains."""
    note: str = ""
    policy: Policy = Policy()


@dataclass(frozen=True)
class Exemption:
    """A declared departure of one arm from the common schedule."""

    arm: str
    key: str
    """`intermediate.encoder_lr`, `target.steps`, ..."""
    reason: str


@dataclass(frozen=True)
class Override:
    """What a suite changes about a task of the catalogue."""

    max_length: int = 0
    """Tokens of the longest input; 0 leaves the task's own."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the kind, in place of the task's of the same name."""


@dataclass(frozen=True)
class Overlap:
    """An intermediate task and a target that share data, beside those that the catalogue knows."""

    intermediate: str
    target: str
    note: str


@dataclass(frozen=True)
class Expected:
    """A published score, shown beside ours; never part of a test."""

    task: str
    """A target, or `overall`: the mean over the benchmark's tasks."""
    metric: str
    value: float
    """In points (0 to 100), the mean over the task's languages."""
    source: str
    condition: str = "none"
    label: str = "published"
    """Scores of one label stand in one row."""


@dataclass(frozen=True)
class Analysis:
    alpha: float = 0.05
    margin_task: float = 1.0
    margin_aggregate: float = 0.5
    tier: Literal["T1", "T2", "T3"] = "T2"
    """New seeds on these examples, new seeds and examples, or new languages as well."""
    df: Literal["welch", "pooled"] = "welch"
    """``pooled`` assumes one run variance for all cells."""
    primary: str = ""
    """The condition whose effect is the primary hypothesis; empty: the mean over all conditions."""


@dataclass(frozen=True)
class SuiteFile:
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
    contamination: tuple[Overlap, ...] = ()
    overrides: dict[str, Override] = field(default_factory=dict)
    expected: tuple[Expected, ...] = ()


FEWEST_TOKENS = 8
"""A pair of texts has up to four special tokens."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def check_shape(raw: SuiteFile, path: Path) -> None:
    """What can be known to be wrong before anything is computed is refused here."""
    for what, value in (("seeds", raw.seeds), ("pairs", raw.pairs), ("targets", raw.targets)):
        if not value:
            raise SuiteError(f"{path}: `{what}` is empty", f"a suite needs at least one of its {what}")
        named = [pair.name for pair in raw.pairs] if what == "pairs" else value
        if len(set(named)) != len(named):
            raise SuiteError(f"{path}: `{what}` names something twice: {', '.join(map(str, named))}")
    if any(not 0 <= seed < 2**31 for seed in raw.seeds):
        raise SuiteError(f"{path}: seeds: {list(raw.seeds)}", "seeds are whole numbers from 0 to 2147483647")
    if raw.conditions.get("none"):
        raise SuiteError(
            f"{path}: conditions.none must be empty", "`none` is the absence of an intermediate task"
        )
    if not set(raw.conditions) - {"none"}:
        raise SuiteError(
            f"{path}: `conditions` holds no intermediate task", 'add one: [conditions] NAME = ["TASK"]'
        )
    for name, members in raw.conditions.items():
        if name != "none" and not members:
            raise SuiteError(f"{path}: conditions.{name} names no task", "only `none` may be empty")
    arms = {name for pair in raw.pairs for name in pair.arms}
    for what, names in (("name", [raw.name]), ("pairs", [pair.name for pair in raw.pairs])):
        _check_names(names, f"{path}: {what}")
    _check_names([*arms, *raw.conditions], f"{path}: arms and conditions")
    for role in ("intermediate", "target"):
        _check_stage(getattr(raw, role), f"{path}: {role}")
    for pair in raw.pairs:
        if not pair.arms:
            raise SuiteError(f"{path}: pairs.{pair.name} has no arms", "add a table [pairs.arms]")
        for name, arm in pair.arms.items():
            for role in ("intermediate", "target"):
                _check_override(getattr(arm, role), f"{path}: pairs.{pair.name}.arms.{name}.{role}")
        _check_policy(pair.policy, f"{path}: pairs.{pair.name}.policy")
        for contrast in pair.contrasts:
            for name in (contrast.plus, contrast.minus):
                if name not in pair.arms:
                    raise unknown("arm", name, pair.arms, f"{path}: pairs.{pair.name}.contrasts")
        for name in pair.ladder:
            if name not in pair.arms:
                raise unknown("arm", name, pair.arms, f"{path}: pairs.{pair.name}.ladder")
        if pair.ladder and not 3 <= len(set(pair.ladder)) == len(pair.ladder):
            raise SuiteError(
                f"{path}: pairs.{pair.name}.ladder = {list(pair.ladder)}",
                "three or more arms, each once, the least dose first",
            )
    used = {*raw.targets, *(t for members in raw.conditions.values() for t in members)}
    for name, table in raw.per_task.items():
        _check_override(table, f"{path}: per_task.{name}")
        if name not in used:
            raise unknown("task", name, used, f"{path}: per_task")
    for name, override in raw.overrides.items():
        if name not in used:
            raise unknown("task", name, used, f"{path}: overrides")
        if override.max_length < 0:
            raise SuiteError(f"{path}: overrides.{name}.max_length must not be negative")
    for line in raw.expected:
        for what, name, known in (
            ("target", line.task, [*raw.targets, "overall"]),
            ("condition", line.condition, ["none", *raw.conditions]),
        ):
            if name not in known:
                raise unknown(what, name, known, f"{path}: expected")
    entries = [(e.label, e.condition, e.task, e.metric) for e in raw.expected]
    for entry in entries:
        if entries.count(entry) > 1:
            raise SuiteError(
                f"{path}: expected gives `{entry[2]}` ({entry[3]}, {entry[1]}) twice under the label `{entry[0]}`",
                "give one of them another `label`: it becomes a row of its own",
            )
    members = {t for tasks in raw.conditions.values() for t in tasks}
    for overlap in raw.contamination:
        for what, name, known in (
            ("intermediate task", overlap.intermediate, members),
            ("target", overlap.target, raw.targets),
        ):
            if name not in known:
                raise unknown(what, name, known, f"{path}: contamination")
    for name, tasks in raw.conditions.items():
        if len(set(tasks)) != len(tasks):
            raise SuiteError(f"{path}: conditions.{name} names a task twice")
    keys = [f"{role}.{f.name}" for role in ("intermediate", "target") for f in fields(Stage)]
    for exemption in raw.exceptions:
        if exemption.arm not in arms:
            raise unknown("arm", exemption.arm, arms, f"{path}: exceptions")
        if exemption.key not in keys:
            raise unknown("stage key", exemption.key, keys, f"{path}: exceptions")
        if not exemption.reason.strip():
            raise SuiteError(
                f"{path}: exceptions: `{exemption.key}` of arm `{exemption.arm}` gives no reason"
            )
    if not 0 < raw.analysis.alpha < 1:
        raise SuiteError(f"{path}: analysis.alpha = {raw.analysis.alpha}", "a probability between 0 and 1")
    if raw.analysis.primary and raw.analysis.primary not in set(raw.conditions) - {"none"}:
        raise unknown(
            "condition", raw.analysis.primary, set(raw.conditions) - {"none"}, f"{path}: analysis.primary"
        )
    for key in ("margin_task", "margin_aggregate"):
        if getattr(raw.analysis, key) <= 0:
            raise SuiteError(
                f"{path}: analysis.{key} must be above 0", "the margin is in points, 1.0 for instance"
            )


def _check_names(names: Iterable[str], where: str) -> None:
    for name in names:
        if not NAME.fullmatch(name):
            raise SuiteError(
                f"{where}: `{name}` cannot be a name", "use letters, digits, `.`, `_`, `+` and `-`"
            )


def _check_policy(policy: Policy, where: str) -> None:
    if isinstance(policy.max_length, int) and policy.max_length < FEWEST_TOKENS:
        raise SuiteError(
            f"{where}.max_length = {policy.max_length}: at least {FEWEST_TOKENS} tokens are needed for a pair of texts",
            "special tokens count",
        )
    if isinstance(policy.dropout, float) and not 0 <= policy.dropout < 1:
        raise SuiteError(f"{where}.dropout = {policy.dropout:g}", "a probability from 0 to below 1")


def _check_override(table: dict[str, Any], where: str) -> None:
    """A partial stage: its keys and values must be those of a stage."""
    _check_stage(overridden(Stage(1, 1.0, 1.0, steps=1), build_partial(table, where)), where)


def build_partial(table: dict[str, Any], where: str) -> dict[str, Any]:
    """The keys of a partial stage with their values in the types of `Stage`."""
    whole = build(Stage, {"batch_size": 1, "encoder_lr": 1.0, "head_lr": 1.0, **table}, where)
    return {key: getattr(whole, key) for key in table}


def overridden(stage: Stage, table: dict[str, Any]) -> Stage:
    """The stage with the keys of ``table``; a new length in one unit ends that in the other."""
    if "epochs" in table or "steps" in table:
        stage = replace(stage, steps=0, epochs=0.0)
    return replace(stage, **table)


def _check_stage(stage: Stage, where: str) -> None:
    if (stage.steps > 0) == (stage.epochs > 0):
        raise SuiteError(
            f"{where}: needs `steps` (at least 1) or `epochs` (above 0), one of the two "
            f"(found steps = {stage.steps}, epochs = {stage.epochs})"
        )
    for key in ("batch_size", "evaluations", "micro_batch_tokens"):
        if getattr(stage, key) < 1:
            raise SuiteError(f"{where}.{key} must be at least 1, found {getattr(stage, key)}")
    for key in (
        "steps",
        "epochs",
        "evaluate_every",
        "dev_limit",
        "encoder_lr",
        "head_lr",
        "weight_decay",
        "clip",
        "limit",
        "cap",
        "warmup",
    ):
        if getattr(stage, key) < 0:
            raise SuiteError(f"{where}.{key} must not be negative, found {getattr(stage, key)}")
    if stage.warmup > 1:
        raise SuiteError(f"{where}.warmup = {stage.warmup}", "a share of the steps, from 0 to 1")
    if stage.temperature <= 0:
        raise SuiteError(f"{where}.temperature must be above 0, found {stage.temperature}")
