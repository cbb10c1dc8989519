"""The whole chain, from Parquet to estimates, against loops over rows: sections 2.2 and 2.5 of the statistics reference.

Nothing is shared with the package but the files: unequal seeds, F1, paragraphs, parallel and nested test sets, and cells in
which nothing was trained, all in one design.
"""

import json
from collections import defaultdict

import numpy as np
import pyarrow.parquet as pq
import pytest
from demo_outcomes import TARGETS, write_demo
from scipy import stats

from xtremex.analysis.effects import analyse

CONDITIONS = ("nli", "tags")
LOST = {("text", "none", 3), ("text", "none", 4), ("text", "nli", 0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_demo(
        tmp_path_factory.mktemp("demo"),
        conditions=("none", *CONDITIONS),
        targets=(TARGETS[0], TARGETS[2], TARGETS[3], TARGETS[4]),
        languages=("en", "de", "fa", "fr"),
        examples=40,
        restart=False,
        seeds=5,
        effect=-0.03,
    )
    for path in (folder / "outcomes").glob("*.parquet"):
        file = pq.ParquetFile(path)
        tables = [file.read_row_group(i) for i in range(file.num_row_groups)]
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in tables:
                if tuple(table[name][0].as_py() for name in ("arm", "condition", "seed")) not in LOST:
                    writer.write_table(table)
    return folder


def read(folder):
    """Target -> (arm, condition) -> seed -> language -> [(example, cluster, num, den)]; and the targets' entries."""
    about = {t["task"]: t for t in json.loads((folder / "suite.json").read_text())["targets"]}
    found = {}
    for task, target in about.items():
        cells = found[task] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
        for r in pq.read_table(folder / "outcomes" / f"{task}.parquet").to_pylist():
            if r["view"] == target["view"]:
                row = (r["example"], r["cluster"], r[f"{target['metric']}.num"], r[f"{target['metric']}.den"])
                cells[r["arm"], r["condition"]][r["seed"]][r["language"]].append(row)
    return found, about


def by_hand(found, about, chosen):
    """Value, se, df and p of the mean of vision - text gains over (condition, task), in points."""
    weights = defaultdict(lambda: defaultdict(float))
    for condition, task in chosen:
        for arm, sign in (("vision", 1), ("text", -1)):
            weights[task][arm, condition] += sign / len(chosen)
            weights[task][arm, "none"] -= sign / len(chosen)
    value, per_seed, parts = 0.0, {}, []
    for task, cells in weights.items():
        languages = about[task]["languages"]
        d = dict.fromkeys(languages, 0.0)
        clusters, own = {}, 0.0

        def summed(values, task=task, languages=languages, clusters=clusters):
            units = defaultdict(float)  # a paragraph of a parallel test set is one unit in all languages
            for code in languages:
                share = (values[code] - values[code].mean()) / len(values[code]) / len(languages)
                for cluster, x in zip(clusters[code], share, strict=True):
                    units["" if about[task]["parallel"] else code, cluster] += x
            return units

        for key, c in cells.items():
            runs = found[task][key]
            phi, scores = defaultdict(list), defaultdict(list)
            for seed, run in runs.items():
                for code in languages:
                    _, clusters[code], num, den = map(np.array, zip(*sorted(run[code]), strict=True))
                    ratio = num.sum() / den.sum()
                    scores[code].append(ratio)
                    phi[code].append(ratio + (num - ratio * den) / den.mean())
                mean = np.mean([scores[code][-1] for code in languages])
                value += c * mean / len(runs)
                if seed != -1:
                    per_seed.setdefault(key, defaultdict(float))[seed] += c * mean
            for code in languages:
                d[code] = d[code] + c * np.mean(phi[code], axis=0)
            for s in range(len(runs)):
                of_run = summed({code: phi[code][s] - np.mean(phi[code], axis=0) for code in languages})
                own += c * c / len(runs) * np.sum(np.square(list(of_run.values()))) / max(len(runs) - 1, 1)
        units = summed(d)
        variance = df = 0.0
        for block in {block for block, _ in units}:
            mine = [x for (b, _), x in units.items() if b == block]
            variance += np.sum(np.square(mine)) * len(mine) / (len(mine) - 1)
            df += len(mine) - 1
        parts.append((max(0.0, variance - own), df))
    parts += [(np.var(list(z.values()), ddof=1) / len(z), len(z) - 1) for z in per_seed.values()]
    total = sum(v for v, _ in parts)
    df = total**2 / sum(v * v / k for v, k in parts)
    p = 2 * stats.t.sf(abs(value) / np.sqrt(total), df)
    return 100 * value, 100 * np.sqrt(total), df, p


def test_every_effect_equals_the_loops(folder):
    found, about = read(folder)
    assert {about[t]["parallel"] for t in about} == {True, False}
    assert sorted(found["mini-inference"]["text", "none"]) == [0, 1, 2]
    results = analyse(folder)
    mine = [e for e in results.estimates if e.contrast == "vision-text"]
    assert len(mine) == 1 + 2 + 4 + 8
    for e in mine:
        conditions = CONDITIONS if e.condition == "*" else [e.condition]
        tasks = about if e.target == "*" else [e.target]
        expected = by_hand(found, about, [(c, t) for c in conditions for t in tasks])
        assert (e.value, e.se, e.df, e.p) == pytest.approx(expected, rel=1e-9), (e.condition, e.target)
        half = stats.t.ppf(0.975, expected[2]) * expected[1]
        assert (e.low, e.high) == pytest.approx((expected[0] - half, expected[0] + half), rel=1e-9)
