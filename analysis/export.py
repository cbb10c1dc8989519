"""Outcomes in the formats of others: XTREME submissions, mteb results, R, one long CSV. From the outcome folder alone."""

from __future__ import annotations

import csv
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import AnalysisError, DataError, unknown
from .lmer import write_lmer
from .mteb_results import write_mteb
from .outcomes import read_suite
from .runs import OutcomeFile
from .submission import write_submission

__all__ = ["FORMATS", "export"]

_SCORES = ("pair", "arm", "condition", "seed", "task", "language", "view", "metric", "num", "den", "score")


def _write_scores(folder: Path, suite: Mapping[str, Any], out: Path) -> None:
    """``scores.csv``: one line per run, language, view and metric; ``score`` is ``num / den``, empty where den is 0."""
    written = 0
    with (out / "scores.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_SCORES)
        for target in suite["targets"]:
            path = folder / "outcomes" / f"{target['task']}.parquet"
            if path.is_file():
                for line in _score_lines(OutcomeFile(path), target["task"]):
                    writer.writerow(line)
                    written += 1
    if not written:
        raise DataError(f"{folder / 'outcomes'} holds no outcomes", "`xtremex run` first")


def _score_lines(file: OutcomeFile, task: str):
    metrics = [name.removesuffix(".num") for name in file.columns if name.endswith(".num")]
    identity = ("pair", "arm", "condition", "seed")
    columns = [*identity, "language", "view", *(f"{m}.{part}" for m in metrics for part in ("num", "den"))]
    for group in file.groups():
        table = file.read([group], columns)
        run = [table[name][0].as_py() for name in identity]
        language, view = (np.asarray(table[name].to_pylist(), dtype=object) for name in ("language", "view"))
        for code, name in dict.fromkeys(zip(language.tolist(), view.tolist(), strict=True)):
            at = (language == code) & (view == name)
            for metric in metrics:
                num, den = (float(table[f"{metric}.{part}"].to_numpy()[at].sum()) for part in ("num", "den"))
                if not (math.isfinite(num) and math.isfinite(den)):
                    raise DataError(
                        f"{file.path}: {' / '.join(map(str, run))}, {code}: {metric} is not finite",
                        "restore the file; `xtremex run` writes it again from the store",
                    )
                yield [*run, task, code, name, metric, num, den, num / den if den else ""]


Write = Callable[[Path, Mapping[str, Any], Path], None]

FORMATS: dict[str, Write] = {
    "csv": _write_scores,
    "lmer": write_lmer,
    "mteb": write_mteb,
    "xtreme": write_submission,
}
"""Format -> what writes it: (outcome folder, suite.json, folder to fill)."""


def export(folder: Path, format: str, out: Path) -> list[Path]:
    """Write the outcomes of ``folder`` to ``out`` in one of :data:`FORMATS`; return the files, sorted.

    Files are made beside and moved when all of them exist: a failure leaves ``out`` as it was. ``out`` may hold
    other files; of its own, an export replaces those of the same name.

    Raises
    ------
    UnknownName
        For a format that is not there; the hint names the nearest.
    AnalysisError, DataError
        Where the folder lacks what the format needs: which target, run or language is named.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    folder, out = Path(folder), Path(out)
    suite = read_suite(folder)
    if out.exists() and not out.is_dir():
        raise AnalysisError(f"{out} is a file", "name a folder to export into")
    parent = next(p for p in (out, *out.absolute().parents) if p.is_dir())
    beside = Path(tempfile.mkdtemp(prefix=".export-", dir=parent))
    try:
        FORMATS[format](folder, suite, beside)
        made = sorted(path.relative_to(beside) for path in beside.rglob("*") if path.is_file())
        for path in made:
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(beside / path, out / path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return [out / path for path in made]
