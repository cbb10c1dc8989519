"""Retrieval by layer: sweeps against outcomes, the three rules, curves, and what the report marks."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pyarrow.parquet as pq
import pytest
from demo_outcomes import edit_suite
from demo_xtreme import view_scores, write_xtreme_demo
from report_pages import Page

from xtremex.analysis import benchmark_tables
from xtremex.analysis.effects import analyse
from xtremex.analysis.layer_panel import layer_panel
from xtremex.analysis.layers import layer_curves, layer_scores
from xtremex.analysis.outline import Outline
from xtremex.analysis.report import write_report
from xtremex.analysis.results import Results

CELLS = [(arm, c) for arm in ("text", "vision") for c in ("none", "squad-v1", "mnli")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xtreme_demo(tmp_path_factory.mktemp("xtreme"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return analyse(folder)


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may alter."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def only(results: Results, arm: str, condition: str, name: str, metric: str | None = None):
    found = [
        s
        for s in results.benchmark
        if (s.arm, s.condition, s.name) == (arm, condition, name) and metric in (None, s.metric)
    ]
    assert len(found) == 1
    return found[0]


def test_layer_rules_against_the_sweeps(folder: Path, results: Results) -> None:
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    for rule in ("fixed", "chosen", "best"):
        scores = {}
        for arm, condition in CELLS:
            mine = [
                s
                for s in suite["sweeps"]
                if (s["task"], s["arm"], s["condition"]) == ("tatoeba", arm, condition)
            ]
            taken = [max(s["test"].values()) if rule == "best" else s["test"][s[rule]] for s in mine]
            scores[arm, condition] = mean(taken)
        found = {
            (s.arm, s.condition): s for s in layer_scores(suite, {}) if (s.task, s.rule) == ("tatoeba", rule)
        }
        assert set(found) == set(CELLS)
        for (arm, condition), s in found.items():
            assert s.split == "test" and s.mean == pytest.approx(scores[arm, condition])
            gain = 100 * (scores[arm, condition] - scores[arm, "none"])
            assert s.gain == (None if condition == "none" else pytest.approx(gain))
    # no test sweep: the outcomes of the views `fixed` and `chosen` are the test scores, and no layer is "best"
    mining = [s for s in results.layer_scores if s.task == "bucc2018"]
    assert {s.rule for s in mining} == {"fixed", "chosen"} and {s.split for s in mining} == {"test"}
    fixed = next(s for s in mining if (s.arm, s.condition, s.rule) == ("text", "mnli", "fixed"))
    assert fixed.mean == pytest.approx(only(results, "text", "mnli", "bucc2018", "f1").mean)
    assert {s.split for s in layer_scores(suite, {}) if s.task == "bucc2018"} == {"dev"}


def test_layer_curves_are_means_over_seeds_of_mean_pooling(folder: Path) -> None:
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    curves = {(c.task, c.arm, c.condition): c for c in layer_curves(suite, {})}
    assert len(curves) == 12
    curve = curves["tatoeba", "vision", "squad-v1"]
    mine = [
        s
        for s in suite["sweeps"]
        if (s["task"], s["arm"], s["condition"]) == ("tatoeba", "vision", "squad-v1")
    ]
    assert curve.pooling == "mean" and len(mine) == 3
    assert curve.scores[5] == pytest.approx(mean(s["test"]["layer=5,pool=mean"] for s in mine))
    assert curves["bucc2018", "text", "none"].split == "dev"
    # the last state has the number of the encoder's layers; its own sentence vector is no point of the line
    assert curve.layers == tuple(range(13))
    assert curve.scores[12] == pytest.approx(mean(s["test"]["layer=last,pool=mean"] for s in mine))


def test_the_last_layer_counts_by_name_and_by_number(folder: Path) -> None:
    """Older files call it `last`; without the encoder's depth it is the layer behind those that have a number."""
    text = (folder / "suite.json").read_text(encoding="utf-8")
    assert "layer=last,pool=mean" in text
    named = json.loads(text)
    for sweep in named["sweeps"]:
        sweep["fixed"] = "layer=last,pool=cls"
    numbered = json.loads(re.sub("layer=last,pool=(mean|cls)", r"layer=12,pool=\1", json.dumps(named)))
    bare = {key: value for key, value in named.items() if key != "backbones"}
    found = layer_scores(numbered, {}), layer_curves(numbered, {})
    assert {s.views for s in found[0] if s.rule == "fixed"} == {("layer=12,pool=cls",)}
    for suite in (named, bare):
        assert (layer_scores(suite, {}), layer_curves(suite, {})) == found


def test_sweeps_agree_with_the_outcomes(folder: Path, results: Results) -> None:
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    swept = {(s.task, s.arm, s.condition, s.rule): s for s in layer_scores(suite, {})}
    for task, metric in (("tatoeba", "accuracy"), ("bucc2018", "f1")):
        scored = view_scores(folder, task, metric)
        for arm, condition in CELLS:
            rows = {
                s.rule: s
                for s in results.layer_scores
                if (s.task, s.arm, s.condition) == (task, arm, condition)
            }
            runs = [views for run, views in scored.items() if run[:2] == (arm, condition)]
            for rule in ("fixed", "chosen"):
                assert rows[rule].mean == pytest.approx(mean(views[rule] for views in runs))
                if task == "tatoeba":
                    assert swept[task, arm, condition, rule].split == "test"
                    assert swept[task, arm, condition, rule].mean == pytest.approx(rows[rule].mean)
            if task == "tatoeba":
                assert rows["best"].mean >= max(rows["fixed"].mean, rows["chosen"].mean)


def sweep(condition: str, seed: int, dev: float, test: float | None = None) -> dict:
    """One run's sweep of two layers; the rules take layer 1."""
    return {
        "pair": "p", "arm": "text", "task": "bucc2018", "condition": condition, "seed": seed,
        "fixed": "layer=1,pool=mean", "chosen": "layer=1,pool=mean",
        "dev": {"layer=0,pool=mean": 0.0, "layer=1,pool=mean": dev},
        "test": {} if test is None else {"layer=0,pool=mean": 0.0, "layer=1,pool=mean": test},
    }  # fmt: skip


def swept_suite(*sweeps: dict) -> dict:
    return {
        "targets": [{"task": "bucc2018"}],
        "pairs": [{"name": "p", "arms": {"text": "x"}}],
        "conditions": [{"name": "none"}, {"name": "mnli"}],
        "sweeps": list(sweeps),
    }


def test_a_seed_that_was_left_out_stays_out_of_the_layers() -> None:
    """Its outcomes are not read: without its sweep the row still is one of test scores."""
    suite = swept_suite(sweep("none", -1, 0.9), *(sweep("mnli", seed, 0.9) for seed in range(3)))
    views = {
        ("bucc2018", "p", "text", "none"): {rule: {-1: 0.10} for rule in ("fixed", "chosen")},
        ("bucc2018", "p", "text", "mnli"): {rule: {0: 0.20, 1: 0.40} for rule in ("fixed", "chosen")},
    }
    after = [s for s in layer_scores(suite, views) if s.condition == "mnli"]
    assert [(s.rule, s.split, s.seeds) for s in after] == [("fixed", "test", 2), ("chosen", "test", 2)]
    assert all(s.mean == pytest.approx(0.3) and s.gain == pytest.approx(20) for s in after)
    suite["sweeps"][3]["dev"]["layer=1,pool=mean"] = 0.0
    curve = next(c for c in layer_curves(suite, views) if c.condition == "mnli")
    assert curve.scores == (0.0, pytest.approx(0.9)), "nor in the line"
    # a cell that was left out altogether
    assert {s.condition for s in layer_scores(suite, {**views, ("bucc2018", "p", "text", "mnli"): {}})} == {
        "none"
    }


def test_a_seed_that_one_target_lacks_leaves_rows_and_lines_of_layers(own: Path) -> None:
    path = own / "outcomes" / "xnli.parquet"
    source = pq.ParquetFile(path)
    groups = [source.read_row_group(g) for g in range(source.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for table in groups:
            if [table[name][0].as_py() for name in ("arm", "condition", "seed")] != ["vision", "mnli", 2]:
                writer.write_table(table)
    results = analyse(own)
    rows = [s for s in results.layer_scores if (s.arm, s.condition) == ("vision", "mnli")]
    assert {(s.split, s.seeds) for s in rows} == {("test", 2)}
    sweeps = [
        s
        for s in results.suite["sweeps"]
        if (s["task"], s["arm"], s["condition"]) == ("tatoeba", "vision", "mnli") and s["seed"] != 2
    ]
    (curve,) = [
        c for c in results.layer_curves if (c.task, c.arm, c.condition) == ("tatoeba", "vision", "mnli")
    ]
    assert curve.scores[5] == pytest.approx(mean(s["test"]["layer=5,pool=mean"] for s in sweeps))


def test_a_line_of_dev_scores_beside_others_says_so(results: Results) -> None:
    curves = [
        replace(c, split="dev") if (c.task, c.condition) == ("tatoeba", "none") else c
        for c in results.layer_curves
    ]
    _, drawn = layer_panel(Outline.of(replace(results, layer_curves=tuple(curves))), "muse", {"text": "text"})
    plots = {plot.heading: [curve.label for curve in plot.curves] for plot in drawn}
    every = ["text, no intermediate", "text, after intermediates"]
    assert plots == {"bucc2018 (dev split)": every, "tatoeba": [f"{every[0]} (dev split)", every[1]]}


def test_no_gain_from_dev_to_test() -> None:
    suite = swept_suite(sweep("none", -1, 0.5, 0.3), sweep("mnli", 0, 0.9))
    rows = {(s.condition, s.rule): s for s in layer_scores(suite, {})}
    assert (rows["none", "fixed"].split, rows["mnli", "fixed"].split) == ("test", "dev")
    assert rows["mnli", "fixed"].gain is None and rows["mnli", "fixed"].mean == 0.9
    suite = swept_suite(sweep("none", -1, 0.5), sweep("mnli", 0, 0.9))
    assert next(s for s in layer_scores(suite, {}) if s.condition == "mnli").gain == pytest.approx(40)


def test_a_row_of_dev_scores_says_so(own: Path, without_figures: None) -> None:
    """One cell lacks its sweep of the test set, and no file has outcomes of the rules."""

    def change(suite: dict) -> None:
        for target in suite["targets"]:
            if target["task"] in ("tatoeba", "bucc2018"):
                target["view"], target["views"] = "layer=last,pool=native", ["layer=last,pool=native"]
        for each in suite["sweeps"]:
            if (each["task"], each["arm"], each["condition"]) == ("tatoeba", "text", "mnli"):
                each["test"] = {}

    edit_suite(own, change)
    results = analyse(own)
    table = benchmark_tables.layers(Outline.of(results))
    names = {b.title: [row.cells[0].text for row in b.rows] for b in table.blocks}
    every = ["no intermediate", "squad-v1", "mnli"]
    assert names["tatoeba, text"] == [*every[:2], "mnli (dev split)"]
    assert names["tatoeba, vision"] == every
    assert names["bucc2018, text"] == [f"{name} (dev split)" for name in every]
    # one rule has outcomes on the test set, the other has none
    some = [replace(s, split="test") if s.rule == "chosen" else s for s in results.layer_scores]
    table = benchmark_tables.layers(Outline.of(replace(results, layer_scores=tuple(some))))
    block = next(b for b in table.blocks if b.title == "bucc2018, text")
    assert block.rows[2].cells[0].text == "mnli (dev split: fixed)"
    write_report(results, own)
    words = Page((own / "report.html").read_text(encoding="utf-8")).words()
    assert "bucc2018 (dev split)" in words and "tatoeba (dev split)" not in words


def test_retrieval_that_shares_data_is_flagged_by_layer(own: Path) -> None:
    edit_suite(
        own, lambda s: s["contamination"].append({"intermediate": "mnli", "target": "tatoeba", "note": "x"})
    )
    table = benchmark_tables.layers(Outline.of(analyse(own)))
    names = {b.title: [row.cells[0].text for row in b.rows] for b in table.blocks}
    assert names["tatoeba, text"] == ["no intermediate", "squad-v1", "mnli†"]
    assert names["bucc2018, text"] == ["no intermediate", "squad-v1", "mnli"]
    assert table.note.endswith("†: intermediate and target share data.")
