"""A simulated outcome folder of all nine XTREME targets: sweeps, published scores, predictions. Nothing is a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from demo_outcomes import DemoTarget, edit_suite, write_demo

__all__ = ["TARGETS", "gold", "write_xtreme_demo"]

_PANX = (
    "ar he vi id jv ms tl eu ml ta te af nl en de el bn hi mr ur fa fr it pt es bg ru ja ka ko th sw yo my zh kk tr "
    "et fi hu"
)
_UDPOS = "af ar bg de el en es et eu fa fi fr he hi hu id it ja kk ko mr nl pt ru ta te th tl tr ur vi yo zh"
_VIEWS = ("fixed", "chosen", "layer=last,pool=native")


def _xtreme(name: str, kind: str, metrics: str, level: float, languages: str, **options: Any) -> DemoTarget:
    ordered = sorted(languages.split(), key=lambda code: (code != "en", code))
    options = {"parallel": False, **options}
    return DemoTarget(
        name, kind, tuple(metrics.split()), level, languages=tuple(ordered), benchmark="xtreme", **options
    )


# languages as `evaluate.py` of google-research/xtreme lists them
TARGETS = (
    _xtreme(
        "xnli",
        "classification",
        "accuracy",
        0.85,
        "ar bg de el en es fr hi ru sw th tr ur vi zh",
        parallel=True,
    ),
    _xtreme("pawsx", "classification", "accuracy", 0.9, "de en es fr ja ko zh", parallel=True),
    _xtreme("udpos", "tagging", "seqeval-f1 accuracy", 0.8, _UDPOS),
    _xtreme("panx", "tagging", "f1", 0.7, _PANX),
    _xtreme(
        "xquad",
        "spans",
        "em-f1 f1 em",
        0.75,
        "en es de el ru tr ar vi th zh hi",
        parallel=True,
        cluster_size=5,
    ),
    _xtreme("mlqa", "spans", "em-f1 f1 em", 0.7, "en es de ar hi vi zh", cluster_size=2),
    _xtreme("tydiqa", "spans", "em-f1 f1 em", 0.65, "en ar bn fi id ko ru sw te"),
    _xtreme(
        "bucc2018", "mining", "f1 precision recall oracle-f1", 0.7, "de fr ru zh", trained=False, views=_VIEWS
    ),
    _xtreme(
        "tatoeba",
        "retrieval",
        "accuracy",
        0.6,
        " ".join(sorted(set(_PANX.split()) - {"ms", "my", "yo", "en"})),
        trained=False,
        views=_VIEWS,
    ),
)


def write_xtreme_demo(folder: Path, *, depth: int = 12, **options: Any) -> Path:
    """The nine targets under `none` and two intermediates, for two arms; ``options`` go to ``write_demo``.

    Sweeps agree with the outcomes: the views `fixed`, `chosen` and native score the same in both.
    """
    settings: dict[str, Any] = {
        "arms": ("text", "vision"),
        "conditions": ("none", "squad-v1", "mnli"),
        "targets": TARGETS,
        "examples": 10,
        "restart": False,
        **options,
    }
    write_demo(folder, **settings)

    def extend(suite: dict[str, Any]) -> None:
        suite["conditions"] = [
            {"name": c["name"], "tasks": [] if c["name"] == "none" else [c["name"]]}
            for c in suite["conditions"]
        ]
        suite["contamination"] = [
            {"intermediate": "squad-v1", "target": "xquad", "note": "same training data"},
            {"intermediate": "mnli", "target": "xnli", "note": "same training data"},
            {"intermediate": "elsewhere", "target": "panx", "note": "of no condition here"},
        ]
        suite["expected"] = [
            {"task": "xnli", "metric": "accuracy", "value": 79.2, "source": "mT5 README"},
            {"task": "xquad", "metric": "f1", "value": 76.6, "source": "mT5 README"},
            {"task": "xquad", "metric": "em", "value": 60.8, "source": "a summary"},
            {"task": "tydiqa", "metric": "f1", "value": 65.1, "source": "mT5 README"},
            {
                "task": "tatoeba",
                "metric": "accuracy",
                "value": 80.0,
                "source": "invented",
                "condition": "mnli",
            },
            *(
                {
                    "task": task,
                    "metric": metric,
                    "value": value,
                    "source": "a pull request",
                    "label": "layer 14",
                }
                # the first has a column, the second stands among the details only
                for task, metric, value in (("tatoeba", "accuracy", 31.0), ("bucc2018", "oracle-f1", 71.5))
            ),
            {"task": "overall", "metric": "mean", "value": 68.1, "source": "a summary"},
        ]
        for backbone in suite["backbones"].values():
            backbone["layers"] = depth
        suite["sweeps"] = [
            sweep
            for task, metric in (("bucc2018", "f1"), ("tatoeba", "accuracy"))
            for sweep in _sweeps(suite, task, view_scores(folder, task, metric), depth)
        ]

    _write_predictions(folder, edit_suite(folder, extend))
    return folder


def view_scores(folder: Path, task: str, metric: str) -> dict[tuple[str, ...], dict[str, float]]:
    """(arm, condition, seed) -> view -> mean over languages, summed row by row from the outcomes."""
    table = pq.read_table(folder / "outcomes" / f"{task}.parquet")
    names = ("arm", "condition", "seed", "view", "language", f"{metric}.num", f"{metric}.den")
    sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for *key, num, den in zip(*(table[name].to_pylist() for name in names), strict=True):
        cell = sums[tuple(key)]
        cell[0] += num
        cell[1] += den
    by_view: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (*run, view, _), (num, den) in sums.items():
        by_view[tuple(run)][view].append(num / den)
    return {
        run: {view: float(np.mean(scores)) for view, scores in views.items()}
        for run, views in by_view.items()
    }


def _sweeps(
    suite: dict[str, Any],
    task: str,
    scored: Mapping[tuple[str, ...], Mapping[str, float]],
    depth: int,
) -> Iterable[dict[str, Any]]:
    """Scores that rise and fall over the layers; after training the last layers lose less."""
    rng = np.random.default_rng(5)
    fixed, native = f"layer={round(14 / 24 * depth)},pool=mean", "layer=last,pool=native"
    for run in suite["runs"]:
        if run["task"] != task:
            continue
        outcomes = scored[run["arm"], run["condition"], run["seed"]]
        width = depth * (0.6 if run["condition"] != "none" else 0.3)
        scores: dict[str, dict[str, float]] = {"dev": {}, "test": {}}
        for split, share_of_native in (("dev", 0.5), ("test", 1.0)):
            scores[split][native] = share_of_native * outcomes[native]
            for pool, share in (("mean", 1.0), ("cls", 0.7)):
                for layer in range(depth + 1):
                    shape = np.exp(-(((layer - 0.67 * depth) / width) ** 2))
                    name = f"layer={'last' if layer == depth else layer},pool={pool}"
                    value = outcomes["chosen"] * share * shape + rng.uniform(0, 0.004)
                    scores[split][name] = round(float(value), 4)
        chosen = max(scores["dev"], key=scores["dev"].__getitem__)
        assert chosen not in (fixed, native), "the rules take different layers"
        scores["test"] |= {fixed: outcomes["fixed"], chosen: outcomes["chosen"]}
        yield {
            **{key: run[key] for key in ("pair", "arm", "condition", "seed", "task")},
            "chosen": chosen,
            "fixed": fixed,
            # the test corpora of mining are too large for a sweep
            **(scores if task == "tatoeba" else {**scores, "test": {}}),
        }


def gold(task: str, language: str, example: int) -> str:
    """The right answer of an example, as the predictions print it."""
    if task == "xnli":
        return ("entailment", "neutral", "contradiction")[example % 3]
    if task == "pawsx":
        return str(example % 2)
    if task in ("udpos", "panx"):
        return " ".join(["NOUN", "VERB", "PUNCT"] if task == "udpos" else ["B-PER", "I-PER", "O"])
    if task in ("xquad", "mlqa", "tydiqa"):
        return f"réponse {language} {example}"
    return str(example)


def _write_predictions(folder: Path, suite: dict[str, Any]) -> None:
    """Right where the first metric has its full score, else something wrong."""
    (folder / "predictions").mkdir(exist_ok=True)
    for target in suite["targets"]:
        task = target["task"]
        source = pq.ParquetFile(folder / "outcomes" / f"{task}.parquet")
        path = folder / "predictions" / f"{task}.predictions.parquet"
        writer: pq.ParquetWriter | None = None
        for group in range(source.num_row_groups):
            table = source.read_row_group(group)
            rows = table.to_pydict()
            kept = ["pair", "arm", "condition", "seed", "attempt", "language", "view", "example"]
            full = np.array(rows[f"{target['metric']}.num"]) == np.array(rows[f"{target['metric']}.den"])
            columns = zip(rows["language"], rows["example"], full.tolist(), strict=True)
            printed = [_printed(task, *x) for x in columns]
            keys = [_key(task, code, x) for code, x in zip(rows["language"], rows["example"], strict=True)]
            made = table.select(kept).append_column("key", pa.array(keys, pa.string()))
            made = made.append_column("prediction", pa.array(printed, pa.string()))
            writer = writer or pq.ParquetWriter(path, made.schema)
            writer.write_table(made, row_group_size=made.num_rows)
        assert writer is not None
        writer.close()


def _printed(task: str, language: str, example: int, right: bool) -> str:
    if right or task in ("bucc2018", "tatoeba"):
        # neighbours of a test set hold consecutive ids: a miss is the id next to the right one
        return gold(task, language, example if right else example ^ 1)
    wrong = {"xnli": gold(task, language, example + 1), "pawsx": gold(task, language, example + 1)}
    return wrong.get(task, "O O O" if task == "panx" else "VERB VERB PUNCT" if task == "udpos" else "faux")


def _key(task: str, language: str, example: int) -> str:
    if task == "bucc2018":
        # as layout `bucc` counts: pairs, and every fourth row without a partner
        return f"{example + 1}-" if example % 4 == 0 else f"{example + 1}-{example + 101}"
    return f"{language}-{example:04d}"
