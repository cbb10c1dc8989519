"""The public function for arrays: what it computes beside the estimate, and how its result prints."""

import json
from dataclasses import replace
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


def bad(change, **options):
    """``did`` on good arrays after one mistake: its error."""
    good = outcomes(9, n=100)
    with pytest.raises(AnalysisError) as error:
        did(*change(good), **options)
    assert error.value.hint
    return error.value.message


def test_every_mistake_in_the_arrays_is_named():
    assert "v1 holds outcomes from 0 to 100" in bad(lambda x: [100 * a for a in x])
    assert "v1 has the shape (100,)" in bad(lambda x: [a[0, 0] for a in x])
    assert "t0 3 x 99" in bad(lambda x: [*x[:3], x[3][:, :, :-1]])
    assert "t0 2 x 100" in bad(lambda x: [*x[:3], x[3][:, :2]])
    assert "more seeds than examples" in bad(lambda x: [a[:, 0].T for a in x])
    assert "t1 is no array of numbers" in bad(lambda x: [*x[:2], [[1, 0], [1]], x[3]])
    assert "t0 has the shape (0, 3, 100)" in bad(lambda x: [*x[:3], x[3][:0]])
    assert "t0 has the shape ()" in bad(lambda x: [*x[:3], None])
    assert "one in: t1" in bad(lambda x: [x[0], x[1], x[2][:1], x[3]])

    def missing(x):
        x[1][0, 0, 0] = np.nan
        return x

    assert "v0 holds 1 missing" in bad(missing)
    assert "v0: seeds 1 and 2 gave identical outcomes" in bad(lambda x: [x[0], x[1][[0, 1, 1, 2]], *x[2:]])


def test_every_mistake_in_the_options_is_named():
    assert "margin" in bad(list, margin=0.0) and "margin" in bad(list, margin=1)
    assert "tier 't2'" in bad(list, tier="t2") and "df 'satterthwaite'" in bad(list, df="satterthwaite")
    assert "alpha" in bad(list, alpha=5) and "alpha" in bad(list, alpha=0.0)
    for weights in ([1.0, 1.0], [0.5, 0.5, np.nan], [0.0, 0.0, 0.0], [2.0, -1.0, 0.0]):
        assert "language weights" in bad(list, weights=weights)


def test_weights_are_relative():
    arrays = outcomes(10)
    one, other = did(*arrays, weights=[2, 1, 1]), did(*arrays, weights=[0.5, 0.25, 0.25])
    assert (one.value, one.se, one.p, one.superiority) == (other.value, other.se, other.p, other.superiority)
    by_language = [np.array(x).mean(axis=(0, 2)) for x in arrays]
    expected = sum(c * (w @ [0.5, 0.25, 0.25]) for c, w in zip(DID, by_language, strict=True))
    assert one.value == pytest.approx(expected)
    assert did(*arrays, weights=[1, 1, 1]).value == pytest.approx(did(*arrays).value)


def test_the_sentence_shows_the_order_of_arms_and_axes():
    arrays = outcomes(11, rates=(0.8, 0.6, 0.75, 0.7))
    effect, swapped = did(*arrays), did(*(arrays[i] for i in (2, 3, 0, 1)))
    means = [x.mean() for x in arrays]
    gains = (means[0] - means[1], means[2] - means[3])
    assert effect.gains == pytest.approx(gains) and swapped.gains == pytest.approx(gains[::-1])
    assert effect.gains[0] - effect.gains[1] == pytest.approx(effect.value)
    told = f"gains {100 * gains[0]:+.2f} (plus arm) and {100 * gains[1]:+.2f} (minus arm), 3 languages, 600 examples"
    assert told in str(effect)


def test_the_sentence_carries_the_cautions():
    arrays = outcomes(12)
    assert str(did(*(x[:2] for x in arrays))).endswith("one degree of freedom per cell.")
    assert "these checkpoints only" in str(did(*arrays, tier="T0"))
    same = [np.repeat(x[:1, :, :20], 3, axis=0) for x in arrays]  # too few examples to be sure, but said
    assert "did not differ at all" in str(did(*same)) and "did not differ" not in str(did(*arrays))


def test_scale_dependence_compares_like_with_like():
    """Log-odds are not moderated: a moderated p-value must not be set against theirs, nor rounding have a sign."""
    effect = did(*outcomes(13))
    assert effect.p is not None and effect.p < 0.05 and not effect.scale_dependent
    quiet = effect.moderated(100 * effect.v_run / effect.run_scale, effect.df)
    assert quiet.p is not None and quiet.p > 0.05 and not quiet.scale_dependent
    assert quiet.logit is not None
    tiny = replace(effect, value=1e-17, p=0.9, logit=replace(quiet.logit, value=-1e-16, p=0.9))
    assert not tiny.scale_dependent
    assert replace(tiny, value=1e-3, logit=replace(quiet.logit, value=-1e-3, p=0.9)).scale_dependent


def spans(rng, rows, seeds=3):
    gold = rng.integers(1, 4, rows)
    hits = rng.binomial(gold, 0.6, (seeds, rows))
    return 2.0 * hits, hits + rng.integers(0, 2, (seeds, rows)) + gold


def test_f1_of_a_table_with_languages_of_different_sizes_and_documents():
    """As from a notebook: columns of a table, strings for languages and documents."""
    rng = np.random.default_rng(14)
    language = ["en"] * 40 + ["de"] * 25
    document = [f"doc{i // 5}" for i in range(65)]
    examples = Examples.labelled(language, cluster=document)
    assert examples.languages == ("en", "de") and examples.sizes.tolist() == [40, 25] and examples.clustered
    effect = did(*(Cell.from_counts(examples, *spans(rng, 65)) for _ in range(4)))
    assert effect.df_examples == 8 - 1 + 5 - 1 and effect.size == (2, 65)
    plain = Examples.labelled(np.array(language))
    assert not plain.clustered and plain.same_as(
        Examples(("en", "de"), np.array([0, 40, 65]), *(np.r_[0:40, 0:25],) * 2)
    )


def test_a_table_of_a_parallel_test_set():
    """Items in another order and one missing in the second language: they meet by id."""
    rng = np.random.default_rng(15)
    first, second = [f"q{i}" for i in range(30)], [f"q{i}" for i in range(29, 0, -1)]
    labelled = Examples.labelled(["en"] * 30 + ["de"] * 29, example=first + second, parallel=True)
    by_hand = Examples(("en", "de"), np.array([0, 30, 59]), *(np.r_[0:30, 29:0:-1],) * 2, True)
    counts = [(rng.random((3, 59)) < 0.6).astype(float) for _ in range(4)]
    one, two = (did(*(Cell.from_counts(e, x, np.ones_like(x)) for x in counts)) for e in (labelled, by_hand))
    assert (one.value, one.v_examples, one.df) == pytest.approx((two.value, two.v_examples, two.df))
    assert one.df_examples == 29


def test_refused_tables():
    for arguments, match in (
        ({"language": ["en", "de", "en"]}, "listed twice"),
        ({"language": ["en", "en"], "cluster": [1]}, "ids"),
        ({"language": []}, "languages with"),
        ({"language": ["en", "en", "de"], "example": ["a", "a", "a"]}, "same example twice"),
        ({"language": ["en", "en", "de"], "parallel": True}, "which of them are the same"),
    ):
        with pytest.raises(AnalysisError, match=match) as error:
            Examples.labelled(**arguments)
        assert error.value.hint
