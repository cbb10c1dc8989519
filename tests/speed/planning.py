"""Seconds to plan a suite of 100,000 jobs (bar: 5 s on two idle cores). Run: python tests/speed/planning.py"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from small_suite import write_small

from xtremex.benchmark.plan import Numerics, make_plan
from xtremex.benchmark.suite import load_suite


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        suite = load_suite(str(write_small(Path(folder))))
    suite = replace(suite, seeds=tuple(range(100_000 // 12)))
    make_plan(replace(suite, seeds=(0,)), Numerics())  # imports and fingerprints
    times = []
    for _ in range(5):
        started = time.perf_counter()
        plan = make_plan(suite, Numerics())
        times.append(time.perf_counter() - started)
    print(
        f"{len(plan.jobs)} jobs, {len(plan.cells)} runs: median {statistics.median(times):.2f} s of {len(times)}"
    )


if __name__ == "__main__":
    main()
