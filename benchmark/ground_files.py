"""What `xtremex ground` says: the steps of an arm, the table of scores, and tables to paste into a suite."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from ..models.catalogue import Backbone, Facts
from .screen import console, folded, print_table

if TYPE_CHECKING:
    from ..adapters.base import EncoderInfo

__all__ = ["Made", "StepProgress", "print_scores", "toml"]


class StepProgress:
    """Optimizer steps with their loss: a bar on a terminal, a line every 15 seconds elsewhere. A context manager."""

    def __init__(self, label: str, steps: int, target: Console) -> None:
        self._label, self._target = label, target
        self._spoke = time.monotonic()
        self._bar: RichProgress | None = None
        if target.is_terminal:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=target,
                transient=True,
            )
            self._task = self._bar.add_task(label, total=steps, loss="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, done: int, steps: int, loss: float) -> None:
        """One more step is done; ``loss`` in nats per contrast."""
        if self._bar:
            self._bar.update(self._task, completed=done, loss=f"loss {loss:.2f}")
        elif time.monotonic() - self._spoke >= 15 or done == steps:
            self._spoke = time.monotonic()
            self._target.print(f"{self._label}: {done}/{steps} steps, loss {loss:.2f}", highlight=False)


def print_scores(record: Mapping[str, Any]) -> None:
    """Held-out top-1 in percent, mean over the languages that were drawn from, before -> after."""
    out = console()
    languages = record["settings"]["captions"]["languages"]
    table = folded("arm", "loss", "image top-1", "chance", "translation top-1")
    for arm, scores in record["arms"].items():
        shares = [
            f"{_mean(record['before'][what], languages)} -> {_mean(scores[what], languages)}"
            for what in ("image", "translation")
        ]
        losses = scores["losses"]
        loss = f"{losses[0]:.2f} -> {sum(losses[-10:]) / len(losses[-10:]):.2f}"
        table.add_row(arm, loss, shares[0], f"{100 / record['pictures']:.1f}", shares[1])
    print_table(table, out)
    out.print(
        f"percent of captions, {record['pictures']} held-out pictures, mean over {len(languages)} languages; "
        f"translations into {record['source']}",
        highlight=False,
    )


def _mean(scores: Mapping[str, float], languages: list[str]) -> str:
    own = [scores[language] for language in languages if language in scores]
    return f"{100 * sum(own) / len(own):.1f}" if own else "-"


@dataclass(frozen=True)
class Made:
    """An arm that was written."""

    info: EncoderInfo
    network: str | None
    """Path of the text network among the encoder's modules, where ``open_clip/`` holds it too."""
    parameters: int
    alike: bool
    """Whether the open_clip adapter encodes pairs of texts as the arm's own does, so that they can stand in one pair."""


def toml(backbone: Backbone, arms: Mapping[str, Made], pictures: int) -> str:
    """Backbones and a pair for a suite's file; ``pictures`` were shown in training.

    Checkpoints are named from the folder of the arms, as a suite that lies there reads them: the folder can be moved.
    """
    dose = {
        "text": "none",
        "vision": f"{pictures:,} pictures",
        "scrambled": f"{pictures:,} unrelated pictures",
    }
    lines = [
        f"# Arms of `{backbone.name}`, made by `xtremex ground`; paste into a suite. Checkpoints are named from where the",
        "# suite file lies: keep it in this folder, or put the way from it to this folder in place of their dot.",
        "",
    ]
    used = {}
    for arm, made in arms.items():
        used[arm] = name = f"{backbone.name}-{arm}"
        common = {
            "licence": backbone.licence,
            "ancestor": backbone.ancestor or backbone.name,
            "objective": made.info.objective,
            "dose": dose[arm],
            "parameters": made.parameters,
            "embedding_parameters": backbone.embedding_parameters or None,
            "layers": made.info.layers,
            "hidden_size": made.info.hidden_size,
            "facts": {field.name: getattr(made.info, field.name, None) for field in fields(Facts)},
        }
        plain = {"adapter": backbone.adapter, "checkpoint": f"./{arm}"}
        lines += _table(name, plain | common | {"frozen": backbone.frozen, "options": backbone.options})
        if made.network is None:
            continue
        seeing = {"adapter": "open_clip", "checkpoint": f"./{arm}/open_clip", "images": True}
        frozen = [f"tower.transformer.{p.removeprefix(f'{made.network}.')}" for p in backbone.frozen]
        lines += _table(f"{name}-images", seeing | common | {"frozen": frozen})
        if made.alike:
            used[arm] = f"{name}-images"
    lines += ["[[pairs]]", f'name = "{backbone.name}"']
    lines += ['note = "One grounded checkpoint per arm: every result is conditional on it."', "[pairs.arms]"]
    lines += [f'{arm} = {{ backbone = "{name}" }}' for arm, name in used.items()]
    return "\n".join(lines) + "\n"


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    stated = ((key, value) for key, value in values.items() if value not in (None, (), [], {}))
    return [f"[backbones.{_key(name)}]", *(f"{key} = {_value(value)}" for key, value in stated), ""]


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() else json.dumps(name)


def _value(value: Any) -> str:
    """A TOML value; TOML's texts, numbers and truth values are JSON's."""
    if isinstance(value, Mapping):
        stated = (f"{key} = {_value(one)}" for key, one in value.items() if one is not None)
        return f"{{ {', '.join(stated)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value, ensure_ascii=False)
