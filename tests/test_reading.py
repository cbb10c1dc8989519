"""The fast path of reading: what runs share is decoded once, and nothing that differs is taken for equal."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import TARGETS, write_demo

from xtremex.analysis import outcomes
from xtremex.analysis.estimator import Cell, Examples
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.reduction import Sums, cell_of_runs
from xtremex.analysis.runs import OutcomeFile, read_run, runs_of
from xtremex.errors import AnalysisError, DataError


@pytest.fixture
def demo(tmp_path):
    return write_demo(
        tmp_path / "demo",
        targets=(TARGETS[0], TARGETS[2], TARGETS[4]),
        conditions=("none", "nli"),
        languages=("en", "de", "fa"),
        examples=80,
        restart=False,
    )


def tables_of(folder, task):
    file = pq.ParquetFile(folder / "outcomes" / f"{task}.parquet")
    return [file.read_row_group(i) for i in range(file.metadata.num_row_groups)]


def write(folder, task, tables):
    with pq.ParquetWriter(folder / "outcomes" / f"{task}.parquet", tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)


def with_column(table, name, values):
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def read_all(folder, task):
    suite = json.loads((folder / "suite.json").read_text())
    target = next(t for t in suite["targets"] if t["task"] == task)
    lineage = {(r["task"], r["pair"], r["arm"], r["condition"], str(r["seed"])): r for r in suite["runs"]}
    file = OutcomeFile(folder / "outcomes" / f"{task}.parquet")
    found = runs_of(file, lineage)
    return found, [read_run(file, target, run, {"attempt": 0}) for run in found]


@pytest.mark.parametrize("metric", ["accuracy", "f1"])
@pytest.mark.parametrize("seeds", [1, 4])
@pytest.mark.parametrize("shared", [False, True])
def test_reduction_is_that_of_the_cell(metric, seeds, shared):
    rng = np.random.default_rng(0)
    offsets = np.array([0, 30, 130, 150])
    example = np.concatenate([np.arange(n, dtype=np.int32) for n in np.diff(offsets)])
    examples = Examples(("a", "b", "c"), offsets, example, example)
    num = [(rng.random(150) < 0.6).astype(float) for _ in range(seeds)]
    den = [np.ones(150) if metric == "accuracy" else rng.integers(1, 5, 150).astype(float) for _ in num]
    den = [den[0]] * seeds if shared else den
    if metric == "f1":
        for top in num if shared else num[:1]:
            top[:30] = 0.0
        den[0][:30] = 0.0  # nothing predicted, nothing to find: 0
    expected = Cell.from_counts(examples, np.stack(num), np.stack(den))
    found = cell_of_runs(Sums(examples), num, den, range(seeds))
    assert found.seeds == expected.seeds
    for name in ("scores", "contributions", "within"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), abs=1e-13)


def test_runs_share_what_is_equal(demo):
    _, rows = read_all(demo, "mini-inference")
    assert all(row.examples is rows[0].examples and row.den is rows[0].den for row in rows)
    assert len({id(row.num) for row in rows}) == len(rows)
    _, rows = read_all(demo, "mini-entities")
    # predicted spans are part of F1's denominator, so that it differs from run to run
    assert all(row.examples is rows[0].examples for row in rows) and rows[0].den is not rows[1].den


def test_rows_are_those_of_the_file(demo):
    for task in ("mini-inference", "mini-entities", "mini-sentences"):
        metric = "f1" if task == "mini-entities" else "accuracy"
        for table, row in zip(tables_of(demo, task), read_all(demo, task)[1], strict=True):
            first = np.asarray(table["view"]) == table["view"][0].as_py()
            codes = np.asarray(table["language"])[first]
            at = np.concatenate([np.flatnonzero(first)[codes == code] for code in row.examples.languages])
            assert np.array_equal(row.num, np.asarray(table[f"{metric}.num"])[at])
            assert np.array_equal(row.den, np.asarray(table[f"{metric}.den"])[at])
            assert np.array_equal(row.examples.example, np.asarray(table["example"])[at])


@pytest.mark.parametrize("column", ["example", "cluster"])
def test_one_changed_id_in_a_later_run_is_seen(demo, column):
    tables = tables_of(demo, "mini-inference")
    values = np.asarray(tables[4][column]).copy()
    values[79] = 10_000
    tables[4] = with_column(tables[4], column, values)
    write(demo, "mini-inference", tables)
    with pytest.raises(AnalysisError, match="other examples"):
        read_record(demo)


def test_an_example_twice_in_a_later_run_is_seen(demo):
    tables = tables_of(demo, "mini-inference")
    values = np.asarray(tables[4]["example"]).copy()
    values[1] = values[0]
    tables[4] = with_column(tables[4], "example", values)
    write(demo, "mini-inference", tables)
    with pytest.raises(DataError, match="twice"):
        read_record(demo)


def test_a_later_run_in_another_order_has_its_own_order(demo):
    before = read_all(demo, "mini-entities")[1]
    tables = tables_of(demo, "mini-entities")
    tables[2] = tables[2].take(np.random.default_rng(0).permutation(len(tables[2])))
    write(demo, "mini-entities", tables)
    for old, new in zip(before, read_all(demo, "mini-entities")[1], strict=True):
        assert np.array_equal(old.num, new.num) and np.array_equal(old.den, new.den)
        assert old.examples.same_as(new.examples)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_one_bad_denominator_in_a_later_run_is_seen(demo, value):
    """Parquet's statistics leave NaN out: a column of 1 and NaN looks constant there."""
    tables = tables_of(demo, "mini-inference")
    values = np.asarray(tables[5]["accuracy.den"]).copy()
    values[7] = value
    tables[5] = with_column(tables[5], "accuracy.den", values)
    write(demo, "mini-inference", tables)
    with pytest.raises(DataError, match="denominators finite"):
        read_record(demo)


def test_narrow_types_are_read(demo):
    """A writer may store whole numbers in fewer bytes."""
    before = read_record(demo)
    tables = tables_of(demo, "mini-entities")
    for name in ("f1.num", "f1.den"):
        place = tables[0].column_names.index(name)
        tables = [t.set_column(place, name, t[name].cast(pa.uint8())) for t in tables]
    write(demo, "mini-entities", tables)
    after = read_record(demo)
    for key, cell in before.cells["muse", "mini-entities"].items():
        assert np.array_equal(after.cells["muse", "mini-entities"][key].scores, cell.scores)


def test_threads_change_nothing(demo, monkeypatch):
    several = read_record(demo)
    monkeypatch.setattr(outcomes, "THREADS", 1)
    one = read_record(demo)
    assert list(one.cells) == list(several.cells) and one.warnings == several.warnings
    for key, grid in one.cells.items():
        for name, cell in grid.items():
            assert np.array_equal(cell.contributions, several.cells[key][name].contributions)


def test_the_first_file_of_two_that_fail_is_named(demo):
    for task in ("mini-inference", "mini-sentences"):
        tables = tables_of(demo, task)
        values = np.full(len(tables[0]), np.nan)
        write(demo, task, [with_column(tables[0], "accuracy.num", values), *tables[1:]])
    for _ in range(3):
        with pytest.raises(DataError, match="mini-inference"):
            read_record(demo)
