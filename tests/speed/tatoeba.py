"""Translation retrieval of untrained encoders on Tatoeba, the tables of docs/measurements/retrieval.md.

    python tests/speed/tatoeba.py ../shared/data muse huggingface:/tmp/e5:query:

An encoder is a backbone's name, or ``adapter:checkpoint`` with, after another colon, its text prefix. Scored is the task
``kit-tatoeba`` of the suite `kit` through the same code as in a run: accuracy in points of finding the English sentence
(the way XTREME scores it), the encoder's own sentence vectors, float32, one thread.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from xtremex.benchmark.suite import load_suite
from xtremex.models.catalogue import backbones, get, load, parse_backbone
from xtremex.tasks.base import Model, Task
from xtremex.tasks.kinds import kind
from xtremex.tasks.languages import language_names
from xtremex.tasks.places import Places

TASK = "kit-tatoeba"
MUSE = ("ar", "de", "es", "ja", "ko", "ru", "th", "tr", "zh")
"""Languages of the task that multilingual USE was trained on, beside English (encoders.md section 5.3)."""


def main(data: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    suite = load_suite("kit", Places(data))
    task = next(task for task in suite.targets if task.name == TASK)
    task = replace(task, options={**task.options, "report": ["native"]})
    columns = {name: _scores(task, _encoder(name)) for name in names}
    scorer: Any = kind(task.kind)
    rule = {code: scorer.baselines(task, "test", code)["character trigrams"] for code in task.languages}
    named = language_names(task.languages)
    print("| language | pairs | character trigrams | " + " | ".join(columns) + " |")
    print("|---|---|---|" + "---|" * len(columns))
    for code in task.languages:
        cells = [named[code], str(len(task.source.load(task, "test", code))), f"{100 * rule[code]:.1f}"]
        print(f"| {' | '.join(cells + [f'{100 * column[code]:.1f}' for column in columns.values()])} |")
    for what, codes in (
        (f"mean of mUSE's {len(MUSE)}", MUSE),
        (f"mean of the {len(task.languages) - len(MUSE)} others", tuple(set(task.languages) - set(MUSE))),
    ):
        means = [rule, *columns.values()]
        print(f"| {what} | | {' | '.join(f'{100 * mean(m[code] for code in codes):.1f}' for m in means)} |")


def _encoder(name: str) -> Any:
    if name in backbones():
        return load(get(name))
    adapter, checkpoint, *prefix = name.split(":", 2)
    options = {"text_prefix": f"{prefix[0]} "} if prefix else {}
    return load(
        parse_backbone("own", {"adapter": adapter, "checkpoint": checkpoint, "options": options}, name)
    )


def _scores(task: Task, encoder: Any) -> dict[str, float]:
    scorer: Any = kind(task.kind)
    started = time.perf_counter()
    found = {}
    for code in task.languages:
        with torch.inference_mode():
            outcomes = scorer.evaluate(Model(encoder, None, None), task, "test", code, batch_tokens=4096)
        found[code] = outcomes[0].score("accuracy")
    print(f"{type(encoder).__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
