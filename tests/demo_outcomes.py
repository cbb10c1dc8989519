"""A complete simulated outcome folder (`docs/outcomes.md`), for tests of the analysis and the report.

Scores follow the generator of the calibration (`analysis/simulate.py`): a success probability with run, run x
language and checkpoint effects, and example difficulty shared by all runs. Nothing here is a result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import norm

__all__ = ["CONDITIONS", "LANGUAGES", "SMALL", "TARGETS", "DemoTarget", "edit_suite", "write_demo"]

LANGUAGES: dict[str, tuple[str, str]] = {
    "en": ("English", "Germanic"),
    "ar": ("Arabic", "Semitic"),
    "de": ("German", "Germanic"),
    "es": ("Spanish", "Romance"),
    "fa": ("Persian", "Iranian"),
    "fr": ("French", "Romance"),
    "id": ("Indonesian", "Austronesian"),
    "it": ("Italian", "Romance"),
    "ja": ("Japanese", "Japonic"),
    "ko": ("Korean", "Koreanic"),
    "nl": ("Dutch", "Germanic"),
    "pl": ("Polish", "Slavic"),
    "pt": ("Portuguese", "Romance"),
    "ru": ("Russian", "Slavic"),
    "tr": ("Turkish", "Turkic"),
    "zh": ("Chinese", "Sinitic"),
}
UNTRAINED = ("fa", "id")
CONDITIONS = ("none", "nli", "paraphrase", "choice", "spans", "tags", "mixture")


@dataclass(frozen=True)
class DemoTarget:
    name: str
    kind: str
    metrics: tuple[str, ...]
    level: float
    parallel: bool = True
    cluster_size: int = 1
    trained: bool = True
    retention: bool = False
    views: tuple[str, ...] = ("",)
    languages: tuple[str, ...] | None = None
    """Test languages; None for those that `write_demo` is given."""
    benchmark: str = ""


TARGETS = (
    DemoTarget("mini-inference", "classification", ("accuracy",), 0.80),
    DemoTarget("mini-topic", "classification", ("accuracy",), 0.74, parallel=False),
    DemoTarget("mini-entities", "tagging", ("f1",), 0.62, parallel=False),
    DemoTarget("mini-reading", "spans", ("f1", "exact_match"), 0.77, cluster_size=4),
    DemoTarget(
        "mini-sentences",
        "retrieval",
        ("accuracy",),
        0.86,
        trained=False,
        views=("layer=1,pool=native", "layer=0,pool=mean"),
    ),
    DemoTarget("mini-mining", "mining", ("f1",), 0.70, parallel=False, trained=False),
    DemoTarget("mini-pictures", "image-text", ("recall@1",), 0.25, trained=False, retention=True),
)
SMALL: dict[str, Any] = {
    "conditions": ("none", "nli", "tags"),
    "targets": (TARGETS[0], TARGETS[2], TARGETS[4], TARGETS[6]),
    "languages": ("en", "de", "fa"),
    "examples": 80,
    "restart": False,
}
"""Options of `write_demo` for a folder in a tenth of a second: three targets and retention, no flagged run."""


def _counts(
    rng: np.random.Generator, target: DemoTarget, hit: np.ndarray, second: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Per metric (num, den) from successes ``hit`` (L, n) and an independent uniform draw of that shape."""
    one = np.ones(hit.shape)
    if target.kind == "tagging":
        gold = 1.0 + (np.arange(hit.shape[1]) % 3)[None, :] * one
        found = np.where(hit, gold, np.floor(gold * second))
        counts = (2 * found, found + np.floor(2 * second * ~hit) + gold)
        return {name: (hit * one, one) if name == "accuracy" else counts for name in target.metrics}
    if target.kind == "mining":
        gold = (np.arange(hit.shape[1]) % 4 != 0)[None, :] * one
        predicted = np.where(hit, gold, (second < 0.5) * one)
        counts = (2 * np.where(hit, gold, 0.0), predicted + gold)
        return dict.fromkeys(target.metrics, counts)
    if target.kind == "spans":
        overlap = np.where(hit, 1.0, np.round(0.6 * second, 2))
        parts = {"f1": overlap, "em-f1": (overlap + hit) / 2}
        return {name: (parts.get(name, hit * one), one) for name in target.metrics}
    return {target.metrics[0]: (hit * one, one)}


def _table(rows: Mapping[str, Any], target: DemoTarget) -> pa.Table:
    columns: dict[str, Any] = {}
    for name in ("pair", "arm", "condition", "language", "view"):
        columns[name] = pa.array(rows[name]).dictionary_encode()
    columns["seed"] = pa.array(rows["seed"], pa.int16())
    columns["attempt"] = pa.array(rows["attempt"], pa.int8())
    columns["example"] = pa.array(rows["example"], pa.int32())
    columns["cluster"] = pa.array(rows["cluster"], pa.int32())
    order = ["pair", "arm", "condition", "seed", "attempt", "language", "view", "example", "cluster"]
    for metric in target.metrics:
        for part in ("num", "den"):
            columns[f"{metric}.{part}"] = pa.array(rows[f"{metric}.{part}"], pa.float64())
            order.append(f"{metric}.{part}")
    return pa.table({name: columns[name] for name in order})


def _run_table(
    target: DemoTarget,
    identity: tuple[str, str, str, int, int],
    languages: Sequence[str],
    views: list[dict[str, tuple[np.ndarray, np.ndarray]]],
    n: int,
) -> pa.Table:
    pair, arm, condition, seed, attempt = identity
    base = np.arange(n)
    rows: dict[str, list[Any]] = {"language": [], "view": [], "example": [], "cluster": []}
    values: dict[str, list[np.ndarray]] = {}
    for index, language in enumerate(languages):
        example = base if target.parallel else base + index * n
        for view, metrics in zip(target.views, views, strict=True):
            rows["language"] += [language] * n
            rows["view"] += [view] * n
            rows["example"] += example.tolist()
            rows["cluster"] += (example // target.cluster_size).tolist()
            for metric, (num, den) in metrics.items():
                values.setdefault(f"{metric}.num", []).append(num[index])
                values.setdefault(f"{metric}.den", []).append(den[index])
    total = len(rows["language"])
    whole = {"pair": [pair] * total, "arm": [arm] * total, "condition": [condition] * total}
    return _table(
        {
            **whole,
            "seed": [seed] * total,
            "attempt": [attempt] * total,
            **rows,
            **{name: np.concatenate(parts) for name, parts in values.items()},
        },
        target,
    )


def _contrasts(arms: Sequence[str]) -> list[dict[str, str]]:
    found = []
    for plus, role in (("vision", "primary"), ("scrambled", "placebo")):
        if plus in arms and "text" in arms:
            found.append({"name": f"{plus}-text", "plus": plus, "minus": "text", "role": role})
    return found


def _target_json(target: DemoTarget, languages: Sequence[str], n: int) -> dict[str, Any]:
    rule = {"classification": "largest class", "tagging": "constant"}.get(target.kind, "character trigrams")
    baseline = 1 / n if target.retention else 0.3
    return {
        "task": target.name,
        "kind": target.kind,
        "metric": target.metrics[0],
        "metrics": list(target.metrics),
        "languages": list(languages),
        "source_language": "en",
        "language_names": {code: LANGUAGES.get(code, (code, ""))[0] for code in languages},
        "language_families": {code: LANGUAGES.get(code, (code, ""))[1] for code in languages},
        "untrained_languages": [code for code in languages if code in UNTRAINED],
        "parallel": target.parallel,
        "clustered": target.cluster_size > 1,
        "view": target.views[0],
        "views": list(target.views),
        "retention": target.retention,
        "benchmark": target.benchmark,
        "version": "1",
        "licence": "Apache-2.0",
        "description": f"simulated {target.kind} outcomes",
        "baselines": {
            code: {"chance" if target.retention else rule: round(baseline, 4)} for code in languages
        },
        "examples": {code: n for code in languages},
    }


def write_demo(
    folder: Path | str,
    *,
    seed: int = 0,
    seeds: int = 3,
    arms: Sequence[str] = ("text", "vision", "scrambled"),
    pairs: Sequence[str] = ("muse",),
    conditions: Sequence[str] = CONDITIONS,
    targets: Sequence[DemoTarget] = TARGETS,
    languages: Sequence[str] = tuple(LANGUAGES),
    examples: int = 60,
    effect: float = -0.004,
    run_sd: float = 0.006,
    restart: bool = True,
    exception: bool = False,
    ladder: Sequence[str] = (),
    analysis: Mapping[str, Any] | None = None,
) -> Path:
    """Write simulated ``outcomes/*.parquet`` and ``suite.json`` under ``folder``; returns ``folder``.

    ``effect`` is the true difference in differences of the vision arm on the probability scale (the scrambled
    arm's is 0). ``restart`` flags one restarted and one collapsed run, ``exception`` declares one unequal
    schedule, ``ladder`` lists arms by dose, ``analysis`` overrides keys of that table.
    """
    folder = Path(folder)
    (folder / "outcomes").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    gains = {
        c: 0.0 if c == "none" else g
        for c, g in zip(conditions, np.linspace(0, 0.03, len(conditions)), strict=True)
    }
    arm_levels = {"text": 0.0, "vision": -0.015, "scrambled": -0.01, "distilled": 0.005}
    # one intermediate checkpoint per (pair, arm, condition, seed) feeds every target
    checkpoint = {
        (p, a, c): rng.normal(0, 0.5 * run_sd, seeds) * (c != "none")
        for p in pairs
        for a in arms
        for c in conditions
    }
    runs: list[dict[str, Any]] = []
    languages = list(languages)
    for target in targets:
        tongues = list(target.languages or languages)
        difficulty = np.sqrt(0.5) * rng.normal(size=(len(tongues), examples))
        if target.parallel:
            difficulty = np.sqrt(0.6) * difficulty[:1] + np.sqrt(0.4) * difficulty
        level = target.level - 0.1 * (np.arange(len(tongues)) > 0) - 0.15 * np.isin(tongues, UNTRAINED)
        path = folder / "outcomes" / f"{target.name}.parquet"
        writer: pq.ParquetWriter | None = None
        for pair in pairs:
            for arm in arms:
                if target.retention and arm == "text":
                    continue
                for condition in conditions:
                    trained = target.trained or condition != "none"
                    cell = np.sqrt(0.1) * rng.normal(size=(len(tongues), examples))
                    for index in range(seeds if trained else 1):
                        mean = level + arm_levels[arm] + gains[condition]
                        if condition != "none":
                            mean = mean + (effect if arm == "vision" else 0.0)
                            mean = mean - (0.08 if target.retention else 0.0)
                        if trained:
                            mean = mean + checkpoint[pair, arm, condition][index] + rng.normal(0, run_sd)
                            mean = mean + rng.normal(0, run_sd, len(tongues))
                        threshold = norm.ppf(np.clip(mean, 0.02, 0.98))[:, None]
                        views = []
                        for view in range(len(target.views)):
                            noise = np.sqrt(0.4) * rng.normal(size=difficulty.shape)
                            hit = difficulty + cell + noise < threshold - 0.3 * view
                            views.append(_counts(rng, target, hit, rng.random(hit.shape)))
                        first = condition == conditions[-1] and index == 0 and target is targets[0]
                        attempt = int(restart and first and arm == arms[-1])
                        number = index if trained else -1
                        table = _run_table(
                            target, (pair, arm, condition, number, attempt), tongues, views, examples
                        )
                        writer = writer or pq.ParquetWriter(path, table.schema)
                        writer.write_table(table, row_group_size=table.num_rows)
                        runs.append(
                            {
                                "pair": pair,
                                "arm": arm,
                                "condition": condition,
                                "task": target.name,
                                "seed": number,
                                "attempt": attempt,
                                "collapsed": bool(restart and first and arm == arms[0]),
                                "dev": round(float(np.mean(level)), 4) if target.trained else None,
                                "best_step": 40 if target.trained else None,
                                "seconds": 2.5,
                                "job": f"{len(runs):064x}",
                            }
                        )
        if writer is not None:
            writer.close()
    suite = _suite_json(arms, pairs, conditions, targets, languages, examples, seeds, runs, exception)
    suite["analysis"] |= dict(analysis or {})
    for entry in suite["pairs"]:
        entry |= {"order": list(arms), "ladder": list(ladder)}
    (folder / "suite.json").write_text(
        json.dumps(suite, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return folder


def edit_suite(folder: Path, change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """``change(suite)`` alters the record of a folder in place."""
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    change(suite)
    (folder / "suite.json").write_text(json.dumps(suite), encoding="utf-8")
    return suite


def _suite_json(
    arms: Sequence[str],
    pairs: Sequence[str],
    conditions: Sequence[str],
    targets: Sequence[DemoTarget],
    languages: Sequence[str],
    n: int,
    seeds: int,
    runs: list[dict[str, Any]],
    exception: bool,
) -> dict[str, Any]:
    backbone = {
        "adapter": "muse",
        "revision": "0.2.1",
        "licence": "Apache-2.0",
        "family": "muse",
        "objective": "translation ranking, dialogue, inference",
        "tokenizer_id": "muse-unigram-128k",
        "hidden_size": 512,
        "layers": 1,
        "max_length_trained": 100,
        "max_length": 100,
        "init_from": None,
        "causal": False,
        "pooling": "mean",
        "pair_encoding": "separate",
        "text_prefix": "",
        "dropout": 0.0,
    }
    declared = (
        [{"arm": "vision", "key": "encoder_lr", "value": 1e-4, "reason": "diverged at 3e-4"}]
        if exception
        else []
    )
    schedules = []
    stages = [f"intermediate:{c}" for c in conditions if c != "none"]
    for stage in stages + [f"target:{t.name}" for t in targets if t.trained]:
        for index in range(seeds):
            schedules.append(
                {
                    "stage": stage,
                    "seed": index,
                    "fingerprint": f"{len(schedules):016x}",
                    "arms": list(arms),
                    "equal": not (exception and stage == stages[0]),
                }
            )
    return {
        "format": 1,
        "version": "0.1.0",
        "suite": {
            "name": "demo",
            "title": "Demonstration (simulated outcomes)",
            "notice": "Simulated outcomes: nothing was trained. For tests only.",
            "digest": "d" * 64,
        },
        "pairs": [
            {
                "name": pair,
                "arms": {arm: f"{pair}@grounded-{arm}" for arm in arms},
                "contrasts": _contrasts(arms),
                "note": "one grounded checkpoint per arm: results are conditional on it",
            }
            for pair in pairs
        ],
        "backbones": {
            f"{pair}@grounded-{arm}": {**backbone, "init_from": pair} for pair in pairs for arm in arms
        },
        "conditions": [
            {
                "name": c,
                "tasks": []
                if c == "none"
                else [f"mini-{x}" for x in conditions if x not in ("none", "mixture")]
                if c == "mixture"
                else [f"mini-{c}"],
            }
            for c in conditions
        ],
        "targets": [_target_json(t, t.languages or languages, n) for t in targets],
        "seeds": list(range(seeds)),
        "analysis": {"margin_task": 1.0, "margin_aggregate": 0.5, "alpha": 0.05},
        "schedules": schedules,
        "exceptions": declared,
        "runs": runs,
        "contamination": [
            {
                "intermediate": "mini-nli",
                "target": "mini-inference",
                "note": "same format, disjoint sentences",
            }
        ],
        "cost": {"seconds": 420.0, "jobs": len(runs), "disk_bytes": 123456789},
        "environment": {
            "python": "3.11.7",
            "torch": "2.13.0",
            "device": "cpu",
            "precision": "bf16",
            "threads": 1,
            "commit": None,
        },
        "signature": "xtremex:0.1.0|suite:demo#dddddddd|pair:"
        + ",".join(pairs)
        + f"|schedule:0f0f0f0f|seeds:{seeds}|precision:bf16",
    }
