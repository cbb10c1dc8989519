"""`compare`: differences of two outcome folders against tests by hand, what cancels, what is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from demo_outcomes import TARGETS, write_demo
from scipy.stats import false_discovery_control, ttest_ind
from small_suite import xtremex

from xtremex.analysis.compare import Comparison, Difference, compare, compare_records
from xtremex.analysis.compare_markdown import comparison_markdown
from xtremex.analysis.effects import analyse
from xtremex.analysis.estimator import Term, estimate
from xtremex.analysis.outcomes import Record, read_record
from xtremex.analysis.simulate import Scenario, simulate
from xtremex.benchmark.cli import app
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
def found(before: Path, after: Path) -> Comparison:
    return compare(before, after)


def edit(folder: Path, change) -> None:
    suite = json.loads((folder / "suite.json").read_text(encoding="utf-8"))
    change(suite)
    (folder / "suite.json").write_text(json.dumps(suite), encoding="utf-8")


def pick(found: Comparison, family: str, **wanted: str) -> list[Difference]:
    return [
        d
        for d in found.differences
        if d.family == family and all(getattr(d, k) == v for k, v in wanted.items())
    ]


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command line prints, in this process."""
    app([*map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


def _runs(record: Record, arm: str, condition: str, target: str) -> np.ndarray:
    return 100 * record.cells["muse", target][arm, condition].scores.mean(axis=1)


def test_differences_are_those_of_the_two_analyses(before: Path, after: Path, found: Comparison) -> None:
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


def test_run_variance_is_welchs(before: Path, after: Path, found: Comparison) -> None:
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


def test_families_are_adjusted(found: Comparison) -> None:
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


def test_shared_examples_cancel_and_others_do_not(before: Path, after: Path, tmp_path: Path) -> None:
    """Scores on one test set are paired over its examples; another version of it is another test set."""
    folder = Path(shutil.copytree(after, tmp_path / "moved"))
    edit(folder, lambda suite: suite["targets"][0].update(version="2"))
    same, moved = compare(before, after), compare(before, folder)
    assert [(c.what, c.a, c.b) for c in moved.changes if "target" in c.what] == [
        ("target mini-inference", "version 1", "version 2")
    ]
    assert any("mini-inference: the test sets differ" in note for note in moved.notes)
    for one, two in zip(pick(same, "cells"), pick(moved, "cells"), strict=True):
        assert one.value == pytest.approx(two.value)
        assert two.shared_examples == (two.target != "mini-inference")
        assert (one.se == two.se) == two.shared_examples
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
    edit(
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
    before: Path, after: Path, found: Comparison, capsys: pytest.CaptureFixture[str]
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


def test_markdown_tables_are_whole(found: Comparison) -> None:
    text = comparison_markdown(found)
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert len([line for line in tables if "muse" in line]) == len(found.differences)
    assert {line.count("|") for line in tables if "muse" in line or "verdict" in line} == {12}
