"""Is every trained task of a finished suite learnable? Run: python tests/speed/learnability.py runs/mini

Prints, over all arms, conditions and seeds: English dev after the suite's own training against the best rule that reads
no meaning, and in how many languages the mean zero-shot score of the condition `none` beats that language's best rule.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq


def main(folder: Path) -> None:
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    print(
        "| intermediate condition | dev, worst run | mean | best rule | worst margin, points |\n|---|---|---|---|---|"
    )
    rules = {task["task"]: max(task["dev_baselines"].values()) for task in suite["intermediate_tasks"]}
    members = {c["name"]: c["tasks"] for c in suite["conditions"]}
    for condition in members:
        dev = [run["dev"] for run in suite["intermediate_runs"] if run["condition"] == condition]
        if dev:
            _line(condition, dev, mean(rules[task] for task in members[condition]))
    print(
        "\n| target | dev, worst run | mean | best rule | worst margin, points | zero-shot above the best rule |"
    )
    print("|---|---|---|---|---|---|")
    for target in suite["targets"]:
        if target["retention"]:
            continue
        dev = [r["dev"] for r in suite["runs"] if r["task"] == target["task"] and r["dev"] is not None]
        scores = _scores(folder, target)
        others = [language for language in scores if language != target["source_language"]]
        above = sum(scores[x] > max(target["baselines"][x].values()) for x in others)
        zero_shot = f"{above} of {len(others)} languages, mean {mean(scores[x] for x in others):.3f}"
        if dev:
            _line(target["task"], dev, max(target["dev_baselines"].values()), zero_shot)
        else:
            print(f"| {target['task']} | nothing is trained | | | | {zero_shot} |")


def _line(name: str, dev: list[float], rule: float, *more: str) -> None:
    numbers = f"{min(dev):.3f} | {mean(dev):.3f} | {rule:.3f} | {100 * (min(dev) - rule):.1f}"
    print("| " + " | ".join([name, numbers, *more]) + " |")


def _scores(folder: Path, target: dict[str, Any]) -> dict[str, float]:
    """Language -> score under `none`, over all arms and seeds, in the primary view."""
    table = pq.read_table(folder / "outcomes" / f"{target['task']}.parquet")
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    columns = ("condition", "view", "language", f"{target['metric']}.num", f"{target['metric']}.den")
    for condition, view, language, num, den in zip(*(table[c].to_pylist() for c in columns), strict=True):
        if condition == "none" and view == target["view"]:
            sums[language][0] += num
            sums[language][1] += den
    return {language: num / den for language, (num, den) in sums.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
