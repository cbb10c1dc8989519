"""Contrasts tested together: dose trends, the placebo, the correlation of a design, joint corrections."""

import numpy as np
import pytest
from scipy import stats

from xtremex.analysis.estimator import Cell, Examples, Term, contrast, estimate
from xtremex.analysis.families import (
    by_target,
    design_correlation,
    difference_of_contrasts,
    joint_test,
    trend_coefficients,
)
from xtremex.analysis.moderation import moderated
from xtremex.analysis.multiplicity import benjamini_hochberg, holm, max_t
from xtremex.errors import AnalysisError

DID = (1.0, -1.0, -1.0, 1.0)


def flat(scores, examples):
    """A cell with these (S,) scores in which no example differs from another."""
    n = len(examples.example)
    return Cell.from_counts(
        examples, np.repeat(np.asarray(scores)[:, None], n, axis=1), np.ones((len(scores), n))
    )


def test_trend_is_the_least_squares_slope():
    doses = {"text": 0.0, "few": 1.0, "some": 3.0, "all": 10.0}
    c = trend_coefficients(doses)
    gains = np.array([0.1, 0.4, 0.3, 2.0])
    slope = stats.linregress(list(doses.values()), gains).slope
    assert np.array(list(c.values())) @ gains == pytest.approx(slope) and list(c) == list(doses)
    assert sum(c.values()) == pytest.approx(0)
    assert trend_coefficients(["text", "distilled", "vision"]) == pytest.approx(
        {"text": -0.5, "distilled": 0.0, "vision": 0.5}
    )
    assert trend_coefficients(["text", "vision"]) == {"text": -1.0, "vision": 1.0}
    for bad in (["text"], {"a": 1.0, "b": 1.0}, {"a": 0.0, "b": float("nan")}, []):
        with pytest.raises(AnalysisError, match="different doses"):
            trend_coefficients(bad)


def test_trend_over_a_ladder_of_arms():
    """As a contrast of run scores: the slope and its test by ordinary least squares, with equal variances."""
    rng = np.random.default_rng(1)
    examples = Examples.regular(["en"], 3)
    doses, seeds = [0.0, 1.0, 3.0, 5.0], 6
    runs = [0.5 + 0.01 * x + rng.normal(0, 0.01, seeds) for x in doses]
    c = trend_coefficients(dict(zip("abcd", doses, strict=True)))
    fit = contrast([flat(y, examples) for y in runs], list(c.values()), df="pooled")
    line = stats.linregress(np.repeat(doses, seeds), np.concatenate(runs))
    assert fit.value == pytest.approx(line.slope) and fit.df == pytest.approx(4 * (seeds - 1))
    groups = np.array(runs)
    s2 = np.mean(groups.var(axis=1, ddof=1))
    x = np.repeat(doses, seeds)
    assert fit.se == pytest.approx(np.sqrt(s2 / np.sum((x - x.mean()) ** 2)))


def test_placebo_is_a_difference_of_contrasts():
    vision, scrambled = {"vision": 1.0, "text": -1.0}, {"scrambled": 1.0, "text": -1.0}
    assert difference_of_contrasts(vision, scrambled) == {"vision": 1.0, "scrambled": -1.0}
    assert difference_of_contrasts(vision, vision) == {}


def test_correlation_of_contrasts_that_share_their_baseline():
    """Nine conditions over the same runs without, run noise only: +.5 by design."""
    rng = np.random.default_rng(2)
    examples = Examples.regular(["en"], 3)
    cells = {(arm, c): flat(0.6 + rng.normal(0, 0.01, 3), examples) for arm in ("v", "t") for c in range(10)}
    contrasts = [
        [Term(cells, {("v", c): 1.0, ("v", 0): -1.0, ("t", c): -1.0, ("t", 0): 1.0})] for c in range(1, 10)
    ]
    found = design_correlation(contrasts)
    assert found == pytest.approx(np.full((9, 9), 0.5) + 0.5 * np.eye(9))
    assert design_correlation(contrasts, tier="T1") == pytest.approx(found)


def test_correlation_equals_that_of_simulated_estimates():
    """Two targets, two conditions, checkpoints shared by targets and baselines by conditions, example noise."""
    rng = np.random.default_rng(3)
    n, seeds = 60, 4
    keys = [(arm, c) for arm in "vt" for c in (0, 1, 2)]
    sets = [Examples.regular(["a", "b"], n), Examples.regular(["a", "b", "c"], n, parallel=True)]
    values, correlations = [], []
    for _ in range(500):
        checkpoint = {key: rng.normal(0, 0.05, (seeds, 1)) for key in keys}
        terms = [[], [], [], []]
        for t, examples in enumerate(sets):
            size = len(examples.example)
            hard = rng.normal(0, 0.3, (1, n) if examples.parallel else (1, size))
            cells = {}
            for key in keys:
                own = rng.normal(0, 0.4, hard.shape)
                own = np.tile(own + hard, (1, size // hard.shape[1]))
                y = (
                    0.6
                    + checkpoint[key]
                    + rng.normal(0, 0.02, (seeds, 1))
                    + own
                    + rng.normal(0, 0.1, (seeds, size))
                )
                cells[key] = Cell.from_counts(examples, y, np.ones_like(y))
            for c in (1, 2):
                signs = {("v", c): 1.0, ("v", 0): -1.0, ("t", c): -1.0, ("t", 0): 1.0}
                terms[2 * t + c - 1] = [Term(cells, signs)]
        values.append([estimate(x).value for x in terms])
        correlations.append(design_correlation(terms))
    observed, mean = np.corrcoef(np.array(values).T), np.mean(correlations, axis=0)
    assert mean == pytest.approx(observed, abs=0.09)  # Monte-Carlo error of a correlation: 1 / sqrt(500)
    assert observed[0, 1] > 0.4 and observed[0, 2] > 0.1  # there is something to find


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("cluster_size", [1, 4])
def test_example_part_is_the_variance_of_the_estimator(parallel, cluster_size):
    """The variance of a sum of two contrasts follows from the correlation and their own variances."""
    rng = np.random.default_rng(4)
    examples = Examples.regular(["a", "b"], 24, parallel=parallel, cluster_size=cluster_size)
    hits = (rng.random((6, 1, 48)) < 0.3 + 0.5 * rng.random((6, 1, 48))).astype(float)
    cells = {k: Cell.from_counts(examples, h, np.ones((1, 48)), [-1]) for k, h in enumerate(hits)}
    one, two = {0: 1.0, 1: -1.0, 2: -1.0, 3: 1.0}, {4: 1.0, 1: -1.0, 5: -1.0, 3: 1.0}
    both = {k: one.get(k, 0.0) + two.get(k, 0.0) for k in range(6)}
    a, b, total = (estimate([Term(cells, c)]).variance for c in (one, two, both))
    r = design_correlation([[Term(cells, one)], [Term(cells, two)]])
    assert r[0, 1] == pytest.approx((total - a - b) / (2 * np.sqrt(a * b)))
    assert r == pytest.approx(r.T) and np.diag(r).tolist() == [1.0, 1.0]


def test_correlation_of_aggregates_and_of_languages():
    rng = np.random.default_rng(5)
    examples = Examples.regular(["a", "b"], 30)
    cells = {k: Cell.from_counts(examples, rng.random((3, 60)) < 0.6, np.ones((3, 60))) for k in range(4)}
    signs = dict(enumerate(DID))
    whole = [Term(cells, signs)]
    one, other = ([Term(cells, signs, np.array(w))] for w in ([1.0, 0.0], [0.0, 1.0]))
    r = design_correlation([whole, one, other, whole])
    assert r[0, 3] == pytest.approx(1) and 0 < r[0, 1] < 1 and 0 < r[0, 2] < 1
    nothing = [Term({0: flat([0.5, 0.5], Examples.regular(["a"], 3))}, {0: 1.0})]
    assert design_correlation([whole, nothing])[0, 1] == 0
    assert np.linalg.eigvalsh(design_correlation([whole, one, other]))[0] > -1e-9
    assert design_correlation([]).shape == (0, 0)


def test_correlation_of_targets_with_other_seeds():
    """A restarted run has another seed on one target: only the runs of common seeds make a correlation."""
    rng = np.random.default_rng(10)
    one, two = Examples.regular(["a"], 3), Examples.regular(["a"], 3)
    checkpoint = rng.normal(0, 0.01, 5)

    def term(examples, seeds, shift):
        cell = flat(0.6 + checkpoint[list(seeds)] + shift, examples)
        named = Cell(examples, tuple(seeds), cell.scores, cell.contributions, cell.noise)
        return [Term({"v": named}, {"v": 1.0})]

    same = design_correlation([term(one, (0, 1, 2), 0.0), term(two, (0, 1, 2), 0.1)])
    some = design_correlation([term(one, (0, 1, 2), 0.0), term(two, (0, 1, 3), 0.1)])
    none = design_correlation([term(one, (0, 1), 0.0), term(two, (2, 3), 0.1)])
    assert same[0, 1] == pytest.approx(1) and 0 < abs(some[0, 1]) < 1 and none[0, 1] == pytest.approx(0)


def family(seed, m=5, effect=0.0):
    rng = np.random.default_rng(seed)
    examples = Examples.regular(["a", "b"], 40)
    keys = [(arm, c) for arm in "vt" for c in range(m + 1)]
    cells = {}
    for key in keys:
        rate = 0.6 + rng.normal(0, 0.02, (3, 1)) + effect * (key == ("v", 1))
        cells[key] = Cell.from_counts(examples, rng.random((3, 80)) < rate, np.ones((3, 80)))
    return {
        f"c{c}": [Term(cells, {("v", c): 1.0, ("v", 0): -1.0, ("t", c): -1.0, ("t", 0): 1.0})]
        for c in range(1, m + 1)
    }


def test_a_family_is_estimated_corrected_and_correlated():
    contrasts = family(6, effect=0.3)
    found = joint_test(contrasts)
    fits = [estimate(terms) for terms in contrasts.values()]
    assert found.names == tuple(contrasts) and list(found.fits) == fits and found.size == 5
    p = [fit.p for fit in fits if fit.p is not None]
    assert found.p_adjusted.tolist() == holm(p).tolist() and found.correction == "holm"
    assert joint_test(contrasts, correction="bh").p_adjusted.tolist() == benjamini_hochberg(p).tolist()
    assert joint_test(contrasts, correction="none").p_adjusted.tolist() == p
    assert found.correlation == pytest.approx(design_correlation(list(contrasts.values())))
    joint = joint_test(contrasts, correction="max-t", seed=3)
    t, df = [fit.value / fit.se for fit in fits], [fit.df for fit in fits]
    assert joint.p_adjusted.tolist() == max_t(t, df, found.correlation, seed=3).tolist()
    assert np.all(joint.p_adjusted <= found.p_adjusted + 0.01) and joint.p_adjusted[0] == min(
        joint.p_adjusted
    )


def test_a_contrast_without_a_test_is_no_member():
    contrasts = family(7)
    still = flat([0.5, 0.5], Examples.regular(["a"], 3))
    found = joint_test({**contrasts, "still": [Term({0: still}, {0: 1.0})]}, correction="max-t")
    assert found.size == 5 and np.isnan(found.p_adjusted[-1]) and not np.isnan(found.p_adjusted[:-1]).any()
    assert found.p_adjusted[:-1].tolist() == joint_test(contrasts, correction="max-t").p_adjusted.tolist()
    with pytest.raises(AnalysisError, match="at least one contrast"):
        joint_test({})
    with pytest.raises(AnalysisError, match="no correction 'sidak'"):
        joint_test(contrasts, correction="sidak")  # type: ignore[arg-type]


def test_a_moderated_family():
    contrasts = family(8, m=20)
    found, plain = joint_test(contrasts, moderate=True, correction="by"), joint_test(contrasts)
    assert found.moderation is not None and plain.moderation is None
    assert [fit.p_unmoderated for fit in found.fits] == [fit.p for fit in plain.fits]
    assert found.moderation.prior_df > 0 and min(f.df for f in found.fits) > min(f.df for f in plain.fits)
    # all on one test set: one level, known no better than its baseline's runs allow
    assert len(found.moderation.levels) == 1 and max(f.df_run for f in found.fits) < 40
    expected, _ = moderated(list(plain.fits), by_target(list(contrasts.values())))
    assert list(found.fits) == expected
    with pytest.raises(AnalysisError, match="too few"):
        joint_test(family(9), moderate=True)
