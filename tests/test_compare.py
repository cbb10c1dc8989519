"""`compare`: differences of two outcome folders against tests by hand, what cancels, what is told."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_outcomes import TARGETS, edit_suite, write_demo
from scipy.stats import false_discovery_control, ttest_ind
from scipy.stats import t as student_t
from small_suite import printed, xtremex

from xtremex.analysis.compare import Difference, RecordComparison, compare, compare_records
from xtremex.analysis.compare_markdown import comparison_markdown
from xtremex.analysis.effects import analyse
from xtremex.analysis.estimator import Term, estimate
from xtremex.analysis.outcomes import Record, read_record
from xtremex.analysis.simulate import Scenario, simulate
from xtremex.benchmark.statistics_tables import print_comparison
from xtremex.errors import AnalysisError

OPTIONS: dict[str, Any] = {
    "arms": ("text", "vision"),
    "conditions": ("none", "nli", "tags"),
    "targets": (*TARGETS[:3], TARGETS[6]),
    "languages": ("en", "de", "fa"),
    "examples": 60,
}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("before"), seed=0, **OPTIONS)


@pytest.fixture(scope="module")
def after(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("after"), seed=1, seeds=5, effect=0.08, **OPTIONS)


@pytest.fixture(scope="module")
def found(before: Path, after: Path) -> RecordComparison:
    return compare(before, after)


def pick(found: RecordComparison, family: str, **wanted: str) -> list[Difference]:
    return [
        d
        for d in found.differences
        if d.family == family and all(getattr(d, k) == v for k, v in wanted.items())
    ]


def _runs(record: Record, arm: str, condition: str, target: str) -> np.ndarray:
    return 100 * record.cells["muse", target][arm, condition].scores.mean(axis=1)


def test_differences_are_those_of_the_two_analyses(
    before: Path, after: Path, found: RecordComparison
) -> None:
    one, two = analyse(before), analyse(after)
    effects = {(e.family, e.contrast, e.condition, e.target): e.value for e in one.estimates}
    others = {(e.family, e.contrast, e.condition, e.target): e.value for e in two.estimates}
    compared = {(d.family, d.name, d.condition, d.target): d for d in found.differences if d.what == "effect"}
    assert set(compared) == set(effects) == set(others)
    for key, d in compared.items():
        assert (d.a, d.b) == pytest.approx((effects[key], others[key]))
        assert d.value == pytest.approx(d.b - d.a) and d.low < d.value < d.high
    scores = {(s.arm, s.condition, s.target): 100 * s.mean for s in one.scores}
    cells = {(d.name, d.condition, d.target): d.a for d in pick(found, "cells")}
    assert cells == pytest.approx(scores)


def test_run_variance_is_welchs(before: Path, after: Path, found: RecordComparison) -> None:
    """The runs' part is that of Welch's two-sample t; the examples, the same in both, add theirs."""
    one, two = read_record(before), read_record(after)
    for d in pick(found, "cells", name="vision", target="mini-topic"):
        x, y = (_runs(r, "vision", d.condition, "mini-topic") for r in (one, two))
        t = float(np.asarray(ttest_ind(y, x, equal_var=False))[0])
        alone = (y.mean() - x.mean()) / t
        assert d.value == pytest.approx(y.mean() - x.mean())
        cells = {
            side: r.cells["muse", "mini-topic"]["vision", d.condition] for side, r in (("A", one), ("B", two))
        }
        fit = estimate([Term(cells, {"A": -1.0, "B": 1.0})])
        assert d.se == pytest.approx(100 * fit.se) and d.p == pytest.approx(fit.p)
        assert 1e4 * fit.v_run == pytest.approx(alone**2)
        assert d.seeds == (3, 5) and d.tier == "T2"


def _table(folder: Path, target: str, arm: str, condition: str) -> dict[int, dict[tuple[str, int], float]]:
    """seed -> (language, example) -> outcome, straight from the file."""
    rows = pq.read_table(folder / "outcomes" / f"{target}.parquet").to_pylist()
    found: dict[int, dict[tuple[str, int], float]] = {}
    for row in rows:
        if (row["arm"], row["condition"]) == (arm, condition):
            found.setdefault(row["seed"], {})[row["language"], row["example"]] = row["accuracy.num"]
    return found


def test_one_cell_by_hand(before: Path, after: Path, found: RecordComparison) -> None:
    """A parallel test set of three languages, loops over the rows of the files: reference 2.2 with c = (-1, +1)."""
    [d] = pick(found, "cells", name="vision", condition="nli", target="mini-inference")
    sides = [_table(folder, "mini-inference", "vision", "nli") for folder in (before, after)]
    languages, items = ("en", "de", "fa"), range(60)
    v_run, run_parts, values = 0.0, [], []
    contrast = dict.fromkeys(items, 0.0)
    within = 0.0
    for sign, runs in zip((-1, 1), sides, strict=True):
        size = len(runs)
        scores = [[np.mean([run[code, i] for i in items]) for code in languages] for run in runs.values()]
        per_run = [np.mean(row) for row in scores]
        values.append(np.mean(per_run))
        part = float(np.var(per_run, ddof=1)) / size
        v_run, run_parts = v_run + part, [*run_parts, (part, size - 1)]
        # one item is three sentences: a run may err on it in all of them
        right = {i: [np.mean([run[code, i] for code in languages]) for run in runs.values()] for i in items}
        for i in items:
            contrast[i] += sign * float(np.mean(right[i]))
        noise = np.mean([np.var(right[i], ddof=1) for i in items])
        within += float(noise - np.var(per_run, ddof=1)) / size
    v_examples = max(0.0, (float(np.var(list(contrast.values()), ddof=1)) - within) / 60)
    assert v_examples > 0
    assert d.value == pytest.approx(100 * (values[1] - values[0]))
    assert d.se == pytest.approx(100 * (v_run + v_examples) ** 0.5)
    shares = sum(v * v / df for v, df in [*run_parts, (v_examples, 59)])
    assert d.df == pytest.approx((v_run + v_examples) ** 2 / shares)
    half = student_t.ppf(0.975, d.df) * d.se
    assert (d.low, d.high) == pytest.approx((d.value - half, d.value + half))
    assert d.p == pytest.approx(2 * student_t.sf(abs(d.value) / d.se, d.df))


def test_outcomes_that_do_not_vary_are_not_the_same(
    before: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All wrong in A and all right in B: no variance, no test, and nothing "equivalent" about it."""
    folders = [Path(shutil.copytree(before, tmp_path / side)) for side in "AB"]
    for folder, outcome in zip(folders, (0.0, 1.0), strict=True):
        path = folder / "outcomes" / "mini-topic.parquet"
        with pq.ParquetFile(path) as source:
            groups = [source.read_row_group(i) for i in range(source.num_row_groups)]
        column = groups[0].schema.get_field_index("accuracy.num")
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                constant = pa.array(np.full(group.num_rows, outcome))
                writer.write_table(group.set_column(column, "accuracy.num", constant))
    found = compare(*folders)
    [d] = pick(found, "cells", name="vision", condition="nli", target="mini-topic")
    assert (d.a, d.b, d.value) == (0, 100, 100) and d.p is None and not d.same_runs
    print_comparison(replace(found, differences=[d]), cells=True)
    assert "inconclusive" in capsys.readouterr().out
    assert d.verdict == "inconclusive"
    text = comparison_markdown(compare(*folders))
    assert (
        "| mini-topic | 0.00 | 100.00 | +100.00 | \\[100.00, 100.00\\] | n/a | n/a | inconclusive |" in text
    )


def test_families_are_adjusted(found: RecordComparison) -> None:
    rows = pick(found, "map")
    assert len(rows) == 6
    assert [d.p_adjusted for d in rows] == pytest.approx(false_discovery_control([d.p for d in rows]))
    [grand] = pick(found, "grand")
    assert grand.p_adjusted == grand.p and grand.verdict == "different"
    conditions = pick(found, "conditions")
    smallest = min(conditions, key=lambda d: d.p or 1)
    assert smallest.p_adjusted == pytest.approx(2 * (smallest.p or 1))
    # retention is compared as a score and enters no mean
    assert {d.target for d in pick(found, "cells")} == {t.name for t in OPTIONS["targets"]}
    [mean] = pick(found, "means", name="vision", condition="nli")
    parts = [
        d.value for d in pick(found, "cells", name="vision", condition="nli") if d.target != "mini-pictures"
    ]
    assert mean.value == pytest.approx(np.mean(parts))


def test_a_folder_equals_itself(before: Path) -> None:
    found = compare(before, before)
    assert not found.changes and all(d.value == 0 and d.p is None for d in found.differences)
    assert {d.verdict for d in found.differences} == {"equivalent"}
    assert any("hold the same runs" in note for note in found.notes)


def test_runs_that_both_have_cancel(before: Path, tmp_path: Path) -> None:
    """One arm trained again: the other arm's runs are the same, and add nothing to the change of the effect."""
    folder = Path(shutil.copytree(before, tmp_path / "again"))
    other = write_demo(tmp_path / "other", seed=7, **OPTIONS)
    for path in (folder / "outcomes").glob("*.parquet"):
        sources = [pq.ParquetFile(p) for p in (path, other / "outcomes" / path.name)]
        tables = [s.read_row_group(i) for s in sources for i in range(s.num_row_groups)]
        half = len(tables) // 2
        kept = [t for t in tables[:half] if t["arm"][0].as_py() == "text"]
        fresh = [t for t in tables[half:] if t["arm"][0].as_py() == "vision"]
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in [*kept, *fresh]:
                writer.write_table(table.cast(tables[0].schema))
    found = compare(before, folder)
    assert all(d.value == 0 and d.p is None for d in pick(found, "cells", name="text"))
    [grand] = pick(found, "grand")
    one, two = read_record(before), read_record(folder)
    tasks = [t.name for t in OPTIONS["targets"] if not t.retention]

    def gain(record: Record) -> float:
        runs = {
            c: np.mean([_runs(record, "vision", c, t).mean() for t in tasks]) for c in OPTIONS["conditions"]
        }
        return float((runs["nli"] + runs["tags"]) / 2 - runs["none"])

    assert grand.value == pytest.approx(gain(two) - gain(one))
    # four of eight cells of each target moved: less variance than where all did
    all_new = next(d for d in compare(before, other).differences if d.family == "grand")
    assert grand.se < all_new.se


def test_runs_that_are_the_same_on_one_target_only_are_told(
    before: Path, after: Path, tmp_path: Path
) -> None:
    other = write_demo(tmp_path / "other", seed=7, **OPTIONS)
    shutil.copy(before / "outcomes" / "mini-topic.parquet", other / "outcomes" / "mini-topic.parquet")
    found = compare(before, other)
    assert any("6 arms and conditions are the same on some targets only" in note for note in found.notes)
    assert not any("on some targets only" in note for note in compare(before, before).notes)
    assert {d.same_runs for d in pick(found, "cells", target="mini-topic")} == {True}
    assert not any(d.same_runs for d in pick(found, "grand"))


def test_shared_examples_cancel_and_others_do_not(before: Path, after: Path, tmp_path: Path) -> None:
    """Scores on one test set are paired over its examples; another version of it is another test set."""
    folder = Path(shutil.copytree(after, tmp_path / "moved"))
    edit_suite(folder, lambda suite: suite["targets"][0].update(version="2"))
    same, moved = compare(before, after), compare(before, folder)
    assert [(c.what, c.a, c.b) for c in moved.changes if "target" in c.what] == [
        ("target mini-inference", "version 1", "version 2")
    ]
    assert any("mini-inference: the test sets differ" in note for note in moved.notes)
    for one, two in zip(pick(same, "cells"), pick(moved, "cells"), strict=True):
        assert one.value == pytest.approx(two.value)
        assert two.shared_examples == (two.target != "mini-inference")
        assert (one.se == two.se) == two.shared_examples
    # another commit of the data may hold other examples under the same numbers
    edit_suite(folder, lambda suite: suite["targets"][0].update(version="1", revision="b"))
    own = Path(shutil.copytree(before, tmp_path / "own"))
    edit_suite(own, lambda suite: suite["targets"][0].update(revision="a"))
    other = compare(own, folder)
    assert [d.se for d in other.differences] == [d.se for d in moved.differences]
    assert ("target mini-inference, data", "a", "b") in [(c.what, c.a, c.b) for c in other.changes]
    # where an older record does not name it, ids and sizes decide
    assert [d.se for d in compare(before, folder).differences] == [d.se for d in same.differences]
    # the examples' shared difficulty cancels in a difference of scores: pairing is narrower on average
    inference = [
        sum(d.se for d in pick(x, "cells", target="mini-inference") if d.p is not None) for x in (same, moved)
    ]
    assert inference[0] != inference[1]


def test_languages_of_both_are_compared(before: Path, tmp_path: Path) -> None:
    folder = write_demo(tmp_path, seed=3, **{**OPTIONS, "languages": ("en", "fa", "zh")})
    found = compare(before, folder)
    assert {d.languages for d in found.differences} == {2}
    assert any("without de, zh" in note for note in found.notes)


def test_what_does_not_match_is_told(before: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = OPTIONS | {"targets": TARGETS[1:4], "conditions": ("none", "nli")}
    folder = write_demo(tmp_path / "fewer", seed=3, **options)
    edit_suite(
        folder,
        lambda suite: suite["targets"][0].update(metric="accuracy") or suite["analysis"].update(alpha=0.1),
    )
    found = compare(before, folder)
    assert {d.target for d in pick(found, "cells")} == {"mini-topic", "mini-entities"}
    assert {d.condition for d in pick(found, "cells")} == {"none", "nli"}
    assert "muse / mini-reading only in B" in found.notes[0] and "mini-inference only in A" in found.notes[0]
    assert [(c.a, c.b) for c in found.changes if c.what == "analysis alpha"] == [("0.05", "0.1")]
    assert found.alpha == 0.05
    with pytest.raises(AnalysisError, match="no pair and target in common"):
        compare(before, write_demo(tmp_path / "none", **{**OPTIONS, "pairs": ("other",)}))


def test_one_seed_is_tier_t0(before: Path, tmp_path: Path) -> None:
    found = compare(before, write_demo(tmp_path, seed=3, seeds=1, **OPTIONS))
    assert {d.tier for d in found.differences} == {"T0"}
    [method] = [note for note in found.notes if "MWV-t" in note]
    assert "tier T0" in method and "these checkpoints only" in method


def test_what_the_intervals_rest_on_is_told(before: Path, found: RecordComparison, tmp_path: Path) -> None:
    [method] = [note for note in found.notes if "MWV-t" in note]
    assert "tier T2" in method and "Welch" in method and "Two seeds" not in method and "own" not in method
    asked = {"tier": "T3", "df": "pooled"}
    two = write_demo(tmp_path, seed=3, seeds=2, effect=-0.3, run_sd=0.0, analysis=asked, **OPTIONS)
    [method] = [note for note in compare(before, two).notes if "MWV-t" in note]
    assert "two seeds" in method and "The suites' own analysis is T3/pooled" in method
    differences = compare(before, two).differences
    assert {d.tier for d in differences} == {"T2"}
    # two seeds carry no verdict; where nothing is trained none is needed
    assert {(d.provisional, d.verdict) for d in differences if d.seeds[1] == 2} == {(True, "inconclusive")}
    assert any(d.provisional and d.p_adjusted is not None and d.p_adjusted < 0.05 for d in differences)


def test_arms_conditions_and_losses_of_one_folder_are_told(before: Path, tmp_path: Path) -> None:
    """Means are over what both have: then they are not those of the two reports, and the reader is told."""
    more: dict[str, Any] = OPTIONS | {
        "arms": ("text", "vision", "scrambled"),
        "conditions": ("none", "nli", "qa"),
    }
    folder = write_demo(tmp_path / "more", seed=3, **more)
    path = folder / "outcomes" / "mini-topic.parquet"
    with pq.ParquetFile(path) as source:
        groups = [source.read_row_group(i) for i in range(source.num_row_groups)]
    lost = ("vision", "nli", 2)
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for group in groups:
            if tuple(group[name][0].as_py() for name in ("arm", "condition", "seed")) != lost:
                writer.write_table(group)
    notes = compare(before, folder).notes
    assert any("condition tags only in A" in n and "arm scrambled only in B" in n for n in notes)
    assert any("condition qa only in B" in n and "Means are over what both have" in n for n in notes)
    assert any(n.startswith("B: ") and "seeds 2 are missing" in n for n in notes)


def test_another_layer_is_read_on_the_same_queries(before: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = OPTIONS | {"targets": (TARGETS[4],)}
    one, two = (write_demo(tmp_path / name, seed=0, **options) for name in "ab")
    edit_suite(two, lambda suite: suite["targets"][0].update(view=TARGETS[4].views[1]))
    found = compare(one, two)
    assert all(d.shared_examples for d in found.differences)
    assert any("layer=1,pool=native in A and at layer=0,pool=mean in B" in note for note in found.notes)


def test_an_older_record_has_the_defaults(before: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(before, tmp_path / "older"))
    edit_suite(folder, lambda suite: suite["analysis"].update(tier="T2", df="welch", primary=""))
    assert compare(before, folder).changes == ()
    edit_suite(folder, lambda suite: suite["pairs"][0]["arms"].update(vision="another"))
    assert [(c.what, c.b) for c in compare(before, folder).changes] == [("arm muse / vision", "another")]


def test_error_rate_of_a_change_that_is_none() -> None:
    """300 simulated pairs of suites on one test set, no effect in either; .06 and twice the Monte-Carlo error."""
    suite: dict[str, Any] = {
        "signature": "x",
        "pairs": [
            {"name": "p", "contrasts": [{"name": "v-t", "plus": "v", "minus": "t", "role": "primary"}]}
        ],
        "conditions": [{"name": "none"}, {"name": "nli"}],
        "targets": [{"task": "topic", "metric": "accuracy", "retention": False, "parallel": False}],
        "analysis": {"alpha": 0.05},
    }
    scenario = Scenario(conditions=3, languages=4, examples=80, sd_effect_language=0.0)
    rng, missed, widths = np.random.default_rng(11), 0, []
    for _ in range(300):
        cells = simulate(scenario, rng)[0].cells()
        plus, minus = cells[:4], cells[4:]
        # A: the first condition against none; B: the second against the third
        one, two = (
            {(arm, name): side[k] for arm, side in (("v", plus), ("t", minus)) for name, k in chosen.items()}
            for chosen in ({"nli": 0, "none": 3}, {"nli": 1, "none": 2})
        )
        a, b = (Record(suite, {("p", "topic"): grid}, (), {}, {}) for grid in (one, two))
        [grand] = pick(compare_records(a, b), "grand")
        assert grand.shared_examples
        missed += not grand.low <= 0 <= grand.high
        widths.append(grand.high - grand.low)
    assert missed / 300 <= 0.06 + 2 * (0.05 * 0.95 / 300) ** 0.5
    assert np.std(widths) < np.mean(widths)


def test_command_in_its_three_forms(
    before: Path, after: Path, found: RecordComparison, capsys: pytest.CaptureFixture[str]
) -> None:
    means = printed(capsys, "compare", before, after)
    assert "single cells are not shown" in means and "vision-text" in means
    [grand] = pick(found, "grand")
    assert f"[{grand.low:.2f}, {grand.high:.2f}]".replace("-", "\N{MINUS SIGN}") in means
    every = printed(capsys, "compare", before, after, "--cells")
    assert len(every.splitlines()) > len(means.splitlines()) + len(pick(found, "cells"))
    tree = json.loads(printed(capsys, "compare", before, after, "--json"))
    assert len(tree["differences"]) == len(found.differences)
    assert printed(capsys, "compare", before, after, "--markdown") == comparison_markdown(found)
    done = xtremex("compare", before, before / "outcomes")
    assert done.returncode == 2 and "suite.json" in done.stderr


def test_markdown_tables_are_whole(found: RecordComparison) -> None:
    text = comparison_markdown(found)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len([line for line in tables if "muse" in line]) == len(found.differences)
    assert {line.count("|") for line in tables if "muse" in line or "verdict" in line} == {12}
