"""The public function for arrays: what it computes beside the estimate, and how its result prints."""

import json
from itertools import product

import numpy as np
import pytest
from scipy import stats

from xtremex.analysis.effect_sizes import run_sd, superiority
from xtremex.analysis.estimator import Cell, Examples, contrast, did
from xtremex.errors import AnalysisError

DID = (1.0, -1.0, -1.0, 1.0)


def outcomes(seed, rates=(0.8, 0.7, 0.7, 0.7), seeds=4, languages=3, n=200):
    rng = np.random.default_rng(seed)
    return [(rng.random((seeds, languages, n)) < rate).astype(float) for rate in rates]


def test_arrays_are_cells():
    arrays = outcomes(1)
    examples = Examples.regular(["a", "b", "c"], 200)
    cells = [Cell.from_counts(examples, x.reshape(4, -1), np.ones((4, 600))) for x in arrays]
    effect, fit = did(*arrays), contrast(cells, DID)
    assert (effect.value, effect.se, effect.df, effect.p) == (fit.value, fit.se, fit.df, fit.p)
    parallel = did(*arrays, parallel=True)
    assert parallel.value == effect.value and parallel.df_examples == 199 < effect.df_examples
    one = did(*(x[:, 0] for x in arrays))
    assert one.value == pytest.approx(contrast([c.subset(["a"]) for c in cells], DID).value)
    assert did(*cells).value == effect.value


def test_pooled_is_the_two_by_two_analysis_of_variance():
    """No spread over examples: the run scores decide. Values of tests/oracles/families.R (aov, R 4.2.2)."""
    scores = np.array([[71.2, 69.8, 70.4], [68.1, 69.0, 67.7], [70.0, 70.9, 69.2], [69.6, 68.4, 70.3]]) / 100
    effect = did(*(np.repeat(row[:, None], 4, axis=1) for row in scores), df="pooled")
    assert (effect.value / effect.se) ** 2 == pytest.approx(2.972903225806, rel=1e-6)
    assert effect.p == pytest.approx(0.122957590604, rel=1e-6) and effect.df == pytest.approx(8, rel=1e-9)


X, Y = [71.2, 69.8, 70.4, 72.9, 70.1], [68.8, 69.9, 69.1]
# tests/oracles/families.R: t.test of X and Y
R_TESTS = {
    "welch": (0.047660592417, 5.851937696870, 0.023146219180, 3.203520447487),
    "pooled": (0.0839032939465, 6.0, -0.2938864035421, 3.5205530702087),
}


@pytest.mark.parametrize("method", R_TESTS)
def test_two_cells_are_the_t_tests_of_r(method):
    examples = Examples.regular(["en"], 4)
    cells = [
        Cell.from_counts(examples, np.repeat(np.array(x)[:, None] / 100, 4, axis=1), np.ones((len(x), 4)))
        for x in (X, Y)
    ]
    fit = contrast(cells, [1, -1], df=method)
    found = (fit.p, fit.df, 100 * fit.low, 100 * fit.high)
    assert found == pytest.approx(R_TESTS[method], rel=1e-6)
    if method == "welch":  # TOST at 4 points, by two one-sided t.tests in R
        assert fit.equivalence(0.04) == pytest.approx(0.0053057606039, rel=1e-6)


def test_superiority_counts_all_combinations_of_runs():
    rng = np.random.default_rng(2)
    cells = [np.round(rng.random(s), 1) for s in (3, 4, 2, 3)]
    wins = [0.5 if abs(a - b - c + d) < 1e-9 else float(a - b > c - d) for a, b, c, d in product(*cells)]
    assert any(w == 0.5 for w in wins)
    assert superiority(*cells) == pytest.approx(np.mean(wins))
    assert superiority(cells[2], cells[3], cells[0], cells[1]) == pytest.approx(1 - np.mean(wins))
    equal = np.full(3, 0.3)
    assert superiority(equal, equal, equal, equal) == 0.5


def test_run_sd_is_pooled_over_trained_cells():
    rng = np.random.default_rng(3)
    groups = [rng.normal(size=s) for s in (3, 5)]
    pooled = stats.ttest_ind(*groups)
    t = (groups[0].mean() - groups[1].mean()) / (run_sd(groups) * np.sqrt(1 / 3 + 1 / 5))
    assert t == pytest.approx(pooled.statistic)
    assert run_sd([np.array([0.5])]) is None
    effect = did(*outcomes(4))
    assert effect.standardised == pytest.approx(effect.value / effect.run_sd)


def test_prints_as_sentence_row_and_json():
    effect = did(*outcomes(5), margin=0.02)
    sentence = str(effect)
    for part in (
        "Difference in differences +",
        "95 % CI",
        "welch df",
        "tier T2, 4 seeds",
        "±2 points (TOST",
        "detectable with power .8",
        "variance: run",
        "run SDs, P(larger gain)",
        "log-odds",
    ):
        assert part in sentence
    assert f"{100 * effect.value:+.2f} points" in sentence and sentence.endswith(".")
    row = effect.row()
    assert row["estimate"] == pytest.approx(100 * effect.value) and row["verdict"] == effect.verdict
    assert row["share_run"] + row["share_examples"] == pytest.approx(1)
    assert all(not isinstance(cell, (dict, list)) for cell in row.values())
    read = json.loads(json.dumps(effect.to_json()))
    assert read["value"] == effect.value and read["p"] == effect.p and read["logit"]["value"] != 0
    assert read["shares"] == effect.shares and read["scale_dependent"] is effect.scale_dependent
    plain = contrast([Cell.from_counts(Examples.regular(["en"], 9), np.eye(3, 9), np.ones((3, 9)))], [1])
    assert "points" in str(plain) and json.dumps(plain.to_json()) and plain.row()["tier"] == "T2"


def test_scale_dependent_interaction():
    """Both arms gain the same odds, from different levels: nothing in log-odds, a difference in points."""
    odds = [9 * 2, 9, 1 * 2, 1]
    effect = did(*outcomes(6, rates=[o / (1 + o) for o in odds], seeds=6, n=2000))
    assert (
        effect.p is not None and effect.p < 0.05 and effect.logit is not None and effect.logit.p is not None
    )
    assert effect.logit.p > 0.05 and effect.scale_dependent and "scale-dependent interaction" in str(effect)
    steady = did(*outcomes(6, rates=(0.6, 0.5, 0.5, 0.5), seeds=6, n=2000))
    assert not steady.scale_dependent and "scale-dependent" not in str(steady)


def test_scores_below_zero_have_no_log_odds():
    examples = Examples.regular(["en"], 4)
    rng = np.random.default_rng(7)
    cells = [Cell.from_counts(examples, rng.normal(size=(3, 4)), np.ones((3, 4))) for _ in range(4)]
    assert did(*cells).logit is None and "log-odds" not in str(did(*cells))


def test_nothing_trained_has_no_run_sd():
    examples = Examples.regular(["en"], 50)
    rng = np.random.default_rng(8)
    cells = [Cell.from_counts(examples, rng.random(50), np.ones(50), [-1]) for _ in range(4)]
    effect = did(*cells)
    assert effect.run_sd is None and effect.standardised is None and "nothing trained" in str(effect)


def test_refusals():
    good = outcomes(9, n=10)
    with pytest.raises(AnalysisError, match="within"):
        did(*(100 * x for x in good))
    with pytest.raises(AnalysisError, match="shape"):
        did(*(x[0, 0] for x in good))
    with pytest.raises(AnalysisError, match="different examples"):
        did(good[0], good[1], good[2], good[3][:, :, :-1])
    with pytest.raises(AnalysisError, match="margin"):
        did(*good, margin=0.0)
