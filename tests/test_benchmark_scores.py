"""XTREME's own averages, retrieval by layer, and shared data: numbers against the files, and what the report shows."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import mean, stdev

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import edit_suite, write_demo
from demo_xtreme import TARGETS, write_xtreme_demo
from latex import compiled, need_latex
from report_pages import Page

from xtremex.analysis import benchmark_tables
from xtremex.analysis.effects import analyse
from xtremex.analysis.outline import Outline
from xtremex.analysis.report import write_report
from xtremex.analysis.results import Results
from xtremex.analysis.xtreme import GROUPS, XTREME

CELLS = [(arm, c) for arm in ("text", "vision") for c in ("none", "squad-v1", "mnli")]
COUNTS = {
    "xnli": 15, "pawsx": 7, "udpos": 33, "panx": 40, "xquad": 11, "mlqa": 7, "tydiqa": 9, "bucc2018": 4, "tatoeba": 36
}  # fmt: skip
"""Languages per task, protocol reference, section 4.1."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xtreme_demo(tmp_path_factory.mktemp("xtreme"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return analyse(folder)


@pytest.fixture(scope="module")
def page_folder(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    write_report(results, out)
    return out


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may alter."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


@cache
def _sums(path: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    """(arm, condition, seed, language, view, metric) -> (num, den)."""
    table = pq.read_table(path)
    metrics = [name.removesuffix(".num") for name in table.column_names if name.endswith(".num")]
    columns = {
        name: table[name].to_pylist() for name in table.column_names if name not in ("pair", "cluster")
    }
    found: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    keys = list(
        zip(*(columns[name] for name in ("arm", "condition", "seed", "language", "view")), strict=True)
    )
    for metric in metrics:
        for key, num, den in zip(keys, columns[f"{metric}.num"], columns[f"{metric}.den"], strict=True):
            cell = found[*key, metric]
            cell[0] += num
            cell[1] += den
    return {key: (num, den) for key, (num, den) in found.items()}


def by_language(
    folder: Path, task: str, metric: str, arm: str, condition: str
) -> dict[int, dict[str, float]]:
    """Seed -> language -> score of the first view, summed row by row from the file."""
    view = next(target.views[0] for target in TARGETS if target.name == task)
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for key, (num, den) in _sums(folder / "outcomes" / f"{task}.parquet").items():
        if key[:2] == (arm, condition) and key[4:] == (view, metric):
            found[int(key[2])][key[3]] = num / den
    return found


def only(results: Results, arm: str, condition: str, name: str, metric: str | None = None):
    found = [
        s
        for s in results.benchmark
        if (s.arm, s.condition, s.name) == (arm, condition, name) and metric in (None, s.metric)
    ]
    assert len(found) == 1
    return found[0]


def test_the_table_is_that_of_the_protocol() -> None:
    assert {name: len(task.languages) for name, task in XTREME.items()} == COUNTS
    assert all(len(set(task.languages)) == len(task.languages) for task in XTREME.values())
    assert {t.name: set(t.languages or ()) for t in TARGETS} == {
        n: set(t.languages) for n, t in XTREME.items()
    }
    assert [sum(t.group == g for t in XTREME.values()) for g in GROUPS] == [2, 2, 3, 2]


def test_task_scores_are_means_over_languages_and_seeds(folder: Path, results: Results) -> None:
    for name, metric in (
        ("udpos", "seqeval-f1"),
        ("udpos", "accuracy"),
        ("xnli", "accuracy"),
        ("bucc2018", "f1"),
    ):
        for arm, condition in CELLS:
            seeds = by_language(folder, name, metric, arm, condition)
            per_seed = [mean(scores.values()) for scores in seeds.values()]
            s = only(results, arm, condition, name, metric)
            assert s.mean == pytest.approx(mean(per_seed)) and s.seeds == len(per_seed)
            assert s.sd == (pytest.approx(stdev(per_seed)) if len(per_seed) > 1 else None)
            assert s.counted == (metric != "accuracy" or name == "xnli")


def test_questions_score_the_mean_of_mean_em_and_mean_f1(folder: Path, results: Results) -> None:
    for name in ("xquad", "mlqa", "tydiqa"):
        f1, em = (by_language(folder, name, metric, "vision", "mnli") for metric in ("f1", "em"))
        means = [mean(mean(x.values()) for x in metric.values()) for metric in (f1, em)]
        assert only(results, "vision", "mnli", name, "em-f1").mean == pytest.approx(mean(means))


def test_english_stays_in_the_mean_and_the_gap_leaves_it_out(folder: Path, results: Results) -> None:
    seeds = by_language(folder, "panx", "f1", "text", "none").values()
    s = only(results, "text", "none", "panx")
    assert s.source == pytest.approx(mean(x["en"] for x in seeds))
    assert s.transfer == pytest.approx(mean(x[c] for x in seeds for c in x if c != "en"))
    assert s.source is not None and s.transfer is not None and s.gap == pytest.approx(s.source - s.transfer)
    assert s.mean == pytest.approx((s.source + 39 * s.transfer) / 40)
    tatoeba = only(results, "text", "mnli", "tatoeba")
    assert tatoeba.source is None and tatoeba.gap is None and tatoeba.transfer == pytest.approx(tatoeba.mean)


def test_groups_and_overall_are_means_within_a_seed(folder: Path, results: Results) -> None:
    per_task: dict[str, dict[int, float]] = {}
    for name, task in XTREME.items():
        metric = next(m for m in task.metrics if m in next(t for t in TARGETS if t.name == name).metrics)
        seeds = by_language(folder, name, metric, "vision", "none")
        per_task[name] = {seed: mean(scores.values()) for seed, scores in seeds.items()}
    # retrieval without an intermediate was run once: that run stands in every seed's mean
    overall = [mean(x.get(seed, x.get(-1, 0.0)) for x in per_task.values()) for seed in range(3)]
    s = only(results, "vision", "none", "overall")
    assert (s.mean, s.sd, s.seeds) == (pytest.approx(mean(overall)), pytest.approx(stdev(overall)), 3)
    retrieval = only(results, "vision", "none", "retrieval")
    assert retrieval.mean == pytest.approx(mean([per_task["bucc2018"][-1], per_task["tatoeba"][-1]]))
    assert retrieval.sd is None and retrieval.seeds == 1


def drop_language(folder: Path, task: str, language: str, condition: str) -> None:
    path = folder / "outcomes" / f"{task}.parquet"
    source = pq.ParquetFile(path)
    groups = [source.read_row_group(g) for g in range(source.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for table in groups:
            keep = [
                (row["language"], row["condition"]) != (language, condition)
                for row in table.select(["language", "condition"]).to_pylist()
            ]
            writer.write_table(table.filter(pa.array(keep)))


def test_a_missing_language_takes_the_task_out_of_its_means(own: Path, without_figures: None) -> None:
    drop_language(own, "udpos", "yo", "mnli")
    results = analyse(own)
    s = only(results, "text", "mnli", "udpos", "seqeval-f1")
    assert s.mean is None and s.missing == ("yo",) and s.languages == 32
    for name in ("tagging", "overall"):
        assert only(results, "text", "mnli", name).mean is None
        assert only(results, "text", "mnli", name).missing == ("udpos (languages yo)",)
        assert only(results, "text", "none", name).mean is not None
    assert only(results, "text", "mnli", "retrieval").mean is not None
    write_report(results, own)
    words = Page((own / "report.html").read_text(encoding="utf-8")).words()
    assert "the mean needs all of its tasks and languages; missing udpos (languages yo)." in words
    assert "32 of 33" in words


def test_absent_tasks_and_metrics_are_named(own: Path) -> None:
    def change(suite: dict) -> None:
        suite["targets"] = [t for t in suite["targets"] if t["task"] != "mlqa"]
        for target in suite["targets"]:
            if target["task"] == "udpos":
                target.update(metric="accuracy", metrics=["accuracy"])
            if target["task"] == "pawsx":
                target["benchmark"] = ""
            if target["task"] == "panx":
                target["task"] = "panx-like"

    (own / "outcomes" / "mlqa.parquet").unlink()
    (own / "outcomes" / "tatoeba.parquet").unlink()
    (own / "outcomes" / "panx.parquet").unlink()
    edit_suite(own, change)
    results = analyse(own)
    overall = only(results, "text", "none", "overall")
    assert overall.mean is None and overall.missing == (
        "pawsx (no such target)",
        "udpos (metric seqeval-f1)",
        "panx (no such target)",
        "mlqa (no such target)",
        "tatoeba (outcomes)",
    )
    assert any("panx-like says that it belongs to XTREME" in warning for warning in results.warnings)


def test_languages_beyond_the_official_ones_do_not_count(own: Path, results: Results) -> None:
    """A target with Romanian keeps the published score: an added language changes nothing."""
    path = own / "outcomes" / "xquad.parquet"
    source = pq.ParquetFile(path)
    groups = [source.read_row_group(g) for g in range(source.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for table in groups:
            rows = [{**row, "language": "ro"} for row in table.to_pylist() if row["language"] == "en"]
            writer.write_table(
                pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)]).combine_chunks()
            )
    edit_suite(own, lambda s: next(t for t in s["targets"] if t["task"] == "xquad")["languages"].append("ro"))
    for metric in ("em-f1", "f1", "em"):
        before, after = (only(r, "vision", "mnli", "xquad", metric) for r in (results, analyse(own)))
        assert before == after


def test_without_a_benchmark_nothing_is_shown(without_figures: None, tmp_path: Path) -> None:
    write_demo(tmp_path, languages=("en", "de"), examples=24, conditions=("none", "nli"), restart=False)
    results = analyse(tmp_path)
    assert results.benchmark == results.layer_scores == results.layer_curves == ()
    write_report(results, tmp_path)
    assert not {p.stem for p in (tmp_path / "tables").iterdir()} & {"xtreme", "xtreme_groups", "layers"}
    assert "XTREME scores" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_page_shows_scores_published_ones_and_layers(page_folder: Path, results: Results) -> None:
    words = Page((page_folder / "report.html").read_text(encoding="utf-8")).words()
    s = only(results, "vision", "mnli", "overall")
    assert s.mean is not None and s.sd is not None
    assert f"mnli {100 * s.mean:.1f} ({100 * s.sd:.1f})" in words
    # (76.6 + 60.8) / 2: a published F1 and exact match give the task's score
    assert "not made here published 68.1 79.2 – – – – 68.7 – – – –" in words
    assert "published, mnli – – – – – – – – – – 80.0" in words
    assert "layer 14 – – – – – – – – – – 31.0" in words
    assert "Beside the mean: udpos accuracy." in words
    assert "Retrieval by layer" in words and "bucc2018 (dev split)" in words
    source = (page_folder / "report.html").read_text(encoding="utf-8")
    layers = source.split('<section id="layers"')[1].split("</section>")[0]
    assert layers.count("<polyline") == 8, "two tasks, two arms, before and after"
    assert (page_folder / "figures" / "layers.pdf").is_file()
    tree = json.loads((page_folder / "report.json").read_text(encoding="utf-8"))
    assert len(tree["benchmark"]) == len(results.benchmark) and tree["layer_curves"][0]["layers"] == list(
        range(13)
    )


def test_only_sources_of_shown_scores_are_cited(page_folder: Path) -> None:
    """F1 of TyDiQA without its exact match, and the oracle's F1, have no column; the details have rows for both."""
    whole, details = re.findall(
        r"Published scores, not made here: (.*)", (page_folder / "report.md").read_text("utf-8")
    )
    assert whole.rstrip("_*") == (
        "mean, xquad: a summary; xnli, xquad: mT5 README; tatoeba: invented; tatoeba (layer 14): a pull request."
    )
    assert details.rstrip("_*") == (
        "xnli, xquad, tydiqa: mT5 README; xquad: a summary; bucc2018 (layer 14), tatoeba (layer 14): a pull "
        "request; tatoeba: invented."
    )
    (line,) = [
        line
        for line in (page_folder / "report.md").read_text("utf-8").splitlines()
        if line.startswith("| bucc2018 | no intermediate | oracle") and "vision" not in line
    ][:1]
    assert line.endswith("| 71.5 (layer 14) |")


def test_a_label_without_a_column_has_no_row(own: Path, without_figures: None) -> None:
    def change(suite: dict) -> None:
        suite["expected"] = [
            {"task": "bucc2018", "metric": "oracle-f1", "value": 71.5, "source": "there", "label": "oracle"},
            {"task": "tatoeba", "metric": "accuracy", "value": 57.3, "source": "here"},
            {"task": "tatoeba", "metric": "accuracy", "value": 31.0, "source": "yonder", "label": "layer 14"},
        ]

    edit_suite(own, change)
    table = benchmark_tables.benchmark(Outline.of(analyse(own)))
    cited = table.blocks[-1]
    assert cited.title == "not made here"
    assert [(row.cells[0].text, row.cells[-1].text) for row in cited.rows] == [
        ("published", "57.3"),
        ("layer 14", "31.0"),
    ]
    assert "tatoeba: here; tatoeba (layer 14): yonder." in table.note and "there" not in table.note


def test_transfer_is_averaged_over_the_same_tasks_in_every_row(own: Path) -> None:
    """XQuAD is missing under one condition: its row has no mean to compare with the others."""
    path = own / "outcomes" / "xquad.parquet"
    source = pq.ParquetFile(path)
    groups = [source.read_row_group(g) for g in range(source.num_row_groups)]
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for table in groups:
            if table["condition"][0].as_py() != "mnli":
                writer.write_table(table)
    results = analyse(own)
    table = benchmark_tables.benchmark_groups(Outline.of(results))
    for block in table.blocks:
        shown = {row.cells[0].text: [cell.text for cell in row.cells[-3:]] for row in block.rows}
        assert shown["mnli"] == ["–", "–", "–"]
        for condition in ("none", "squad-v1"):
            mine = [
                s
                for s in results.benchmark
                if (s.arm, s.condition) == (block.title, condition) and s.counted and s.gap is not None
            ]
            assert {s.name for s in mine} == {name for name, task in XTREME.items() if "en" in task.languages}
            means = [mean(getattr(s, part) for s in mine) for part in ("source", "transfer", "gap")]
            assert shown["no intermediate" if condition == "none" else condition] == [
                f"{100 * value:.1f}" for value in means
            ]


def test_shared_data_is_counted_next_to_the_answer(results: Results) -> None:
    (caution,) = [w for w in results.warnings if "share data" in w]
    assert caution.startswith("muse / vision-text: 2 of 18 intermediate × target cells share data (†;")
    clean = [
        e.value
        for e in results.estimates
        if e.family == "map" and (e.condition, e.target) not in (("squad-v1", "xquad"), ("mnli", "xnli"))
    ]
    assert len(clean) == 16 and f"over the other 16 the effect is {mean(clean):+.2f} points" in caution


def test_shared_data_is_flagged_in_map_tables_and_latex(page_folder: Path, results: Results) -> None:
    source = (page_folder / "report.html").read_text(encoding="utf-8")
    drawn = re.findall(r'class="value[^"]*">([^<]*)</text>', source)
    assert sum(x.endswith("†") for x in drawn) == 2
    assert "†: intermediate and target share data." in Page(source).words()
    assert source.count("shared data: same training data") == 2, "the tooltips say what is shared"
    assert "| squad-v1 | xquad† |" in (page_folder / "report.md").read_text(encoding="utf-8")
    # effects: one contrast; the others: two arms; layers and the second benchmark table have no such cell
    for table, cells in (("effects", 2), ("gains", 4), ("xtreme", 4), ("scores", 4)):
        latex = (page_folder / "tables" / f"{table}.tex").read_text(encoding="utf-8")
        # the cells, and the note that explains them
        assert latex.count(r"\dagger") == cells + 1, table
    for table in ("xtreme_groups", "layers"):
        assert r"\dagger" not in (page_folder / "tables" / f"{table}.tex").read_text(encoding="utf-8")
    assert source.count('<th scope="row">xnli†') + source.count("xnli†</") >= 2, "the details of two arms"


def test_one_arm_is_told_what_it_shares(tmp_path: Path, without_figures: None) -> None:
    """Without a contrast the answer is a gain, and the caution and daggers are those of the gain."""
    write_xtreme_demo(tmp_path, arms=("text",), seeds=2)
    results = analyse(tmp_path)
    (caution,) = [w for w in results.warnings if "share data" in w]
    clean = [
        g.value
        for g in results.gains
        if "*" not in (g.condition, g.target)
        and (g.condition, g.target) not in (("squad-v1", "xquad"), ("mnli", "xnli"))
    ]
    assert caution.startswith("muse / text: 2 of 18 intermediate × target cells share data (†;")
    assert len(clean) == 16 and f"over the other 16 the gain is {mean(clean):+.2f} points" in caution
    write_report(results, tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "distance between two arms" not in text and "equal over the arms" not in text
    stages = len(results.suite["schedules"])
    assert f"{stages} schedules, each of one arm: there is nothing to compare." in text
    assert re.search(r"\| intermediate:mnli \| 0 \| \w+ \| – \| text \|", text)
    latex = (tmp_path / "tables" / "xtreme.tex").read_text(encoding="utf-8")
    assert latex.count(r"\dagger") == 3


@pytest.mark.parametrize("arms", [("text",), ("text", "vision")])
def test_one_seed_has_no_deviation(tmp_path: Path, without_figures: None, arms: tuple[str, ...]) -> None:
    write_xtreme_demo(tmp_path, arms=arms, seeds=1, conditions=("none", "mnli"))
    page = write_report(analyse(tmp_path), tmp_path)
    source = page.read_text(encoding="utf-8")
    words = Page(source).words()
    assert "SD over" not in words and "deviation" not in words and "1 seeds" not in source
    assert "English included. Mean: unweighted" in words


def test_a_mixture_shares_what_its_members_share(own: Path) -> None:
    def change(suite: dict) -> None:
        for condition in suite["conditions"]:
            if condition["name"] == "squad-v1":
                condition["tasks"] = ["squad-v1", "mnli"]

    edit_suite(own, change)
    (caution,) = [w for w in analyse(own).warnings if "share data" in w]
    assert "3 of 18" in caution


def test_latex_of_nine_targets_compiles_within_the_page(page_folder: Path, tmp_path: Path) -> None:
    need_latex()
    files = sorted((page_folder / "tables").glob("*.tex"))
    assert {"xtreme", "xtreme_groups", "layers"} <= {f.stem for f in files}
    boxes = "\n".join(rf"\begin{{table*}}\centering\input{{{f}}}\end{{table*}}" for f in files)
    source = tmp_path / "paper.tex"
    source.write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\nText.\n"
        + boxes
        + "\n\\clearpage\\end{document}\n",
        encoding="utf-8",
    )
    log = compiled(source)
    assert "Overfull" not in log and "Missing character" not in log
