"""Seconds and memory of a full-size analysis, from Parquet to every number and table of the report (without figures).

``full_size.py [--folder DIR] [--examples N] [--repeats R]`` writes an outcome folder in the format of
`docs/outcomes.md` unless DIR holds one: 2 pairs x 2 arms x 11 conditions (`none` among them) x XTREME's nine tasks in
its languages x 5 seeds x 2,000 examples, 71 million rows of simulated outcomes. Then analyses it in a fresh process per
repeat, and prints medians of the parts and the peak of resident memory. Exits with 1 outside the bars: 5 s and 4 GB on
two cores that have nothing else to do; the seconds of the processor say more where they have.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xtremex.analysis.xtreme import XTREME

SECONDS, GIGABYTES = 5.0, 4.0
PAIRS, ARMS, SEEDS = ("first", "second"), ("text", "vision"), range(5)
CONDITIONS = ("none", *(f"task-{i}" for i in range(10)))
CLUSTERED = ("xquad", "mlqa", "tydiqa")
PARALLEL = ("xnli", "pawsx", "xquad")
METRICS = {
    "udpos": ("seqeval-f1", "accuracy"),
    "panx": ("seqeval-f1",),
    "xquad": ("f1", "em", "em-f1"),
    "mlqa": ("f1", "em", "em-f1"),
    "tydiqa": ("f1", "em", "em-f1"),
    "bucc2018": ("f1", "precision", "recall"),
}


def metrics_of(task: str) -> tuple[str, ...]:
    return METRICS.get(task, ("accuracy",))


def counts(
    rng: np.random.Generator, task: str, hit: np.ndarray, fixed: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """metric -> (num, den) from the successes of one run; ``fixed`` is the number of gold items per example."""
    ones = np.ones(len(hit))
    if task in CLUSTERED:
        f1 = np.where(hit, 1.0, np.round(rng.random(len(hit)) * 0.9, 2) * (rng.random(len(hit)) < 0.5))
        return {"f1": (f1, ones), "em": (hit * 1.0, ones), "em-f1": ((f1 + hit) / 2, ones)}
    if task == "bucc2018":
        wrong = rng.random(len(hit)) < 0.1
        f1 = (2.0 * hit, 1.0 + hit + wrong)
        return {"f1": f1, "precision": (hit * 1.0, hit * 1.0 + wrong), "recall": (hit * 1.0, ones)}
    if task in ("udpos", "panx"):
        found = np.where(hit, fixed, np.floor(fixed * rng.random(len(hit))))
        wrong = rng.random(len(hit)) < 0.3
        spans = (2.0 * found, found + wrong + fixed)
        return {"seqeval-f1": spans, "accuracy": (found, fixed)} if task == "udpos" else {"seqeval-f1": spans}
    return {"accuracy": (hit * 1.0, ones)}


def write_task(folder: Path, task: str, n: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One file, a row group per run, as `benchmark/collect.py` writes it; returns the entries of ``runs``."""
    languages = XTREME[task].languages
    rows = len(languages) * n
    base = np.tile(np.arange(n, dtype=np.int32), len(languages))
    example = base if task in PARALLEL else np.arange(rows, dtype=np.int32)
    keys = {
        "language": pa.DictionaryArray.from_arrays(
            np.repeat(np.arange(len(languages), dtype=np.int32), n), pa.array(languages)
        ),
        "view": pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([""])),
        "example": pa.array(example),
        "cluster": pa.array(example // 5 if task in CLUSTERED else example),
    }
    fixed = rng.integers(1, 6, rows).astype(np.float64)
    difficulty = rng.random(rows, np.float32)
    writer, runs = None, []
    for pair in PAIRS:
        for arm in ARMS:
            for condition in CONDITIONS:
                cell = rng.normal(0.70, 0.01, len(languages))
                for seed in SEEDS:
                    level = cell + rng.normal(0, 0.005) + rng.normal(0, 0.006, len(languages))
                    noise = (difficulty + rng.random(rows, np.float32)) / 2
                    hit = noise < np.repeat(level, n)
                    run: dict[str, Any] = {
                        key: pa.DictionaryArray.from_arrays(
                            pa.array(np.zeros(rows, np.int32)), pa.array([value])
                        )
                        for key, value in (("pair", pair), ("arm", arm), ("condition", condition))
                    }
                    run["seed"] = pa.array(np.full(rows, seed, np.int32))
                    run["attempt"] = pa.array(np.zeros(rows, np.int8))
                    values: dict[str, Any] = {}
                    for metric, (num, den) in counts(rng, task, hit, fixed).items():
                        values[f"{metric}.num"] = np.asarray(num, dtype=np.float64)
                        values[f"{metric}.den"] = np.asarray(den, dtype=np.float64)
                    table = pa.table(run | keys | values)
                    writer = writer or pq.ParquetWriter(
                        folder / f"{task}.parquet", table.schema, compression="zstd"
                    )
                    writer.write_table(table, row_group_size=rows)
                    runs.append(
                        {
                            "pair": pair,
                            "arm": arm,
                            "condition": condition,
                            "task": task,
                            "seed": seed,
                            "attempt": 0,
                            "collapsed": False,
                            "dev": 0.7,
                            "seconds": 60.0,
                            "job": f"{task}-{len(runs)}",
                        }
                    )
    if writer is not None:
        writer.close()
    return runs


def write_folder(folder: Path, n: int) -> None:
    (folder / "outcomes").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    runs, targets = [], []
    for task, about in XTREME.items():
        runs += write_task(folder / "outcomes", task, n, rng)
        targets.append(
            {
                "task": task,
                "kind": "simulated",
                "metric": metrics_of(task)[0],
                "metrics": list(metrics_of(task)),
                "languages": list(about.languages),
                "source_language": "en",
                "parallel": task in PARALLEL,
                "clustered": task in CLUSTERED,
                "view": "",
                "views": [""],
                "retention": False,
                "benchmark": "xtreme",
                "baselines": {code: {"largest class": 0.33} for code in about.languages},
            }
        )
    contrasts = [{"name": "vision-text", "plus": "vision", "minus": "text", "role": "primary"}]
    suite = {
        "format": 1,
        "version": "0",
        "suite": {"name": "full-size", "title": "simulated", "notice": "", "digest": "0" * 64},
        "pairs": [{"name": p, "arms": {a: a for a in ARMS}, "contrasts": contrasts} for p in PAIRS],
        "conditions": [{"name": c, "tasks": [] if c == "none" else [c]} for c in CONDITIONS],
        "targets": targets,
        "seeds": list(SEEDS),
        "analysis": {"margin_task": 1.0, "margin_aggregate": 0.5, "alpha": 0.05},
        "schedules": [],
        "exceptions": [],
        "runs": runs,
        "signature": "xtremex|simulated",
    }
    (folder / "suite.json").write_text(json.dumps(suite), encoding="utf-8")


TIMED = """
import json, resource, sys, time
from pathlib import Path
began = time.perf_counter()
from xtremex.analysis.effects import effects
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.outline import Outline
from xtremex.analysis.page import build
from xtremex.analysis.report import _latex, json_text
imported = time.perf_counter()
record = read_record(Path(sys.argv[1]))
read = time.perf_counter()
results = effects(record)
found = time.perf_counter()
outline = Outline.of(results)
page, _ = build(outline)
assert len(page.sections) > 5 and len(_latex(outline)) > 5 and len(json_text(results)) > 1e5
done = time.perf_counter()
used = resource.getrusage(resource.RUSAGE_SELF)
times = [imported - began, read - imported, found - read, done - found, done - imported]
print(json.dumps([*times, used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime]))
"""
PARTS = (
    "imports",
    "read",
    "effects",
    "tables, LaTeX and JSON",
    "from Parquet to all tables",
    "peak, GB",
    "processor seconds in all",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="keep the data here; used as it is where it exists")
    parser.add_argument("--examples", type=int, default=2000, help="per language and run")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        if not (folder / "suite.json").exists():
            began = time.perf_counter()
            write_folder(folder, options.examples)
            size = sum(path.stat().st_size for path in (folder / "outcomes").iterdir()) / 1e6
            print(f"written in {time.perf_counter() - began:.0f} s: {size:.0f} MB")
        files = [pq.ParquetFile(path).metadata for path in (folder / "outcomes").iterdir()]
        print(
            f"{sum(f.num_rows for f in files) / 1e6:.1f} M rows, {sum(f.num_row_groups for f in files)} runs"
        )
        rows = []
        for _ in range(options.repeats):
            command = [sys.executable, "-c", TIMED, str(folder)]
            rows.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    for name, value, column in zip(PARTS, medians, zip(*rows, strict=True), strict=True):
        print(f"{name:<28}{value:>8.2f}   ({', '.join(f'{v:.2f}' for v in column)})")
    return 0 if medians[4] <= SECONDS and medians[5] <= GIGABYTES else 1


if __name__ == "__main__":
    sys.exit(main())
