"""Moderated variances against limma, an independent implementation of the moments, and simulation."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from xtremex.analysis.equivalence import verdict
from xtremex.analysis.estimator import Cell, Examples, Term, contrast, did, estimate
from xtremex.analysis.moderation import moderate, moderated
from xtremex.analysis.multiplicity import holm
from xtremex.errors import AnalysisError

S2 = [0.31, 0.9, 1.7, 0.45, 5.2, 0.08, 2.4, 0.77, 1.1, 12.9]
DF = [8, 8, 4, 8, 2, 8, 8, 6, 8, 3]
# squeezeVar of limma 3.54.1, printed by tests/oracles/families.R: df.prior, var.prior, var.post
LIMMA = {
    "unequal": (DF, 1.836116880236, 0.716506250104, [
        0.385882891270, 0.865747054889, 1.390580310017, 0.499748963993, 3.054023009823,
        0.198817200367, 2.085740691211, 0.757465631425, 1.028412873065, 8.274322191043,
    ]),
    "equal": ([8] * 10, 1.884688078102, 0.668850306531, [
        0.378421065915, 0.855927281863, 1.503393337386, 0.491727625632, 4.336057330297,
        0.192274574952, 2.069926135968, 0.750714047841, 1.017793795744, 10.567918114702,
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMMA)
def test_equals_limma(name):
    df, prior_df, prior_variance, posterior = LIMMA[name]
    found = moderate(S2, df)
    assert (found.prior_df, found.prior_variance) == pytest.approx((prior_df, prior_variance), rel=1e-6)
    assert found.variances == pytest.approx(np.array(posterior), rel=1e-6)
    assert found.dfs == pytest.approx(np.array(df) + prior_df, rel=1e-6)


def test_infinite_prior_df_as_in_limma():
    found = moderate([1.0, 1.1, 0.9, 1.05, 0.97], [8] * 5)  # squeezeVar: df.prior Inf, every variance 1.004
    assert found.prior_df == np.inf and found.prior_variance == pytest.approx(1.004)
    assert found.variances == pytest.approx(np.full(5, 1.004)) and found.dfs.tolist() == [40] * 5
    unequal = moderate([1.0, 1.1, 0.95], [20, 10, 10])
    assert unequal.prior_variance == pytest.approx((20 + 11 + 9.5) / 40)


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_moment_equations(seed):
    """Solves trigamma(d0 / 2) = excess by bisection on another route than the code's Newton steps."""
    rng = np.random.default_rng(seed)
    d = rng.integers(2, 12, 60).astype(float)
    s2 = 0.3 * (5 / rng.chisquare(5, 60)) * rng.chisquare(d) / d
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    excess = np.var(e, ddof=1) - np.mean(special.zeta(2, d / 2))  # Hurwitz zeta(2, x) = trigamma(x)
    half = optimize.brentq(lambda y: special.zeta(2, y) - excess, 1e-3, 1e6, xtol=1e-12, rtol=1e-14)
    s02 = np.exp(np.mean(e) + special.digamma(half) - np.log(half))
    found = moderate(s2, d)
    assert (found.prior_df, found.prior_variance) == pytest.approx((2 * half, s02), rel=1e-6)
    assert found.variances == pytest.approx((2 * half * s02 + d * s2) / (2 * half + d), rel=1e-6)
    assert np.all(found.dfs <= d.sum())


def test_recovers_the_prior():
    rng = np.random.default_rng(7)
    d0, s02, d = 8.0, 0.25, 4.0
    truth = d0 * s02 / rng.chisquare(d0, 20_000)
    found = moderate(truth * rng.chisquare(d, 20_000) / d, np.full(20_000, d))
    assert found.prior_df == pytest.approx(d0, rel=0.05) and found.prior_variance == pytest.approx(
        s02, rel=0.02
    )


def test_variances_of_zero_and_cells_without_runs():
    found = moderate([*S2, 0.0, 0.0], [*DF, 8, 0])
    assert 0 < found.variances[-2] < found.prior_variance and np.isfinite(found.prior_df)
    assert found.variances[-1] == pytest.approx(found.prior_variance)  # no df of its own: the prior's
    mostly = moderate([0.0] * 8 + [1.0, 2.0], [4] * 10)
    assert np.isfinite(mostly.variances).all() and np.all(mostly.variances > 0)


def family(rng, *, cells=24, seeds=3, n=40):
    examples = Examples.regular(["l0", "l1"], n)
    fits, terms = [], []
    for _ in range(cells):
        four = []
        for _ in range(4):
            p = 0.6 + rng.normal(0, 0.03, (seeds, 1))
            hits = rng.random((seeds, 2 * n)) < p
            four.append(Cell.from_counts(examples, hits, np.ones((seeds, 2 * n))))
        terms.append([Term(dict(enumerate(four)), dict(enumerate((1.0, -1.0, -1.0, 1.0))))])
        fits.append(estimate(terms[-1]))
    return fits, terms


def test_moderated_fits_follow_the_formula():
    fits, _ = family(np.random.default_rng(8))
    new, prior = moderated(fits)
    assert len(new) == len(fits)
    expected = moderate([fit.v_run / (4 / 3) for fit in fits], [8.0] * len(fits))
    assert prior.variances == pytest.approx(expected.variances)
    for before, after, s2 in zip(fits, new, expected.variances, strict=True):
        # the prior's df and the estimate's own by Welch: no more than limma's, which assumes equal variances
        d = min(prior.prior_df + before.df_run, 8.0 * len(fits))
        assert 2 <= before.df_run <= 8 == before.df_residual
        v_run = s2 * 4 / 3
        total = v_run + before.v_examples
        df = total**2 / (v_run**2 / d + before.v_examples**2 / before.df_examples)
        assert (after.v_run, after.se**2, after.df) == pytest.approx((v_run, total, df))
        assert after.p == pytest.approx(2 * stats.t.sf(abs(before.value) / np.sqrt(total), df))
        assert after.p_unmoderated == before.p and after.value == before.value
        assert after.v_examples == before.v_examples and "moderated, unmoderated" in str(after)
        half = stats.t.ppf(0.975, df) * np.sqrt(total)
        assert (after.low, after.high) == pytest.approx((before.value - half, before.value + half))
    spread = [np.std([np.log(fit.v_run) for fit in some]) for some in (fits, new)]
    assert spread[1] < spread[0]


def test_moderated_effects_are_judged_again():
    rng = np.random.default_rng(12)
    effects = [
        did(*(rng.random((3, 2, 60)) < 0.6 + rng.normal(0, 0.01) for _ in range(4))) for _ in range(20)
    ]
    new, _ = moderated(effects)
    for before, after in zip(effects, new, strict=True):
        assert after.p_equivalence == after.equivalence(0.01) != before.p_equivalence
        assert after.verdict == verdict(after.p, after.p_equivalence) and after.logit == before.logit
        assert "moderated, unmoderated p" in str(after) and after.row()["p_unmoderated"] == before.p


def test_deterministic_fits_stay_as_they_are():
    rng = np.random.default_rng(9)
    fits, _ = family(rng, cells=20)
    examples = Examples.regular(["l0"], 30)
    still = contrast([Cell.from_counts(examples, rng.random(30), np.ones(30), [-1])], [1])
    new, prior = moderated([*fits[:10], still, *fits[10:]])
    assert new[10] is still and len(prior.variances) == 20
    assert new[:10] == moderated(fits)[0][:10]


def test_familywise_error_of_moderated_holm_over_81_cells():
    """Nine targets x nine conditions with common baselines and checkpoints; run variances differ by cell."""
    rng = np.random.default_rng(10)
    examples = Examples.regular(["l0"], 2)
    ones = np.ones((3, 2))
    families, wrong, narrower = 80, 0, 0
    for _ in range(families):
        checkpoint = rng.normal(0, 0.003, (2, 10, 3)) * (np.arange(10) > 0)[:, None]
        fits = []
        for _ in range(9):
            sd = 0.005 * np.exp(rng.normal(0, 0.2, (2, 10, 1)))
            runs = 0.7 + checkpoint + sd * rng.normal(size=(2, 10, 3))
            cells = {
                (a, c): Cell.from_counts(examples, np.repeat(runs[a, c][:, None], 2, axis=1), ones)
                for a in range(2)
                for c in range(10)
            }
            for c in range(1, 10):
                signs = {(0, c): 1.0, (0, 0): -1.0, (1, c): -1.0, (1, 0): 1.0}
                fits.append(estimate([Term(cells, signs)]))
        new, _ = moderated(fits)
        wrong += bool(np.any(holm([f.p for f in new if f.p is not None]) < 0.05))
        width = [np.median([f.high - f.low for f in some]) for some in (new, fits)]
        narrower += width[0] < width[1]
    assert wrong / families <= 0.06 + 2 * np.sqrt(0.05 * 0.95 / families)
    assert narrower == families  # what it is for: narrower intervals


def test_refusals():
    fits, _ = family(np.random.default_rng(11), cells=5)
    with pytest.raises(AnalysisError, match="too few"):
        moderated(fits)
    assert len(moderated(fits, minimum=5)[0]) == 5
    examples = Examples.regular(["l0", "l1"], 9)
    cell = Cell.from_counts(examples, np.eye(3, 18), np.ones((3, 18)))
    with pytest.raises(AnalysisError, match="T0"):
        moderated([*fits, contrast([cell], [1], tier="T0")], minimum=2)
    for bad in (([1.0, 2.0], [3.0]), ([1.0, -2.0], [3.0, 3.0]), ([1.0, np.nan], [3.0, 3.0])):
        with pytest.raises(AnalysisError, match="non-negative"):
            moderate(*bad)
    for nothing in (([0.0, 0.0], [3.0, 3.0]), ([1.0, 2.0], [3.0, 0.0]), ([], [])):
        with pytest.raises(AnalysisError, match="no prior"):
            moderate(*nothing)
