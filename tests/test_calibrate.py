"""Calibration of a suite's own design: the generator's dependence, the field's error rates, the bars in short."""

from dataclasses import replace

import numpy as np
import pytest
from demo_outcomes import TARGETS, write_demo
from scipy.integrate import quad
from scipy.stats import binomtest, norm, rankdata, ttest_1samp
from test_power import simulated_record

from xtremex.analysis import calibrate as calibrate_module
from xtremex.analysis import fit as fit_module
from xtremex.analysis import simulate as simulate_module
from xtremex.analysis.calibrate import (
    IN_USE,
    calibrate_components,
    calibrate_suite,
    familywise_error,
    joint_success,
    planned,
    scenario_of,
)
from xtremex.analysis.estimator import Cell, Examples, Term, contrast, estimate
from xtremex.analysis.habits import HABITS, Drawn
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.pilot import variance_components
from xtremex.analysis.power import Components
from xtremex.analysis.simulate import SCENARIOS, Scenario, calibrate, simulate
from xtremex.errors import AnalysisError


@pytest.mark.parametrize(("p", "r"), [(0.7, 0.5), (0.7, 0.6), (0.3, 0.9), (0.95, 0.05)])
def test_joint_success_is_the_bivariate_normal(p, r):
    t = norm.ppf(p)
    expected, _ = quad(lambda x: norm.pdf(x) * norm.cdf((t - r * x) / np.sqrt(1 - r * r)), -np.inf, t)
    assert joint_success(p, r) == pytest.approx(expected, abs=1e-7)


def test_scenario_of_the_base_components_is_the_base_scenario():
    """Section 3.1: 1272 and 159.7 squared points come from the latent shares .4 and .1."""
    found = scenario_of(Components.stated().targets[0], 3)
    assert found.difficulty == pytest.approx((0.5, 0.1), abs=0.002)
    assert (found.languages, found.examples, found.seeds) == (15, 1000, 3)
    assert (found.sd_run, found.sd_run_language) == pytest.approx((0.005, 0.006))


def test_planned_agrees_with_the_reference():
    assert 100 * planned(SCENARIOS["base"]).se == pytest.approx(0.7218, abs=0.001)
    with pytest.raises(AnalysisError, match="those of accuracy"):
        planned(SCENARIOS["f1"])


SHORT = {
    "seeds": Scenario(seeds=8, languages=5, examples=120, sd_run=0.01),
    "an effect": Scenario(seeds=4, languages=5, examples=200, mean=0.85, effect=0.04),
    "runs alike": Scenario(seeds=4, languages=4, examples=100, sd_run=0.0, sd_run_language=0.0),
    "runs alike in all languages": Scenario(
        seeds=5, languages=6, examples=150, sd_run=0.002, parallel=True, run_share=0.6
    ),
    "paragraphs": Scenario(
        seeds=4, languages=3, examples=300, sd_run=0.002, cluster_size=10, difficulty=(0.2, 0.5)
    ),
    "parallel paragraphs": Scenario(
        seeds=4, languages=4, examples=300, sd_run=0.002, cluster_size=5, difficulty=(0.2, 0.5), parallel=True
    ),
    "unlike test sizes": Scenario(seeds=4, languages=4, examples=(400, 200, 100, 30), sd_run=0.003),
    "languages": Scenario(seeds=4, languages=30, examples=40, sd_run_language=0.015),
    "noisy cell": Scenario(seeds=(3, 5, 5, 5), languages=6, examples=120, sd_run=(0.02, 0.005, 0.005, 0.005)),
    "shared test set": Scenario(seeds=3, languages=8, examples=150, sd_run=0.003, parallel=True),
    "nothing trained without": Scenario(seeds=5, languages=8, examples=100, fixed_none=True),
}


def kept(scenario, bar=0.06, datasets=300, seed=5):
    """Type I at most ``bar`` and width at most 1.2 of the formula's, both to Monte-Carlo error; and not too narrow."""
    result = calibrate(scenario, datasets, seed=seed)
    often = binomtest(round(result.rejection * datasets), datasets, bar, alternative="greater").pvalue
    return often > 0.005 and 0.9 < result.mean_width / (100 * planned(scenario).width) < 1.2


@pytest.mark.parametrize("name", SHORT)
def test_bars_in_short(name):
    assert kept(SHORT[name])


def test_errors_that_a_run_repeats_in_every_language_are_counted_once():
    """The runs' spread holds them; taken for independent, the interval is 1.15 times as wide as it has to be."""
    scenario = replace(SHORT["runs alike in all languages"], run_share=0.9)
    result = calibrate(scenario, 200, seed=2)
    assert result.mean_width / (100 * planned(scenario).width) == pytest.approx(1.0, abs=0.05)


SHARED = Scenario(seeds=4, tasks=4, languages=5, examples=80, sd_checkpoint=0.02)


def test_tasks_that_share_checkpoints():
    assert kept(SHARED, bar=0.08)


def without_examples(patch):
    whole = Examples.variance
    patch.setattr(Examples, "variance", lambda self, d, w: (0.0, whole(self, d, w)[1]))


def with_every_runs_noise_twice(patch):
    whole = Cell._reduced.__func__
    patch.setattr(
        Cell,
        "_reduced",
        classmethod(lambda *of: replace(cell := whole(*of), noise=np.zeros_like(cell.noise))),
    )


def with_test_sets(**changed):
    """The variance as if the test sets were built otherwise."""

    def breaks(patch):
        whole = Examples.variance
        patch.setattr(
            Examples,
            "variance",
            lambda self, d, w: whole(
                replace(self, **{k: getattr(self, v) if v else False for k, v in changed.items()}), d, w
            ),
        )

    return breaks


def with_pooled_df(patch):
    patch.setattr(simulate_module, "estimate", lambda terms, **how: estimate(terms, **how | {"df": "pooled"}))


def with_normal_quantiles(patch):
    patch.setattr(fit_module, "stdtrit", lambda df, p: norm.ppf(p))


def with_runs_of_their_own_per_task(patch):
    def apart(terms, **how):
        renamed = [
            Term({(i, k): c for k, c in t.cells.items()}, {(i, k): c for k, c in t.coefficients.items()})
            for i, t in enumerate(terms)
        ]
        return estimate(renamed, **how)

    patch.setattr(simulate_module, "estimate", apart)


@pytest.mark.parametrize(
    ("breaks", "scenario", "bar"),
    [
        (without_examples, SHORT["runs alike"], 0.06),
        (with_every_runs_noise_twice, SHORT["runs alike"], 0.06),
        (with_test_sets(parallel=""), SHORT["shared test set"], 0.06),
        (with_test_sets(cluster="example"), SHORT["paragraphs"], 0.06),
        (with_test_sets(cluster="example"), SHORT["parallel paragraphs"], 0.06),
        (with_pooled_df, SHORT["noisy cell"], 0.06),
        (with_normal_quantiles, SHARED, 0.08),
        (with_runs_of_their_own_per_task, SHARED, 0.08),
    ],
)
def test_bars_are_not_kept_by_a_broken_estimator(breaks, scenario, bar, monkeypatch):
    breaks(monkeypatch)
    assert not kept(scenario, bar)


def test_power_of_the_formula_is_found_in_simulated_data():
    """An effect that the plan says is found in four of five experiments (300 of them: Monte-Carlo error .023)."""
    scenario = replace(SHORT["seeds"], seeds=4, sd_effect_language=0.0)
    scenario = replace(scenario, effect=planned(scenario).mde(0.8))
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(300):
        [task] = simulate(scenario, rng)
        fit = contrast(task.cells(), scenario.coefficients)
        found += fit.p is not None and fit.p < 0.05
    assert found / 300 == pytest.approx(0.8, abs=0.07)


def test_language_tier_covers_the_effect_before_languages():
    scenario = Scenario(seeds=4, languages=12, examples=120, sd_effect_language=0.04)
    result = calibrate(scenario, 300, seed=4, tier="T3")
    fixed = calibrate(scenario, 300, seed=4)
    assert result.mean_width > 1.1 * fixed.mean_width
    assert binomtest(round(result.rejection * 300), 300, 0.06, alternative="greater").pvalue > 0.005


def test_map_of_cells():
    """Familywise: Holm holds, no correction does not. 30 cells, so that variances are moderated."""
    scenario = Scenario(
        conditions=6, tasks=5, languages=3, examples=60, sd_checkpoint=0.003, sd_effect_language=0.0
    )
    rates = familywise_error(scenario, 60)
    for name in ("Holm", "moderated + Holm", "moderated + BH"):
        assert binomtest(round(rates[name] * 60), 60, 0.06, alternative="greater").pvalue > 0.005
    assert rates["uncorrected"] > 0.3
    with pytest.raises(AnalysisError, match="no null"):
        familywise_error(Scenario(), 1)


def test_habits_reject_true_nulls_and_the_test_in_use_does_not():
    """Section 3.2: .29 paired bootstrap, .20 t over languages, .19 Wilcoxon, .38 stratified bootstrap (here n = 400)."""
    components = Components.stated(examples=400, sd_run=0.01)
    rows = {row.method: row for row in calibrate_components(components, 3, 150, seed=2)}
    assert set(rows) == {IN_USE, *HABITS}
    assert binomtest(round(rows[IN_USE].error * 150), 150, 0.06, alternative="greater").pvalue > 0.005
    assert all(rows[habit].error > 0.2 for habit in HABITS)
    assert rows["Wilcoxon over languages"].coverage is None
    assert rows[IN_USE].coverage == 1 - rows[IN_USE].error
    assert rows == {row.method: row for row in calibrate_components(components, 3, 150, seed=2)}


def signed_rank_sums(n):
    """Sum of the positive ranks 1..n for all 2^n patterns of signs."""
    return [sum(rank for rank in range(1, n + 1) if signs >> (rank - 1) & 1) for signs in range(2**n)]


def test_habits_are_what_their_names_say():
    rng = np.random.default_rng(0)
    examples = Examples.regular(["a", "b", "c", "d", "e", "f"], 50)
    num = (rng.random((4, 3, 300)) < 0.6).astype(float)
    cells = [Cell.from_counts(examples, x, np.ones_like(x)) for x in num]
    drawn = Drawn(cells, (1, -1, -1, 1))
    effects = num.mean(axis=1).reshape(4, 6, 50).mean(axis=2)
    effects = effects[0] - effects[1] - effects[2] + effects[3]
    interval = HABITS["t over languages"]([drawn], 0.05, rng)
    assert (interval.low, interval.high) == pytest.approx(ttest_1samp(effects, 0).confidence_interval())
    ranks = HABITS["Wilcoxon over languages"]([drawn], 0.05, rng)
    statistic = sum(rank for rank, x in zip(rankdata(np.abs(effects)), effects, strict=True) if x > 0)
    exact = np.mean([abs(s - 10.5) >= abs(statistic - 10.5) for s in signed_rank_sums(6)])
    assert ranks.p is not None and ranks.p(0.0) == pytest.approx(exact)
    z = HABITS["z over examples, seeds averaged"]([drawn], 0.05, rng)
    d = num.mean(axis=1) * np.array([1, -1, -1, 1])[:, None]
    se = np.sqrt(np.sum(d.sum(axis=0).reshape(6, 50).var(axis=1, ddof=1) / 50)) / 6
    assert (z.high - z.low) / (2 * 1.96) == pytest.approx(se, rel=0.01)
    boot = HABITS["paired bootstrap over examples"]([drawn], 0.05, rng)
    assert boot.high - boot.low == pytest.approx(z.high - z.low, rel=0.25)


def test_suite(tmp_path):
    folder = write_demo(
        tmp_path,
        targets=(TARGETS[0], TARGETS[2], TARGETS[4]),
        conditions=("none", "nli"),
        languages=("en", "de", "fa"),
    )
    record = read_record(folder)
    rows = calibrate_suite(record, 20, habits=["t over languages"])
    assert [(row.scope, row.method) for row in rows] == [
        (scope, method)
        for scope in ("mini-inference", "mini-entities", "mini-sentences", "*")
        for method in (IN_USE, "t over languages")
    ]
    assert all(0 <= row.error <= 1 and row.datasets == 20 for row in rows)
    assert rows == calibrate_suite(record, 20, habits=["t over languages"])
    with pytest.raises(AnalysisError, match="0 data sets"):
        calibrate_suite(record, 0)


def test_suite_is_simulated_with_its_own_seeds_and_df(tmp_path, monkeypatch):
    """One more seed without than with an intermediate task, in one arm; and pooled df, which the suite asks for."""
    folder = write_demo(
        tmp_path, targets=TARGETS[:1], conditions=("none", "nli"), languages=("en", "de"), seeds=4
    )
    record = read_record(folder)
    grid = record.cells["muse", "mini-inference"]
    cell = grid["vision", "nli"]
    grid["vision", "nli"] = replace(cell, seeds=cell.seeds[:3], scores=cell.scores[:3])
    asked = {}
    monkeypatch.setattr(
        calibrate_module,
        "calibrate_components",
        lambda components, seeds, *_, **how: asked.update(seeds=seeds, **how),
    )
    record.suite["analysis"] = {"df": "pooled", "alpha": 0.1}
    calibrate_suite(record, 5)
    assert asked["seeds"] == (3, 4, 4, 4) and asked["df"] == "pooled" and asked["alpha"] == 0.1


def test_no_test_over_one_language():
    one = Components.stated(languages=1, examples=50)
    methods = {row.method for row in calibrate_components(one, 3, 4)}
    assert methods == {IN_USE, *HABITS} - {"t over languages", "Wilcoxon over languages"}


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(seeds=20, languages=8, examples=1500, parallel=True),
        Scenario(seeds=40, languages=8, examples=(600, 300, 150, 100) * 2, difficulty=(0.3, 0.3)),
    ],
    ids=["parallel", "unlike sizes"],
)
def test_a_pilots_test_sets_are_simulated_as_they_are(scenario):
    """From simulated outcomes to components to a scenario: the variance over examples that was put in comes out.

    Over other data sets the ratio has a mean of .99 and an SD of .05 (parallel: 1,499 df of four cells' items).
    """
    [target] = variance_components(simulated_record(scenario), "pair").targets
    found = scenario_of(target, (3, 4, 5, 6))
    assert found.parallel == scenario.parallel and found.seeds == (3, 4, 5, 6)
    assert np.allclose(np.array(found.sizes) / scenario.sizes, 1, atol=0.05)
    assert planned(found).v_examples == pytest.approx(planned(scenario).v_examples, rel=0.15)
    if scenario.parallel:
        assert found.parallel_share == pytest.approx(0.6, abs=0.15)


def test_language_tier_of_f1_has_no_known_truth():
    with pytest.raises(AnalysisError, match="no closed form"):
        calibrate(SCENARIOS["f1"], 1, tier="T3")
