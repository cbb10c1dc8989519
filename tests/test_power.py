"""Power: the reference's table, the closed form against simulation, components found again in simulated outcomes."""

from dataclasses import replace

import numpy as np
import pytest
from demo_outcomes import TARGETS, write_demo
from made_results import made_results
from scipy.stats import nct, t

from xtremex.analysis.outcomes import Record, read_record
from xtremex.analysis.pilot import variance_components
from xtremex.analysis.power import (
    Components,
    PlannedTest,
    cost_per_seed,
    planned_test,
    power_table,
    seeds_needed,
)
from xtremex.analysis.projection import floor, project
from xtremex.analysis.simulate import Scenario, simulate
from xtremex.errors import AnalysisError

# statistics reference, section 3.5: points by run SD, then 3, 5, 10 and 20 seeds
TABLE = {
    (0.0025, 7, 2000): "1.74 1.33 1.01",
    (0.0025, 15, 1000): "1.60 1.23 .94",
    (0.0025, 15, 5000): "1.21 .89 .64",
    (0.0025, 37, 500): "1.45 1.12 .85",
    (0.005, 7, 2000): "2.36 1.76 1.28 .99",
    (0.005, 15, 1000): "2.26 1.69 1.23 .95",
    (0.005, 15, 5000): "2.00 1.46 1.01 .73",
    (0.005, 37, 500): "2.16 1.60 1.16 .89",
    (0.010, 7, 2000): "3.98 2.91 2.03 1.48",
    (0.010, 15, 1000): "3.92 2.86 2.00 1.45",
    (0.010, 15, 5000): "3.78 2.73 1.87 1.32",
    (0.010, 37, 500): "3.86 2.81 1.96 1.41",
    (0.015, 7, 2000): "5.73 4.17 2.88 2.05",
    (0.015, 15, 1000): "5.69 4.13 2.85 2.03",
    (0.015, 15, 5000): "5.60 4.05 2.77 1.94",
    (0.015, 37, 500): "5.65 4.10 2.82 2.00",
}


@pytest.mark.parametrize("design", TABLE)
def test_table_of_the_reference(design):
    sd, languages, examples = design
    components = Components.stated(sd_run=sd, languages=languages, examples=examples)
    printed = [float(x) for x in TABLE[design].split()]
    rows = power_table(components, seeds=(3, 5, 10, 20)[: len(printed)], df="pooled")
    assert [round(row.mde, 2) for row in rows] == printed


def test_standard_errors_and_degrees_of_freedom_of_the_reference():
    rows = power_table(Components.stated(), df="pooled")
    assert [round(row.se, 2) for row in rows] == [0.72, 0.57, 0.43, 0.34]
    assert [int(row.df) for row in rows[:2]] == [9, 21] and round(rows[2].df) == 61


def test_aggregate_and_family_of_the_reference():
    nine = power_table(Components.stated(sd_checkpoint=0.003, targets=9), seeds=(3, 5, 10), df="pooled")
    assert [round(row.mde, 2) for row in nine] == [1.09, 0.80, 0.56]
    cell = power_table(Components.stated(), seeds=(3, 5, 10), df="pooled", alpha=0.05 / 81)
    assert [round(row.mde, 2) for row in cell] == [4.44, 2.85, 1.93]


def test_closed_form_is_the_noncentral_t():
    row = power_table(Components.stated(), seeds=[5], effects=[1.5], df="pooled")[0]
    critical, shift = t.ppf(0.975, row.df), 1.5 / row.se
    expected = nct.sf(critical, row.df, shift) + nct.cdf(-critical, row.df, shift)
    assert row.power[1.5] == pytest.approx(expected, abs=1e-6)


def test_welch_power_is_the_rejection_rate_of_the_test():
    """The statistic drawn outright, 40,000 times: Monte-Carlo standard error .0024 (and .004 for 4,000 variances)."""
    test = planned_test(Components.stated(), 3)
    rng = np.random.default_rng(1)
    estimates = 0.02 + test.se * rng.standard_normal(40_000)
    v = test.v_runs * rng.chisquare(2, (40_000, 4)) / 2
    total = v.sum(axis=1) + test.v_examples
    df = total**2 / ((v**2).sum(axis=1) / 2 + test.v_examples**2 / test.df_examples)
    rate = np.mean(np.abs(estimates) / np.sqrt(total) > t.ppf(0.975, df))
    assert test.power(0.02) == pytest.approx(rate, abs=0.012)
    pooled = planned_test(Components.stated(), 3, method="pooled")
    assert test.power(0.02) < pooled.power(0.02)
    assert test.power(test.mde(0.8)) == pytest.approx(0.8, abs=1e-4)


def test_an_exact_welch_case():
    """Two cells with equal, much replicated runs and no examples: the two-sample t test."""
    test = PlannedTest(np.array([0.5, 0.5]), np.array([500.0, 500.0]), 0.0, 1.0)
    assert test.power(3.0) == pytest.approx(nct.sf(t.ppf(0.975, 1000), 1000, 3.0), abs=0.003)
    assert test.width == pytest.approx(2 * t.ppf(0.975, 1000), rel=0.003)


def test_conditions_share_their_baseline():
    """The mean over many conditions keeps the baseline's half of the variance of one, and no more."""
    one, many = (planned_test(Components.stated(sd_checkpoint=0.003), 5, c) for c in (1, 10_000))
    baseline = planned_test(Components.stated(), 5)
    assert many.se**2 == pytest.approx(baseline.se**2 / 2, rel=1e-3)
    assert one.se > baseline.se


def test_seeds_needed():
    components = Components.stated()
    found = seeds_needed(components, 1.0)
    assert found is not None
    rows = power_table(components, seeds=(found - 1, found), effects=[1.0])
    assert rows[0].power[1.0] < 0.8 <= rows[1].power[1.0]
    assert seeds_needed(components, 0.01, most=200) is None
    assert seeds_needed(components, 50.0) == 2


def test_same_seed_same_numbers():
    one, two, other = (power_table(Components.stated(), seed=s) for s in (0, 0, 1))
    assert one == two and one != other


def test_cost():
    suite = {
        "runs": [{"seed": s, "seconds": 10.0} for s in (0, 0, 1, 1)] + [{"seed": -1, "seconds": 99.0}],
        "intermediate_runs": [{"seed": s, "seconds": 5.0} for s in (0, 1)],
    }
    assert cost_per_seed(suite) == 25.0
    assert cost_per_seed({"runs": [{"seed": 0}]}) is None
    assert power_table(Components.stated(), seeds=[4], seconds_per_seed=25.0)[0].cost == 100.0


def test_refusals():
    with pytest.raises(AnalysisError, match="1 seeds"):
        power_table(Components.stated(), seeds=[1])
    with pytest.raises(AnalysisError, match="no design"):
        Components.stated(languages=0)
    with pytest.raises(AnalysisError, match="no components for 'x'"):
        Components.stated(targets=2).of("x")


def simulated_record(scenario, seed=0):
    tasks = simulate(scenario, np.random.default_rng(seed))
    names = [("plus", "nli"), ("plus", "none"), ("minus", "nli"), ("minus", "none")]
    cells = {("pair", f"t{i}"): dict(zip(names, task.cells(), strict=True)) for i, task in enumerate(tasks)}
    suite = {"targets": [{"task": task, "retention": False} for _, task in cells]}
    return Record(suite, cells, (), {}, {})


def test_components_are_found_again():
    """Many seeds, so that each component is known to some 10 percent (chi-squared with 4 x 59 df: 9 percent)."""
    scenario = Scenario(
        seeds=60, languages=10, examples=300, sd_run=0.02, sd_run_language=0.015, tasks=4, sd_checkpoint=0.03
    )
    found = variance_components(simulated_record(scenario), "pair")
    assert np.sqrt(found.checkpoint) == pytest.approx(0.03, rel=0.2)
    runs, own = (np.mean([getattr(t, name) for t in found.targets]) for name in ("run", "run_language"))
    assert np.sqrt(runs) == pytest.approx(0.02, rel=0.25)
    assert np.sqrt(own) == pytest.approx(0.015, rel=0.1)
    # section 3.1: 1272 and 159.7 squared points at a success probability of .7
    assert np.mean([t.run_examples for t in found.targets]) == pytest.approx(0.1272, rel=0.05)
    assert np.mean([t.cell_examples for t in found.targets]) == pytest.approx(0.01597, rel=0.25)
    assert np.mean([t.outcome for t in found.targets]) == pytest.approx(0.21, rel=0.05)


def test_components_where_nothing_is_trained_without():
    """One deterministic run keeps its own noise over examples: it is no part of the cell's, and stays in the plan."""
    scenario = Scenario(seeds=40, languages=10, examples=1000, fixed_none=True)
    found = variance_components(simulated_record(scenario), "pair").targets[0]
    assert found.fixed_none
    assert found.run_examples == pytest.approx(0.1272, rel=0.05)
    assert found.cell_examples == pytest.approx(0.01597, rel=0.3)
    fixed = planned_test(Components((found,)), 5)
    assert len(fixed.v_runs) == 2
    assert fixed.v_examples == pytest.approx((4 * 0.01597 + 2 * 0.1272) / 10_000, rel=0.1)


def test_parts_that_cannot_be_negative_keep_their_sum():
    """Small pilots of three seeds: parts cut at 0, each on its own, would add up to more than was seen."""
    scenario = Scenario(seeds=3, languages=4, examples=60, sd_run=0.006, sd_run_language=0.0)
    for seed in range(30):
        record = simulated_record(scenario, seed)
        [target] = variance_components(record, "pair").targets
        [grid] = record.cells.values()
        seen = np.mean([cell.scores.mean(axis=1).var(ddof=1) for cell in grid.values()])
        assert target.run >= 0 and target.run_language >= 0
        assert target.per_run == pytest.approx(max(seen, target.per_run_examples))


def test_examples_that_add_nothing_are_not_made_to():
    """Without cell-specific difficulty the double differences' variances scatter about 0: their mean does, too."""
    scenario = Scenario(seeds=3, languages=4, examples=60, difficulty=(0.6, 0.0), conditions=1)
    found = [
        variance_components(simulated_record(scenario, seed), "pair").targets[0].cell_examples
        for seed in range(40)
    ]
    assert np.mean(found) < 0.005 and np.mean(np.array(found) == 0) > 0.25


@pytest.mark.parametrize("conditions", [("none",), ("nli",)])
def test_no_effect_to_plan_from(tmp_path, conditions):
    folder = write_demo(tmp_path, targets=TARGETS[:1], conditions=conditions, languages=("en", "de"))
    with pytest.raises(AnalysisError, match="both with and without"):
        variance_components(read_record(folder), "muse")


def test_nothing_varies():
    flat = replace(
        Components.stated().targets[0], run=0.0, run_language=0.0, run_examples=0.0, cell_examples=0.0
    )
    with pytest.raises(AnalysisError, match="nothing varies"):
        power_table(Components((flat,)))


def test_no_projection_at_the_language_tier():
    """What languages add neither falls with seeds nor has many degrees of freedom: "only more examples help" were false."""
    [grand] = [e for e in made_results().estimates if e.family == "grand" and e.role == "primary"]
    assert project(grand) and floor(grand) is not None
    languages = replace(grand, tier="T3")
    assert project(languages) == () and floor(languages) is None


def test_floor_is_where_more_seeds_end():
    test = planned_test(Components.stated(), 100_000)
    assert test.floor(0.8) == pytest.approx(test.mde(0.8), rel=0.01)


def test_parallel_examples_have_the_df_of_one_language():
    target = replace(Components.stated(languages=15, examples=1000).targets[0], parallel=True)
    assert planned_test(Components((target,)), 3).df_examples == 999
    assert planned_test(Components.stated(), 3).df_examples == 15 * 999


def test_components_of_an_outcome_folder(tmp_path):
    folder = write_demo(
        tmp_path, targets=TARGETS[:5], conditions=("none", "nli"), languages=("en", "de", "fa"), examples=80
    )
    record = read_record(folder)
    found = variance_components(record, "muse")
    by_name = {t.name: t for t in found.targets}
    assert by_name["mini-sentences"].fixed_none and not by_name["mini-inference"].fixed_none
    assert all(t.sizes == (80, 80, 80) and 0 < t.outcome and t.run >= 0 for t in found.targets)
    with pytest.raises(AnalysisError, match="no cell of the pair 'other'"):
        variance_components(record, "other")
