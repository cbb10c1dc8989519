"""Exports: read back by the rules of those who will read them, and compared with the outcomes."""

from __future__ import annotations

import csv
import json
import shutil
import tracemalloc
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import edit_suite, write_demo
from demo_xtreme import TARGETS, gold, write_xtreme_demo
from sklearn.metrics import precision_recall_fscore_support

from xtremex.analysis.export import FORMATS, export
from xtremex.analysis.predictions import read_predictions
from xtremex.analysis.xtreme import XTREME
from xtremex.errors import AnalysisError, DataError, UnknownName

SMALL = {"conditions": ("none", "mnli"), "seeds": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_xtreme_demo(tmp_path_factory.mktemp("xtreme"), **SMALL)


@pytest.fixture(scope="module")
def submitted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("submission")
    made = export(folder, "xtreme", out)
    assert made == sorted(p for p in out.rglob("*") if p.is_file()) and all(p.is_file() for p in made)
    return out


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may alter."""
    return Path(shutil.copytree(folder, tmp_path / "own"))


def rows(folder: Path, task: str, **wanted: Any) -> list[dict[str, Any]]:
    """Outcome rows of the first view."""
    view = next(target.views[0] for target in TARGETS if target.name == task)
    table = pq.read_table(folder / "outcomes" / f"{task}.parquet").to_pylist()
    return [r for r in table if r["view"] == view and all(r[key] == value for key, value in wanted.items())]


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def sentences(path: Path) -> list[list[str]]:
    """Tag files as XTREME reads them: an empty line ends a sentence."""
    found: list[list[str]] = []
    current: list[str] = []
    for line in lines(path):
        if line:
            current.append(line)
        else:
            found.append(current)
            current = []
    return [*found, *([current] if current else [])]


def test_every_run_has_all_tasks_and_languages(submitted: Path) -> None:
    for arm in ("text", "vision"):
        for condition in ("none", "mnli"):
            for seed in ("seed-0", "seed-1"):
                run = submitted / "muse" / arm / condition / seed
                assert {p.name for p in run.iterdir()} == set(XTREME)
                for name, task in XTREME.items():
                    suffix = "json" if task.group == "question answering" else "tsv"
                    expected = {f"test-{language}.{suffix}" for language in task.languages}
                    assert {p.name for p in (run / name).iterdir()} == expected


def test_labels_score_as_the_outcomes_do(folder: Path, submitted: Path) -> None:
    run = submitted / "muse" / "vision" / "mnli" / "seed-1"
    for task in ("xnli", "pawsx"):
        seen: set[bool] = set()
        for language in ("en", "de", "zh"):
            known = rows(folder, task, arm="vision", condition="mnli", seed=1, language=language)
            predicted = lines(run / task / f"test-{language}.tsv")
            right = [p == gold(task, language, r["example"]) for p, r in zip(predicted, known, strict=True)]
            assert right == [r["accuracy.num"] == 1 for r in known]
            seen.update(right)
        assert seen == {True, False}


def test_tags_stand_one_a_line_and_sentences_apart(folder: Path, submitted: Path) -> None:
    run = submitted / "muse" / "text" / "none" / "seed-0"
    for task, metric in (("udpos", "seqeval-f1"), ("panx", "f1")):
        known = rows(folder, task, arm="text", condition="none", seed=0, language="de")
        found = sentences(run / task / "test-de.tsv")
        right = [
            " ".join(tags) == gold(task, "de", r["example"]) for tags, r in zip(found, known, strict=True)
        ]
        assert right == [r[f"{metric}.num"] == r[f"{metric}.den"] for r in known] and 0 < sum(right) < len(
            right
        )


def test_answers_stand_under_the_ids_of_the_data_set(folder: Path, submitted: Path) -> None:
    path = submitted / "muse" / "text" / "mnli" / "seed-0" / "tydiqa" / "test-te.json"
    answers = json.loads(path.read_text(encoding="utf-8"))
    known = rows(folder, "tydiqa", arm="text", condition="mnli", seed=0, language="te")
    assert list(answers) == [f"te-{r['example']:04d}" for r in known]
    for r in known:
        answer = answers[f"te-{r['example']:04d}"]
        assert (answer == gold("tydiqa", "te", r["example"])) == (r["em-f1.num"] == 1)
    assert "réponse" in path.read_text(encoding="utf-8")


def test_tatoeba_lines_are_counted_from_0(folder: Path, submitted: Path) -> None:
    """The gold line of a query is its own place in the file, as `evaluate.py` scores aligned data."""
    for condition, seed in (("none", -1), ("mnli", 1)):
        known = rows(folder, "tatoeba", arm="vision", condition=condition, seed=seed, language="sw")
        path = submitted / "muse" / "vision" / condition / "seed-1" / "tatoeba" / "test-sw.tsv"
        hits = [int(line) == place for place, line in enumerate(lines(path))]
        assert hits == [r["accuracy.num"] == 1 for r in known] and 0 < sum(hits) < len(hits)


def test_bucc_pairs_are_those_that_were_mined(folder: Path, submitted: Path) -> None:
    path = submitted / "muse" / "text" / "mnli" / "seed-0" / "bucc2018" / "test-ru.tsv"
    predicted = {tuple(line.split("\t")) for line in lines(path)}
    known = rows(folder, "bucc2018", arm="text", condition="mnli", seed=0, language="ru")
    paired = [r for r in known if r["example"] % 4]
    labels = {(f"ru-{r['example'] + 1:09d}", f"en-{r['example'] + 101:09d}") for r in paired}
    full = {f"ru-{r['example'] + 1:09d}" for r in paired if r["f1.num"] == r["f1.den"]}
    assert {first for first, _ in predicted & labels} == full and full
    # here a mined sentence is given by its example id, and `i-` says nothing of an English one
    assert all(a.startswith("ru-") and b.startswith("en-") for a, b in predicted)
    assert any(b.startswith("en-unpaired-") for _, b in predicted)


def test_a_mined_sentence_may_be_given_by_its_own_id(own: Path, tmp_path: Path) -> None:
    """`-j` is an English sentence without a partner, `i-j` one with a partner."""

    def change(table: pa.Table) -> pa.Table:
        at = table.column_names.index("prediction")
        return table.set_column(at, "prediction", pa.array(["-77", "5-88", ""] + [""] * (len(table) - 3)))

    spoil(own, "bucc2018", change)
    # one row group holds all languages and views: only the first rows, German in the primary view, still mine
    export(own, "xtreme", tmp_path / "out")
    run = tmp_path / "out" / "muse" / "text" / "mnli" / "seed-0" / "bucc2018"
    assert [line.partition("\t")[2] for line in lines(run / "test-de.tsv")] == [
        "en-000000077",
        "en-000000088",
    ]
    assert lines(run / "test-zh.tsv") == []


def test_views_that_are_not_submitted_are_not_unpacked(tmp_path: Path) -> None:
    """A sweep of 20 views costs Python no more memory than the primary one alone (Arrow's own is not counted)."""
    n = 2000
    target = {"task": "tatoeba", "view": "fixed", "languages": ["de"]}
    run = {"pair": "muse", "arm": "text", "condition": "none", "seed": -1}
    suite = {"runs": [{**run, "task": "tatoeba"}]}

    def peak(folder: Path, views: list[str]) -> int:
        (folder / "predictions").mkdir(parents=True)
        columns = {name: [value] * n * len(views) for name, value in {**run, "language": "de"}.items()}
        columns["view"] = [view for view in views for _ in range(n)]
        columns["example"] = list(range(n)) * len(views)
        columns["prediction"] = [f"{view} {i}" for view in views for i in range(n)]
        pq.write_table(pa.table(columns), folder / "predictions" / "tatoeba.predictions.parquet")
        tracemalloc.start()
        (part,) = read_predictions(folder, target, suite)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert part.predictions == [f"fixed {i}" for i in range(n)] and part.keys == [""] * n
        assert part[:5] == ("muse", "text", "none", -1, "de")
        return most

    alone = peak(tmp_path / "one", ["fixed"])
    swept = peak(tmp_path / "all", [f"layer={i},pool=mean" for i in range(20)] + ["fixed"])
    assert swept < 3 * alone


def test_scores_csv_holds_every_ratio(folder: Path, tmp_path: Path) -> None:
    (path,) = export(folder, "csv", tmp_path)
    assert path == tmp_path / "scores.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert list(found[0]) == [
        "pair", "arm", "condition", "seed", "task", "language", "view", "metric", "num", "den", "score"
    ]  # fmt: skip
    expected: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for target in TARGETS:
        for r in pq.read_table(folder / "outcomes" / f"{target.name}.parquet").to_pylist():
            for metric in target.metrics:
                key = (
                    r["arm"],
                    r["condition"],
                    str(r["seed"]),
                    target.name,
                    r["language"],
                    r["view"],
                    metric,
                )
                expected[key][0] += r[f"{metric}.num"]
                expected[key][1] += r[f"{metric}.den"]
    assert len(found) == len(expected)
    for line in found:
        key = tuple(line[n] for n in ("arm", "condition", "seed", "task", "language", "view", "metric"))
        num, den = expected[key]
        assert float(line["num"]) == pytest.approx(num) and float(line["den"]) == pytest.approx(den)
        assert float(line["score"]) == pytest.approx(num / den)


def test_a_score_without_a_denominator_is_empty(own: Path, tmp_path: Path) -> None:
    path = own / "outcomes" / "panx.parquet"
    table = pq.ParquetFile(path).read_row_group(0)
    at = table.column_names.index("f1.den")
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.set_column(at, "f1.den", pa.array([0.0] * len(table))))
    export(own, "csv", tmp_path / "out")
    with (tmp_path / "out" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        assert {line["score"] for line in csv.DictReader(stream) if line["task"] == "panx"} == {""}


def test_outcomes_that_are_no_numbers_are_not_exported(own: Path, tmp_path: Path) -> None:
    path = own / "outcomes" / "panx.parquet"
    table = pq.ParquetFile(path).read_row_group(0)
    at = table.column_names.index("f1.num")
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.set_column(at, "f1.num", pa.array([float("nan")] * len(table))))
    with pytest.raises(DataError, match=r"panx.parquet: muse / text / none / 0, en: f1 is not finite"):
        export(own, "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mteb_results_have_its_schema(folder: Path, tmp_path: Path) -> None:
    made = export(folder, "mteb", tmp_path)
    assert {p.stem for p in made} == {"xtremex-tatoeba", "xtremex-bucc2018"}
    # two arms: a deterministic run without an intermediate, and two seeds with one
    assert len(made) == 2 * 2 * 3
    result = json.loads(
        (tmp_path / "results" / "muse__text" / "mnli-seed-1" / "xtremex-tatoeba.json").read_text("utf-8")
    )
    assert set(result) == {
        "dataset_revision", "task_name", "mteb_version", "scores", "evaluation_time", "kg_co2_emissions"
    }  # fmt: skip
    entries = {entry["hf_subset"]: entry for entry in result["scores"]["test"]}
    assert len(entries) == 36 and entries["sw-en"]["languages"] == ["swa-Latn", "eng-Latn"]
    known = rows(folder, "tatoeba", arm="text", condition="mnli", seed=1, language="sw")
    accuracy = sum(r["accuracy.num"] for r in known) / len(known)
    assert entries["sw-en"]["main_score"] == entries["sw-en"]["accuracy"] == pytest.approx(accuracy)
    assert all(len(code.split("-")[0]) == 3 for entry in entries.values() for code in entry["languages"])


def test_bitext_f1_is_that_of_mteb(folder: Path, tmp_path: Path) -> None:
    """mteb: every sentence is a class, weighted by support (sklearn)."""
    export(folder, "mteb", tmp_path)
    path = folder / "predictions" / "tatoeba.predictions.parquet"
    mine = [
        r
        for r in pq.read_table(path).to_pylist()
        if (r["arm"], r["condition"], r["seed"], r["view"], r["language"])
        == ("text", "mnli", 0, "fixed", "hu")
    ]
    labels, predictions = [str(r["example"]) for r in mine], [r["prediction"] for r in mine]
    assert len(set(predictions)) < len(predictions), "a sentence that two queries share"
    oracle = precision_recall_fscore_support(labels, predictions, average="weighted", zero_division=0)
    result = json.loads(
        (tmp_path / "results" / "muse__text" / "mnli-seed-0" / "xtremex-tatoeba.json").read_text("utf-8")
    )
    entry = next(e for e in result["scores"]["test"] if e["hf_subset"] == "hu-en")
    assert [entry[k] for k in ("precision", "recall", "f1")] == pytest.approx(list(oracle[:3]))


def test_mteb_itself_reads_the_results(folder: Path, tmp_path: Path) -> None:
    results = pytest.importorskip("mteb.results", reason="pip install mteb")
    for path in export(folder, "mteb", tmp_path):
        assert 0 < results.TaskResult.from_disk(path, load_historic_data=False).get_score() <= 1


def test_unknown_format_names_its_neighbours(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown format `xtrem`") as error:
        export(folder, "xtrem", tmp_path)
    assert "`xtreme`" in error.value.hint and all(name in error.value.hint for name in FORMATS)


def spoil(folder: Path, task: str, change: Any) -> None:
    """``change(table)`` on every row group of a predictions file; None drops the group."""
    path = folder / "predictions" / f"{task}.predictions.parquet"
    source = pq.ParquetFile(path)
    tables = [change(source.read_row_group(g)) for g in range(source.num_row_groups)]
    kept = [table for table in tables if table is not None]
    with pq.ParquetWriter(path, kept[0].schema) as writer:
        for table in kept:
            writer.write_table(table)


def test_a_failure_names_what_is_missing_and_leaves_the_folder(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine", encoding="utf-8")

    def refused(error: type[Exception], said: str) -> None:
        with pytest.raises(error, match=said):
            export(own, "xtreme", out)
        assert [p.name for p in out.rglob("*")] == ["mine.txt"]
        shutil.copytree(saved, own, dirs_exist_ok=True)

    saved = Path(shutil.copytree(own, tmp_path / "saved"))

    def without_a_run(table: pa.Table) -> pa.Table | None:
        run = (table["arm"][0].as_py(), table["condition"][0].as_py(), table["seed"][0].as_py())
        return None if run == ("vision", "mnli", 1) else table

    def without_yoruba(table: pa.Table) -> pa.Table:
        return table.filter(pa.array([code != "yo" for code in table["language"].to_pylist()]))

    def column(name: str, value: str):
        def change(table: pa.Table) -> pa.Table:
            return table.set_column(table.column_names.index(name), name, pa.array([value] * len(table)))

        return change

    (own / "predictions" / "pawsx.predictions.parquet").unlink()
    refused(DataError, "pawsx.predictions.parquet does not exist")
    spoil(own, "xnli", without_a_run)
    refused(AnalysisError, "no predictions for muse / vision / mnli / 1")
    spoil(own, "panx", without_yoruba)
    refused(AnalysisError, "muse / text / none / 0: yo")
    spoil(own, "mlqa", column("key", ""))
    refused(DataError, "mlqa, muse / text / none / seed 0, `en`: 10 questions have no id")
    spoil(own, "mlqa", column("key", "same"))
    refused(DataError, "an id stands for two questions")
    spoil(own, "xnli", column("prediction", "maybe"))
    refused(DataError, "predictions hold 'maybe', and XTREME knows contradiction, entailment, neutral")
    spoil(own, "tatoeba", column("prediction", "123456"))
    refused(DataError, "123456 is no example of the test set")
    spoil(own, "udpos", lambda table: table.drop_columns(["prediction"]))
    refused(DataError, "lacks the columns prediction")
    assert export(own, "xtreme", out), "the restored folder is whole"


def test_suites_without_xtreme_or_retrieval_say_so(tmp_path: Path) -> None:
    from demo_outcomes import TARGETS as MINI

    demo = write_demo(
        tmp_path / "demo", languages=("en", "de"), examples=8, conditions=("none", "nli"), targets=MINI[:2]
    )
    with pytest.raises(AnalysisError, match="no target of this suite belongs to XTREME"):
        export(demo, "xtreme", tmp_path / "out")
    with pytest.raises(AnalysisError, match="no outcomes of retrieval"):
        export(demo, "mteb", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="does not exist"):
        export(tmp_path / "nowhere", "csv", tmp_path / "out")


def test_names_cannot_leave_the_folder(own: Path, tmp_path: Path) -> None:
    """A pair named like a path, and a condition of dots, become one folder each."""
    for part in ("predictions", "outcomes"):
        for path in (own / part).glob("*.parquet"):
            if path.name.partition(".")[0] not in ("xnli", "tatoeba"):
                path.unlink()
                continue
            tables = [
                pq.ParquetFile(path).read_row_group(g) for g in range(pq.ParquetFile(path).num_row_groups)
            ]
            with pq.ParquetWriter(path, tables[0].schema) as writer:
                for table in tables:
                    at = table.column_names.index("pair")
                    named = pa.array(["../../x"] * len(table)).dictionary_encode()
                    writer.write_table(table.set_column(at, table.schema.field("pair"), named))

    def change(suite: dict) -> None:
        suite["targets"] = [t for t in suite["targets"] if t["task"] in ("xnli", "tatoeba")]
        for run in suite["runs"]:
            run["pair"] = "../../x"
        for pair in suite["pairs"]:
            pair["name"] = "../../x"

    edit_suite(own, change)
    out = tmp_path / "deep" / "out"
    for format in FORMATS:
        made = export(own, format, out)
        assert made and all(path.resolve().is_relative_to(out.resolve()) for path in made)
    models = {"lmer.csv", "closed.csv", "lmer.R"}
    assert {p.name for p in out.iterdir()} == {"results", "scores.csv", ".._.._x", *models}
