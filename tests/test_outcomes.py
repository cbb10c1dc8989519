"""Reading the record: what is refused, what is left out with a warning, and what layout changes nothing."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import SMALL, edit_suite, write_demo

from xtremex.analysis.effects import analyse
from xtremex.analysis.outcomes import read_record, read_suite
from xtremex.errors import AnalysisError, DataError


@pytest.fixture
def demo(tmp_path):
    return write_demo(tmp_path / "demo", **SMALL)


def runs(folder, task):
    """The runs of a file: [(pair, arm, condition, seed), table]."""
    file = pq.ParquetFile(folder / "outcomes" / f"{task}.parquet")
    tables = [file.read_row_group(i) for i in range(file.metadata.num_row_groups)]
    return [(tuple(t[c][0].as_py() for c in ("pair", "arm", "condition", "seed")), t) for t in tables]


def rewrite(folder, task, tables, **options):
    path = folder / "outcomes" / f"{task}.parquet"
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table, **options)


def replaced(table, name, values):
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def test_cells_are_what_was_written(demo):
    record = read_record(demo)
    assert record.warnings == ()
    grid = record.cells["muse", "mini-entities"]
    assert set(grid) == {(a, c) for a in ("text", "vision", "scrambled") for c in SMALL["conditions"]}
    for (_, arm, condition, seed), table in runs(demo, "mini-entities"):
        frame = {name: np.asarray(table[name]) for name in table.column_names}
        cell = grid[arm, condition]
        for i, language in enumerate(cell.examples.languages):
            mine = frame["language"] == language
            score = frame["f1.num"][mine].sum() / frame["f1.den"][mine].sum()
            assert cell.scores[cell.seeds.index(seed), i] == pytest.approx(score)
    deterministic = record.cells["muse", "mini-sentences"]["text", "none"]
    assert deterministic.deterministic and deterministic.scores.shape == (1, 3)
    assert {arm for arm, _ in record.cells["muse", "mini-pictures"]} == {"vision", "scrambled"}


def test_primary_view_only(demo):
    cell = read_record(demo).cells["muse", "mini-sentences"]["text", "nli"]
    (_, table) = next(x for x in runs(demo, "mini-sentences") if x[0][1:] == ("text", "nli", 0))
    primary = np.asarray(table["view"]) == "layer=1,pool=native"
    assert 0 < primary.sum() < len(primary)
    assert cell.scores[0].mean() == pytest.approx(np.asarray(table["accuracy.num"])[primary].mean())


def numbers(folder):
    """All that a report says; other bytes of the same outcomes are told apart by one field of the signature."""
    found = analyse(folder).to_json()
    found["signature"] = [
        field for field in found["signature"].split("|") if not field.startswith("outcomes:")
    ]
    return found


def test_row_order_and_split_row_groups_change_nothing(demo):
    before = numbers(demo)
    rng = np.random.default_rng(0)
    tables = [t.take(rng.permutation(len(t))) for _, t in runs(demo, "mini-inference")]
    rewrite(demo, "mini-inference", tables[::-1], row_group_size=100)
    assert numbers(demo) == before


def test_plain_string_columns_are_read(demo):
    before = numbers(demo)
    tables = []
    for _, table in runs(demo, "mini-inference"):
        for name in ("pair", "arm", "condition", "language", "view"):
            table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
        tables.append(table)
    rewrite(demo, "mini-inference", tables)
    assert numbers(demo) == before


def test_missing_folder_and_bad_json(demo, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_suite(tmp_path)
    (tmp_path / "suite.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        read_suite(tmp_path)
    for change, found in (
        (lambda s: s.update(format=2), "format 2"),
        (lambda s: s.pop("runs"), "lacks runs"),
    ):
        folder = write_demo(tmp_path / found.replace(" ", ""), **SMALL)
        edit_suite(folder, change)
        with pytest.raises(DataError, match=found):
            read_record(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["runs"][3].pop("arm"), r"runs\[3\] lacks arm"),
        (lambda s: s["targets"][1].pop("view"), r"targets\[1\] lacks view"),
        (lambda s: s["pairs"].append("other"), r"pairs\[1\] lacks name, arms, contrasts"),
        (lambda s: s.update(runs={}), r"runs\[0\] lacks pair"),
        (lambda s: s.update(conditions=None), r"conditions\[0\] lacks name, tasks"),
    ],
)
def test_entries_of_the_record_are_checked(demo, change, said):
    edit_suite(demo, change)
    with pytest.raises(DataError, match=said):
        read_record(demo)


def test_unreadable_parquet(demo):
    (demo / "outcomes" / "mini-inference.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="mini-inference.parquet"):
        read_record(demo)


def test_no_outcomes(demo):
    for path in (demo / "outcomes").iterdir():
        path.unlink()
    with pytest.raises(AnalysisError, match="no outcomes"):
        read_record(demo)


def test_missing_lineage_is_refused(demo):
    edit_suite(demo, lambda s: s["runs"].pop(0))
    with pytest.raises(AnalysisError, match="no lineage for pair muse, arm text, condition none, seed 0"):
        read_record(demo)


def test_run_without_a_job_is_refused(demo):
    edit_suite(demo, lambda s: s["runs"][3].update(job=""))
    with pytest.raises(AnalysisError, match="no lineage"):
        read_record(demo)


def test_another_attempt_is_refused(demo):
    edit_suite(demo, lambda s: s["runs"][0].update(attempt=1))
    with pytest.raises(AnalysisError, match="attempt 0, the record says 1"):
        read_record(demo)


def test_unknown_target_is_refused(demo):
    edit_suite(demo, lambda s: s["targets"].pop(0))
    with pytest.raises(AnalysisError, match="mini-inference, of which suite.json knows nothing"):
        read_record(demo)


def test_undeclared_schedule_is_refused_and_a_declared_one_warned_of(demo, tmp_path):
    edit_suite(demo, lambda s: s["schedules"][0].update(equal=False))
    with pytest.raises(AnalysisError, match="schedules differ in intermediate:nli"):
        read_record(demo)
    warnings = analyse(write_demo(tmp_path / "declared", **SMALL, exception=True)).warnings
    assert any("encoder_lr = 0.0001 (diverged at 3e-4)" in w for w in warnings)
    assert any("not equal in: intermediate:nli" in w for w in warnings)


def test_equal_seeds_are_refused(demo):
    tables = dict(runs(demo, "mini-inference"))
    source = tables["muse", "vision", "nli", 0]
    copied = tables["muse", "vision", "nli", 2]
    for part in ("accuracy.num", "accuracy.den"):
        copied = replaced(copied, part, np.asarray(source[part]))
    tables["muse", "vision", "nli", 2] = copied
    rewrite(demo, "mini-inference", list(tables.values()))
    with pytest.raises(
        AnalysisError, match="seeds 0 and 2 gave identical outcomes on 240 examples: seed not applied"
    ):
        read_record(demo)

    # a collapse to one class is the same wrong answer under every seed, but of both runs
    def collapse(*seeds):
        mine = ("mini-inference", "vision", "nli")
        edit_suite(
            demo,
            lambda s: [
                r.update(collapsed=r["seed"] in seeds)
                for r in s["runs"]
                if (r["task"], r["arm"], r["condition"]) == mine
            ],
        )

    collapse(0, 1)
    with pytest.raises(AnalysisError, match="seeds 0 and 2 gave identical"):
        read_record(demo)
    collapse(0, 2)
    assert any("muse / vision / nli (seeds 0 and 2)" in w for w in read_record(demo).warnings)


@pytest.mark.parametrize("wrong", [3, 19, 20])
def test_two_seeds_may_fail_on_the_same_few(demo, wrong):
    """Where a task is nearly solved, equal outcomes are a warning; from twenty failures on they are no chance."""
    tables = dict(runs(demo, "mini-inference"))
    for seed in (0, 2):
        table = tables["muse", "vision", "nli", seed]
        right = (np.arange(len(table)) >= wrong).astype(float)
        tables["muse", "vision", "nli", seed] = replaced(table, "accuracy.num", right)
    rewrite(demo, "mini-inference", list(tables.values()))
    if wrong == 20:
        with pytest.raises(AnalysisError, match="seeds 0 and 2 gave identical"):
            read_record(demo)
    else:
        assert any("muse / vision / nli (seeds 0 and 2)" in w for w in read_record(demo).warnings)


def test_a_floor_is_no_duplicate(demo):
    tables = [t for _, t in runs(demo, "mini-entities")]
    tables = [
        replaced(replaced(t, "f1.num", np.zeros(len(t))), "f1.den", np.full(len(t), 2.0)) for t in tables
    ]
    rewrite(demo, "mini-entities", tables)
    results = analyse(demo)
    (warning,) = [w for w in results.warnings if "identical outcomes" in w]
    assert warning.startswith("mini-entities") and warning.count("(seeds 0 and 1)") == 9
    # nothing varies: the cell has no test, the others keep theirs
    undefined = [e for e in results.estimates if e.p is None]
    assert {e.target for e in undefined} == {"mini-entities"} and all(e.p_adjusted is None for e in undefined)
    assert all(e.verdict == "inconclusive" and e.se == 0 for e in undefined)
    assert {e.family_size for e in results.estimates if e.family == "map"} == {4}
    json.dumps(results.to_json(), allow_nan=False)


def test_deterministic_run_beside_others_is_refused(demo):
    tables = []
    for (_, arm, condition, seed), table in runs(demo, "mini-sentences"):
        if (arm, condition, seed) == ("text", "nli", 1):
            table = replaced(table, "seed", np.full(len(table), -1))
        tables.append(table)
    rewrite(demo, "mini-sentences", tables)
    edit_suite(
        demo,
        lambda s: [
            r.update(seed=-1)
            for r in s["runs"]
            if (r["task"], r["arm"], r["condition"], r["seed"]) == ("mini-sentences", "text", "nli", 1)
        ],
    )
    with pytest.raises(AnalysisError, match="deterministic run"):
        read_record(demo)


def test_missing_language_is_left_out_everywhere(demo):
    tables = []
    for (_, arm, condition, seed), table in runs(demo, "mini-inference"):
        if (arm, condition, seed) == ("vision", "nli", 1):
            table = table.filter(pa.compute.not_equal(table["language"].cast(pa.string()), "fa"))
        tables.append(table)
    rewrite(demo, "mini-inference", tables)
    record = read_record(demo)
    assert all(c.examples.languages == ("en", "de") for c in record.cells["muse", "mini-inference"].values())
    assert any("left out fa" in w for w in record.warnings)
    assert all(len(c.examples.languages) == 3 for c in record.cells["muse", "mini-entities"].values())


def test_runs_without_a_language_in_common_are_refused(demo):
    for spoilt, said in (
        ("nli", "its runs have no language in common"),
        ("", "no language was scored in all"),
    ):
        tables = []
        for (_, arm, condition, seed), table in runs(demo, "mini-inference"):
            language = table["language"].cast(pa.string())
            if arm == "vision" and (condition == spoilt or not spoilt):
                only = ("en", "de", "fa")[seed] if spoilt else "fa"
                table = table.filter(pa.compute.equal(language, only))
            elif not spoilt:
                table = table.filter(pa.compute.not_equal(language, "fa"))
            tables.append(table)
        copy = demo.parent / f"copy{spoilt}"
        shutil.copytree(demo, copy)
        rewrite(copy, "mini-inference", tables)
        with pytest.raises(AnalysisError, match=said) as error:
            read_record(copy)
        assert spoilt or "text/none seed 0 lacks fa" in str(error.value)


def test_missing_seed_is_left_out_on_all_targets(demo):
    kept = [t for key, t in runs(demo, "mini-inference") if key != ("muse", "text", "tags", 2)]
    rewrite(demo, "mini-inference", kept)
    record = read_record(demo)
    for task in ("mini-inference", "mini-entities", "mini-sentences"):
        assert record.cells["muse", task]["text", "tags"].seeds == (0, 1)
        assert record.cells["muse", task]["text", "nli"].seeds == (0, 1, 2)
    assert any("seeds 2 are missing on some targets" in w for w in record.warnings)


def test_missing_cell_and_target(demo):
    kept = [t for key, t in runs(demo, "mini-inference") if key[1:3] != ("vision", "nli")]
    rewrite(demo, "mini-inference", kept)
    (demo / "outcomes" / "mini-entities.parquet").unlink()
    results = analyse(demo)
    assert any("No outcomes for mini-entities" in w for w in results.warnings)
    assert any("mini-inference: no outcomes for vision/nli" in w for w in results.warnings)
    cells = {(e.condition, e.target) for e in results.estimates if e.family == "map" and e.role == "primary"}
    assert cells == {("tags", "mini-inference"), ("nli", "mini-sentences"), ("tags", "mini-sentences")}
    placebo = [e for e in results.estimates if e.family == "map" and e.role == "placebo"]
    assert len(placebo) == 4


def test_one_seed_of_a_cell_leaves_the_cell_out(demo):
    for task in ("mini-inference", "mini-entities", "mini-sentences"):
        rewrite(
            demo,
            task,
            [t for k, t in runs(demo, task) if k[1:] not in {("text", "nli", 1), ("text", "nli", 2)}],
        )
    results = analyse(demo)
    assert any("the cell was left out (two are needed)" in w for w in results.warnings)
    assert {e.condition for e in results.estimates} == {"*", "tags"} and {
        e.tier for e in results.estimates
    } == {"T2"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: replaced(t, "example", np.asarray(t["example"]) + 1), "other examples"),
        (lambda t: t.slice(1), "other examples"),
        (lambda t: pa.concat_tables([t, t.slice(0, 1)]), "twice"),
        (lambda t: replaced(t, "accuracy.num", np.full(len(t), np.nan)), "finite"),
        (
            lambda t: replaced(t, "accuracy.den", np.zeros(len(t))),
            "mini-inference: muse / .*`en` has a numerator",
        ),
        (lambda t: replaced(t, "view", ["elsewhere"] * len(t)), "no rows of view"),
        (lambda t: replaced(t, "language", ["xx"] * len(t)), "languages unknown"),
    ],
)
def test_damaged_runs_are_refused(demo, damage, message):
    tables = [t for _, t in runs(demo, "mini-inference")]
    tables[4] = damage(tables[4])
    rewrite(demo, "mini-inference", tables)
    with pytest.raises((AnalysisError, DataError), match=message):
        read_record(demo)


def test_layout_is_refused(demo):
    tables = [t for _, t in runs(demo, "mini-inference")]
    pq.write_table(pa.concat_tables(tables), demo / "outcomes" / "mini-inference.parquet")
    with pytest.raises(DataError, match="row group 0 mixes values"):
        read_record(demo)
    rewrite(demo, "mini-inference", [t.drop_columns(["cluster"]) for t in tables])
    with pytest.raises(DataError, match="lacks the columns cluster"):
        read_record(demo)
    rewrite(demo, "mini-inference", [t.drop_columns(["accuracy.den"]) for t in tables])
    with pytest.raises(DataError, match=r"lacks the columns accuracy\.den"):
        read_record(demo)
