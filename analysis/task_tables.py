"""Tables of what the arms were trained and tested on: conditions, targets, the data of both; from `suite.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import wording as w
from .outline import NONE, Outline
from .tables import ABSENT, Block, Row, Table, Text, figure, row, text

__all__ = ["conditions", "conditions_paper", "data", "stage_of", "targets", "trained_targets"]

_PINNED = 12
"""Characters of a commit or digest that are printed; the whole one is in `report.json`."""


def stage_of(suite: Mapping[str, Any], role: str, tasks: Sequence[str]) -> dict[str, Any]:
    """Hyper-parameters of one training as the suite sets them: its stage, changed for a task that stands alone.

    ``role`` is ``intermediate`` or ``target``. Exceptions of single arms are listed apart. Empty where the record has
    no stages.
    """
    stages = suite.get("stages", {})
    stage = dict(stages.get(role) or {})
    own = stages.get("per_task", {}).get(tasks[0], {}) if len(tasks) == 1 else {}
    if stage and {"steps", "epochs"} & set(own):
        # a length in one unit ends that in the other
        stage |= {"steps": 0, "epochs": 0.0}
    return stage | own if stage else {}


def trained_targets(suite: Mapping[str, Any]) -> set[str] | None:
    """Targets that a head is trained for; None where the record does not say."""
    stages = {str(line["stage"]) for line in suite.get("schedules", ())}
    if not stages:
        return None
    return {t["task"] for t in suite.get("targets", ()) if f"target:{t['task']}" in stages}


def _length(stage: Mapping[str, Any]) -> str:
    if stage.get("epochs"):
        epochs = float(stage["epochs"])
        return f"{epochs:g} epoch" + ("" if epochs == 1 else "s")
    return str(stage["steps"]) if stage.get("steps") else ABSENT


def _settings(stage: Mapping[str, Any]) -> tuple[str, str, str]:
    """Steps, batch, rates of encoder and head."""
    rates = [f"{stage[key]:g}" if key in stage else ABSENT for key in ("encoder_lr", "head_lr")]
    return _length(stage), str(stage.get("batch_size", ABSENT)), ", ".join(rates)


_TRAIN = "Train"
_TRAIN_NOTE = "Train: training examples. "
_SETTINGS = ("Steps", "Batch", "Rates")
_SETTINGS_NOTE = "Rates: highest learning rates of encoder and head (AdamW)."


def _size(stage: Mapping[str, Any], counts: Sequence[int | None]) -> str:
    """Training examples in use; ``500 of 9000`` where the stage limits them per task."""
    known = [n for n in counts if n is not None]
    if not known or len(known) < len(counts):
        return ABSENT
    limit = stage.get("limit") or 0
    used, whole = sum(min(n, limit) if limit else n for n in known), sum(known)
    return str(whole) if used == whole else f"{used} of {whole}"


def _rows(outline: Outline) -> list[Row]:
    suite = outline.suite
    about = {t["task"]: t for t in suite.get("intermediate_tasks", ())}
    found = []
    listed = [c for c in suite.get("conditions", ()) if c["name"] in outline.conditions and c["tasks"]]
    alone = {c["tasks"][0] for c in listed if len(c["tasks"]) == 1}
    for condition in listed:
        tasks = condition["tasks"]
        stage = stage_of(suite, "intermediate", tasks)
        size = _size(stage, [about.get(task, {}).get("train_examples") for task in tasks])
        if len(tasks) == 1:
            one = about.get(tasks[0], {})
            kind, told = str(one.get("kind", ABSENT)), str(one.get("description") or ABSENT)
        else:
            kind, told = "mixture", _drawn(stage)
        found.append(row(condition["name"], told, ", ".join(tasks), kind, size, *_settings(stage)))
        found += [
            # a task that stands in a mixture only has no settings of its own
            row(
                f"in {condition['name']}", str(about[task].get("description") or ABSENT), task,
                str(about[task].get("kind", ABSENT)), _size(stage, [about[task].get("train_examples")]),
                *[""] * len(_SETTINGS),
            )
            for task in tasks
            if len(tasks) > 1 and task not in alone and task in about
        ]  # fmt: skip
    return found


def _drawn(stage: Mapping[str, Any]) -> str:
    """How a mixture takes the task of each step."""
    how = "in proportion to its size"
    if stage.get("sampling") == "temperature":
        how += f" to the power 1/{stage.get('temperature', 1):g}"
    if stage.get("cap"):
        how += f", counted up to {stage['cap']}"
    return f"the task of each step is drawn {how}"


def _known(table: Table) -> Table:
    """Without the number of training examples where no task of the record has one (records before the fifth)."""
    place = [column.title for column in table.columns].index(_TRAIN)
    if any(r.cells[place].text not in ("", ABSENT, "–") for b in table.blocks for r in b.rows):
        return table

    def without(cells: tuple[Any, ...]) -> tuple[Any, ...]:
        return cells[:place] + cells[place + 1 :]

    blocks = tuple(Block(b.title, tuple(Row(without(r.cells)) for r in b.rows)) for b in table.blocks)
    note = table.note.replace(_TRAIN_NOTE, "")
    return replace(table, columns=without(table.columns), blocks=blocks, note=note)


def conditions(outline: Outline) -> Table:
    """What each intermediate condition is: its tasks, and how an arm is trained on them."""
    return _known(_conditions(outline))


def _conditions(outline: Outline) -> Table:
    rows = _rows(outline)
    return Table(
        "conditions",
        "Intermediate conditions: what the arms are trained on before the targets",
        (*text("Condition", "What is asked", "Task", "Kind"), *figure(_TRAIN, *_SETTINGS)),
        (Block("", tuple(rows)),),
        _TRAIN_NOTE + _SETTINGS_NOTE,
    )


def conditions_paper(outline: Outline) -> Table:
    """The same without the descriptions, which are sentences; the tasks of a mixture are counted."""
    whole = _conditions(outline)

    def narrow(r: Row) -> Row:
        name, _, task, kind, *numbers = r.cells
        tasks = task.text.split(", ")
        return Row((name, Text(w.count(len(tasks), "task")) if len(tasks) > 1 else task, kind, *numbers))

    return _known(
        Table(
            whole.name,
            whole.caption,
            (*text("Condition", "Task", "Kind"), *figure(_TRAIN, *_SETTINGS)),
            tuple(Block(b.title, tuple(map(narrow, b.rows))) for b in whole.blocks),
            whole.note,
        )
    )


def targets(outline: Outline) -> Table:
    """What each target asks, in how many languages and examples, and how its head is trained."""
    suite = outline.suite
    trained = trained_targets(suite)
    rows = []
    for t in suite.get("targets", ()):
        stage = stage_of(suite, "target", [t["task"]])
        learns = trained is None or t["task"] in trained
        rows.append(
            row(
                outline.task(t["task"]) + (" (retention)" if t.get("retention") else ""),
                str(t.get("description") or ABSENT),
                str(t.get("kind", "")),
                str(t.get("metric", "")),
                str(len(t.get("languages", ()))),
                w.span(t.get("examples", {}).values()),
                *(
                    (_size(stage, [t.get("train_examples")]), *_settings(stage))
                    if learns
                    else ["–"] * (1 + len(_SETTINGS))
                ),
            )
        )
    return _known(
        Table(
            "targets",
            "Target tasks: what the arms are tested on",
            (
                *text("Target", "What is asked", "Kind", "Metric"),
                *figure("Languages", "Test", _TRAIN, *_SETTINGS),
            ),
            (Block("", tuple(rows)),),
            (f"The tasks' names begin with {outline.prefix}. " if outline.prefix else "")
            + f"Test: test examples per language. {_TRAIN_NOTE}{_SETTINGS_NOTE}"
            + (" –: nothing is trained." if any(r.cells[-1].text == "–" for r in rows) else ""),
        )
    )


def data(outline: Outline) -> Table:
    """Version, revision, rules without a model and licence of every task."""
    rows: dict[str, Row] = {}
    suite = outline.suite
    roles = {
        "intermediate": {
            task for c in suite.get("conditions", ()) if c["name"] != NONE for task in c["tasks"]
        },
        "target": {t["task"] for t in suite.get("targets", ())},
    }
    for t in (*suite.get("intermediate_tasks", ()), *suite.get("targets", ())):
        rules = [*t.get("baselines", {}).values(), t.get("dev_baselines") or {}]
        named = dict.fromkeys(name for scores in rules for name in scores)
        # a task of both roles has one line
        rows[t["task"]] = row(
            str(t["task"]),
            " and ".join(role for role, tasks in roles.items() if t["task"] in tasks),
            str(t.get("version", "")),
            str(t.get("revision") or ABSENT)[:_PINNED],
            ", ".join(named) or "–",
            str(t.get("licence", "")),
        )
    return Table(
        "data",
        "Data of the tasks",
        text("Task", "Role", "Version", "Revision", "Rules without a model", "Licence"),
        (Block("", tuple(rows.values())),),
        "Revision: the commit of its repository, or the start of the digest of its data.",
        fold=True,
    )
