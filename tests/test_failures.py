"""Failed and missing runs: counted per cell, tested for imbalance, left out as a sensitivity analysis."""

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest
from demo_outcomes import SMALL, write_demo
from scipy.stats import binom, fisher_exact

from xtremex.analysis.comparisons import declared
from xtremex.analysis.effects import analyse, effects
from xtremex.analysis.failures import _fisher, counts, failure_tests, zelen
from xtremex.analysis.outcomes import Record, read_record
from xtremex.analysis.study import Study

NAMES = ("mini-inference", "mini-entities")
FOUR_SEEDS = SMALL | {"examples": 60, "seeds": 4}


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    return read_record(write_demo(tmp_path_factory.mktemp("demo"), **FOUR_SEEDS))


def flagged(record, **keys) -> Record:
    """The record with some runs flagged: (arm, condition, task or None, seed) under the name of the flag."""
    runs = []
    for run in record.suite["runs"]:
        run = dict(run)
        for key, places in keys.items():
            for arm, condition, task, seed in places:
                if (arm, condition, seed) == (run["arm"], run["condition"], run["seed"]):
                    if task in (None, run["task"]):
                        run[key] = 1 if "attempt" in key else True
        runs.append(run)
    return replace(record, suite=record.suite | {"runs": runs})


def test_every_cell_is_counted(record):
    marked = flagged(
        record,
        attempt=[("text", "tags", "mini-entities", 2), ("text", "tags", "mini-entities", 3)],
        collapsed=[("text", "tags", "mini-entities", 3)],
        intermediate_collapsed=[("vision", "nli", None, 0)],
    )
    found = {(c.arm, c.condition, c.target): c for c in counts(Study(marked))}
    # 3 arms x 3 conditions x 3 targets, and retention for the two arms that have an image tower
    assert len(found) == 27 + 6 and ("text", "nli", "mini-pictures") not in found
    odd = found["text", "tags", "mini-entities"]
    assert (odd.planned, odd.analysed, odd.restarted, odd.collapsed, odd.complete) == (4, 4, 2, 1, False)
    assert {c.target for c in found.values() if c.intermediate_collapsed} == {
        t.name for t in FOUR_SEEDS["targets"]
    }
    still = found["text", "none", "mini-sentences"]
    assert (still.planned, still.analysed, still.missing, still.complete) == (1, 1, 0, True)
    assert sum(not c.complete for c in found.values()) == 1 + 4


def test_what_is_missing_is_counted(record):
    key, cell = ("vision", "nli"), ("muse", "mini-entities")
    grids = {place: dict(grid) for place, grid in record.cells.items()}
    del grids[cell][key]
    study = Study(replace(record, cells=grids))
    found = {(c.arm, c.condition, c.target): c for c in counts(study)}
    lost = found[(*key, "mini-entities")]
    assert (lost.planned, lost.analysed, lost.missing) == (4, 0, 4)


def test_languages_are_missed_where_they_are_missing(tmp_path):
    """Two runs lack languages: the table names them, and every cell says what was left out for them."""
    folder = write_demo(tmp_path, **FOUR_SEEDS)
    lacks = {("vision", "nli", 1): ["fa"], ("text", "tags", 0): ["fa", "de"], ("text", "tags", 3): ["fa"]}
    path = folder / "outcomes" / "mini-inference.parquet"
    file = pq.ParquetFile(path)
    tables = [file.read_row_group(i) for i in range(file.num_row_groups)]
    with pq.ParquetWriter(path, tables[0].schema) as writer:
        for table in tables:
            place = tuple(table[name][0].as_py() for name in ("arm", "condition", "seed"))
            gone = pa.array(lacks.get(place, []), pa.string())
            there = pa.compute.is_in(table["language"].cast(pa.string()), value_set=gone)
            writer.write_table(table.filter(pa.compute.invert(there)))
    results = analyse(folder)
    found = {(c.arm, c.condition, c.target): c for c in results.failures}
    odd = {k: c for k, c in found.items() if c.missing_languages}
    assert {k: c.missing_seeds for k, c in odd.items()} == {
        ("vision", "nli", "mini-inference"): {"fa": (1,)},
        ("text", "tags", "mini-inference"): {"de": (0,), "fa": (0, 3)},
    }
    assert {c.left_out for c in found.values() if c.target == "mini-inference"} == {("de", "fa")}
    assert {c.left_out for c in found.values() if c.target != "mini-inference"} == {()}
    assert found["vision", "none", "mini-inference"].complete and not any(c.complete for c in odd.values())
    (said,) = [w for w in results.warnings if "left out de, fa" in w]
    assert "vision/nli seed 1 lacks fa" in said and "text/tags seed 0 lacks de, fa" in said
    assert said.endswith("1 of 3 languages remain.")
    where = ("map", "vision-text", "mini-inference", "nli")
    (cell,) = [e for e in results.estimates if (e.family, e.contrast, e.target, e.condition) == where]
    assert (cell.languages, cell.examples) == (1, 60)


def test_a_seed_that_the_suite_names_and_no_run_has(record):
    more = replace(record, suite=record.suite | {"seeds": [0, 1, 2, 3, 4]})
    found = counts(Study(more))
    assert {c.missing for c in found if c.planned > 1} == {1}


def test_imbalance_is_fishers_exact_test(record):
    """R 4.2: fisher.test(matrix(c(6,0,18,24),2)) p = 0.02193633515; fisher.test(matrix(c(3,0,5,8),2)) p = 0.2."""
    study = Study(record)
    (primary, _) = declared(record.suite["pairs"][0])
    assert failure_tests(study, primary) == []
    places = [("vision", c, t, s) for c, t, s in product(("nli", "tags"), NAMES, (0, 1))][:6]
    marked = flagged(
        record,
        attempt=places,
        intermediate_attempt=[("vision", "nli", None, s) for s in (0, 1, 2)],
    )
    found = {(t.test, t.stage): t for t in failure_tests(Study(marked), primary)}
    target, before = found["imbalance", "target"], found["imbalance", "intermediate"]
    # two trained targets x 3 conditions x 4 seeds; retrieval trains nothing on its target
    assert (target.failed, target.trainings) == ({"vision": 6, "text": 0}, {"vision": 24, "text": 24})
    assert target.p == pytest.approx(0.02193633515, rel=1e-8)
    # an intermediate training counts once, whatever the targets that it feeds
    assert (before.failed, before.trainings) == ({"vision": 3, "text": 0}, {"vision": 8, "text": 8})
    assert before.p == pytest.approx(0.2)
    both = found["interaction", "target"]
    assert both.trainings == {"vision/with": 16, "text/with": 16, "vision/none": 8, "text/none": 8}
    assert both.failed == {"vision/with": 6, "text/with": 0, "vision/none": 0, "text/none": 0} and both.p == 1
    warned = effects(marked).warnings
    assert any("Fisher's exact test, p = .022" in w and "target stages failed" in w for w in warned)
    assert not any("intermediate stages failed" in w for w in warned)


def test_fisher_equals_scipys():
    rng = np.random.default_rng(1)
    tables = [((0, 0), (4, 4)), ((4, 0), (4, 4)), ((4, 4), (4, 4)), ((37, 81), (900, 1100))]
    for _ in range(300):
        trainings = tuple(rng.integers(1, 40, 2).tolist())
        tables.append((tuple(int(rng.integers(0, n + 1)) for n in trainings), trainings))
    for failed, trainings in tables:
        table = [[f, n - f] for f, n in zip(failed, trainings, strict=True)]
        assert _fisher(failed, trainings) == pytest.approx(fisher_exact(table).pvalue, rel=1e-9)


def _zelen_by_counting(failed, trainings) -> Fraction:
    a1, b1, a0, b0 = failed
    m1, n1, m0, n0 = trainings
    weights = {}
    for x, y in product(range(m1 + 1), range(m0 + 1)):
        if x + y == a1 + a0 and 0 <= a1 + b1 - x <= n1 and 0 <= a0 + b0 - y <= n0:
            weights[x] = comb(m1, x) * comb(n1, a1 + b1 - x) * comb(m0, y) * comb(n0, a0 + b0 - y)
    return Fraction(sum(w for w in weights.values() if w <= weights[a1]), sum(weights.values()))


def test_zelen_equals_counting_all_tables():
    rng = np.random.default_rng(0)
    for _ in range(200):
        trainings = rng.integers(1, 9, 4).tolist()
        failed = [int(rng.integers(0, n + 1)) for n in trainings]
        assert zelen(failed, trainings) == pytest.approx(float(_zelen_by_counting(failed, trainings)))


def test_zelen_keeps_its_level_whatever_the_common_odds_ratio():
    """Exactly, over all tables: failures are likelier in one arm, equally with and without training."""
    trainings = (6, 6, 6, 6)
    for base, other, ratio in ((0.2, 0.4, 1.0), (0.3, 0.5, 6.0)):
        odds = np.array([base / (1 - base), other / (1 - other)])
        rates = [ratio * odds[0], odds[0], ratio * odds[1], odds[1]]
        pmf = [binom.pmf(range(7), 6, x / (1 + x)) for x in rates]
        size = sum(
            np.prod([pmf[i][f] for i, f in enumerate(failed)])
            for failed in product(range(7), repeat=4)
            if zelen(failed, trainings) <= 0.05
        )
        assert 0 < size <= 0.05


def test_zelen_finds_an_interaction():
    assert zelen((9, 1, 1, 9), (10, 10, 10, 10)) < 0.001 < 0.9 < zelen((5, 5, 5, 5), (10, 10, 10, 10))


def test_the_effect_without_failed_runs(record):
    marked = flagged(
        record, collapsed=[("text", "nli", "mini-inference", 1)], attempt=[("vision", "tags", None, 3)]
    )
    found = effects(marked)
    views = {v.what: v for v in found.sensitivity if v.role == "primary"}
    assert {what: v.dropped for what, v in views.items()} == {
        "without-collapsed": 1,
        "without-restarted": 2,
        "intention-to-treat": 3,
    }

    def gain(arm, condition, without):
        total = 0.0
        for task in ("mini-inference", "mini-entities", "mini-sentences"):
            grid = record.cells["muse", task]
            with_ = np.delete(grid[arm, condition].scores, without, axis=0)
            total += with_.mean() - grid[arm, "none"].scores.mean()
        return total / 6

    # the seed goes on all targets, as they share its checkpoint
    lost = {("text", "nli"): [1]}
    for what in ("without-collapsed", "without-restarted"):
        value = sum(
            sign * gain(arm, c, lost.get((arm, c), []))
            for arm, sign in (("vision", 1), ("text", -1))
            for c in ("nli", "tags")
        )
        assert views[what].value == pytest.approx(100 * value)
        lost[("vision", "tags")] = [3]
    # the placebo has no vision arm: its restarted runs are those that collapsed
    assert [v.what for v in found.sensitivity if v.role == "placebo"] == ["without-collapsed"]
    assert not any("rests on failed runs" in w for w in found.warnings) or any(
        v.changed for v in views.values()
    )


def test_intention_to_treat_puts_first_attempts_at_the_baseline(record):
    """By hand: one restarted run of three targets under `tags` scores .3, the demo's baseline, in all languages."""
    places = [("vision", "tags", "mini-inference", 3), ("text", "none", "mini-entities", 0)]
    results = effects(flagged(record, attempt=places))
    views = {v.role: v for v in results.sensitivity if v.what == "intention-to-treat"}
    (grand,) = [e for e in results.estimates if (e.family, e.role) == ("grand", "primary")]
    # a fourth of the runs of one of six cells, and of `none`, which two conditions share on one of three targets
    moved = 0.3 - record.cells["muse", "mini-inference"]["vision", "tags"].scores[3].mean()
    none = 0.3 - record.cells["muse", "mini-entities"]["text", "none"].scores[0].mean()
    assert views["primary"].value == pytest.approx(grand.value + 100 * (moved / 4 / 6 + none / 4 / 3))
    assert views["primary"].dropped == 2 and views["placebo"].dropped == 1
    assert views["primary"].high - views["primary"].low > grand.high - grand.low
    assert [a for a in results.absent if a.view == "intention-to-treat"] == []
    # a run that failed twice is in the primary analysis already
    both = effects(flagged(record, attempt=places, collapsed=places))
    assert "intention-to-treat" not in {v.what for v in both.sensitivity}


def test_the_sign_of_noise_is_no_conclusion(record):
    """A restarted run at the baseline turns the sign of an effect that neither view shows."""
    marked = flagged(record, attempt=[("vision", "tags", None, 3)])
    results = effects(marked)
    (grand,) = [e for e in results.estimates if (e.family, e.role) == ("grand", "primary")]
    signs = set()
    for view in (v for v in results.sensitivity if v.role == "primary"):
        assert view.p > 0.05 < grand.p and not view.changed
        signs.add(view.value * grand.value > 0)
    assert False in signs
    assert not any("rests on failed runs" in w for w in results.warnings)


def test_what_intention_to_treat_cannot_know_is_said(record):
    marked = flagged(record, intermediate_attempt=[("vision", "tags", None, 3), ("vision", "nli", None, 0)])
    reasons = {a.contrast: a.reason for a in effects(marked).absent if a.view == "intention-to-treat"}
    assert set(reasons) == {"vision-text"} and reasons["vision-text"].startswith("2 intermediate trainings")
    targets = [t | {"baselines": {"en": {"constant": 0.3}}} for t in record.suite["targets"]]
    marked = flagged(record, attempt=[("text", "none", "mini-entities", 0)])
    bare = replace(marked, suite=marked.suite | {"targets": targets})
    (reason, *_) = [a.reason for a in effects(bare).absent if a.view == "intention-to-treat"]
    assert reason == "no baseline is recorded of mini-entities"


def test_a_cell_needs_two_runs_without_the_failed_ones(record):
    places = [("text", "nli", "mini-inference", seed) for seed in (0, 1, 2)]
    found = effects(flagged(record, collapsed=places))
    assert found.sensitivity == ()
    reasons = {a.contrast: a.reason for a in found.absent if a.view == "without-collapsed"}
    assert (
        set(reasons) == {"vision-text", "scrambled-text"} and "fewer than two runs" in reasons["vision-text"]
    )
    assert len([a for a in found.absent if a.view != "T3"]) == 2


def test_a_conclusion_that_rests_on_a_collapse_is_said(tmp_path):
    """One collapsed text run under `nli` pulls the mean down by so much that the sign turns."""
    record = read_record(write_demo(tmp_path, **FOUR_SEEDS, effect=0.08, run_sd=0.001))
    cells = {}
    for place, grid in record.cells.items():
        cells[place] = dict(grid)
        if place[1] != "mini-pictures":
            cell = grid["vision", "nli"]
            scores = cell.scores.copy()
            scores[1] -= 0.8
            cells[place]["vision", "nli"] = replace(cell, scores=scores)
    marked = flagged(replace(record, cells=cells), collapsed=[("vision", "nli", "mini-inference", 1)])
    found = effects(marked)
    (view,) = [v for v in found.sensitivity if v.role == "primary"]
    (grand,) = [e for e in found.estimates if (e.family, e.role) == ("grand", "primary")]
    assert view.changed and grand.value < 0 < view.value and view.p < 0.05 < grand.p
    assert any("the conclusion rests on failed runs" in w for w in found.warnings)
