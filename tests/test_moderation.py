"""Moderated variances against limma, an independent implementation of the moments, and simulation."""

import numpy as np
import pytest
from scipy import optimize, special, stats

from xtremex.analysis.equivalence import verdict
from xtremex.analysis.estimator import Cell, Examples, Term, contrast, did, estimate
from xtremex.analysis.families import by_target
from xtremex.analysis.moderation import Group, moderate, moderated
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


def unshared(members, level_df=8.0, shared=0.0):
    """A group of cells that share no runs, with a level of known df: what limma's genes are."""
    kind = type("Unshared", (Group,), {"shared": shared, "level_df": level_df})
    ones = np.ones((len(members), 1))
    return kind(tuple(members), ones, ones, np.ones(1))


def test_groups_equal_limma_with_a_covariate():
    """Through two means goes a line: limma's trend with the group as covariate (tests/oracles/families.R)."""
    groups = [unshared([0, 1, 2, 3, 5, 8]), unshared([4, 6, 7, 9])]
    found = moderate(S2, DF, groups)
    assert found.prior_df == pytest.approx(3.003168798015, rel=1e-6)
    assert found.levels == pytest.approx(np.array([0.415828111068, 3.156600181645]), rel=1e-6)
    assert found.variances == pytest.approx(np.array([
        0.338884377487, 0.767851712865, 1.149308583106, 0.440673236729, 3.973442427370,
        0.171659823017, 2.606503971701, 1.566093393299, 0.913264368925, 8.025728543441,
    ]), rel=1e-6)  # fmt: skip
    assert found.prior_variance == pytest.approx(np.sqrt(0.415828111068 * 3.156600181645), rel=1e-6)


def test_what_cells_share_is_no_evidence_that_they_are_alike():
    """Chance spreads variances with a correlation of .5 by half as much: the moment equation solved by bisection."""
    members = [0, 1, 2, 3, 5, 8], [4, 6, 7, 9]
    found = moderate(S2, DF, [unshared(members[0], shared=0.5), unshared(members[1], shared=0.25)])
    d = np.array(DF, dtype=float)
    e = np.log(S2) - special.digamma(d / 2) + np.log(d / 2)
    chance = special.zeta(2, d / 2) * [0.75 if i in members[1] else 0.5 for i in range(10)]
    spread = sum(np.var(e[at], ddof=1) * (len(at) - 1) for at in members) / 8
    half = optimize.brentq(lambda y: special.zeta(2, y) - (spread - chance.mean()), 1e-3, 1e6)
    assert found.prior_df == pytest.approx(2 * half, rel=1e-6)
    assert found.prior_df < moderate(S2, DF, [unshared(at) for at in members]).prior_df


def test_levels_of_three_groups_equal_limma_twice():
    members, level_dfs = ([0, 1, 2], [3, 5, 8], [4, 6, 7, 9]), (6.0, 9.0, 14.0)
    found = moderate(S2, DF, [unshared(at, df) for at, df in zip(members, level_dfs, strict=True)])
    assert found.prior_df == pytest.approx(2.897862320298, rel=1e-6)
    levels = np.array([0.617056271274, 0.331104704401, 2.732028491350])
    assert found.levels == pytest.approx(levels, rel=1e-6)
    d0, above = 2.897862320298, 2.457332529362
    for at, level, df in zip(members, levels, level_dfs, strict=True):
        for i in at:
            new = (d0 * level + DF[i] * S2[i]) / (d0 + DF[i])
            lent = d0 * level / (d0 * level + DF[i] * S2[i])
            # what is borrowed is known no better than the level it comes from
            freedom = 1 / (1 / (d0 + DF[i]) + lent**2 / min(df + above, 29.0))
            assert (found.variances[i], found.dfs[i]) == pytest.approx((new, freedom), rel=1e-6)


def test_levels_that_differ_by_chance_are_one():
    s2 = [1.0, 3.0, 0.5, 1.1, 2.9, 0.4, 1.2, 3.3, 0.5]
    found = moderate(
        s2, [4] * 9, [unshared([i, i + 1, i + 2], df) for i, df in ((0, 4.0), (3, 5.0), (6, 6.0))]
    )
    assert len(set(found.levels.tolist())) == 1 and found.prior_variance == pytest.approx(found.levels[0])
    assert np.all(found.dfs <= 36)


def test_a_target_in_other_units_changes_nothing_elsewhere():
    groups = [unshared([0, 1, 2, 3, 5, 8]), unshared([4, 6, 7, 9])]
    before = moderate(S2, DF, groups)
    units = np.ones(10)
    units[[4, 6, 7, 9]] = 1e-4
    after = moderate(S2 * units, DF, groups)
    assert after.prior_df == pytest.approx(before.prior_df) and after.dfs == pytest.approx(before.dfs)
    assert after.variances == pytest.approx(before.variances * units)
    # one prior for all would now know nothing
    assert moderate(S2 * units, DF).prior_df < 0.5 * before.prior_df


def test_small_and_still_groups_lean_on_the_level_of_all():
    s2, df = np.array([*S2, 0.7, 40.0, 0.0, 0.0, 0.0]), np.array([*DF, 8, 8, 8, 8, 8.0])
    large = [unshared([0, 1, 2]), unshared([3, 5, 8]), unshared([4, 6, 7, 9])]
    groups = [*large, unshared([10, 11]), unshared([12, 13, 14])]
    found, plain = moderate(s2, df, groups), moderate(s2[:10], df[:10], large)
    assert found.variances[:10] == pytest.approx(plain.variances)
    assert np.isnan(found.levels[3:]).all() and found.levels[:3] == pytest.approx(plain.levels)
    # the spread of levels and that of cells about them add: less is borrowed than within a group
    rest = found.variances[10:12]
    slope = (rest[1] - rest[0]) / 39.3  # d / (d0 + d)
    assert 0 < 8 / slope - 8 < plain.prior_df
    assert found.dfs[10] == pytest.approx(8 / slope)
    assert np.all(found.variances[12:] > 0)
    # no group is large enough: one prior for all
    none = moderate(S2, DF, [unshared([i]) for i in range(10)])
    assert none.variances == pytest.approx(moderate(S2, DF).variances) and np.isnan(none.levels).all()
    two = moderate(s2[:12], df[:12], [*large[:1], unshared([3, 4, 5, 6, 7, 8, 9]), unshared([10, 11])])
    assert two.variances[10:] == pytest.approx(moderate(s2[:12], df[:12]).variances[10:])


def test_equal_variances_about_unequal_levels_have_infinite_prior_df():
    s2, df = [1.0, 1.1, 0.9, 9.5, 10.0, 10.5], [8, 4, 8, 8, 8, 4]
    found = moderate(s2, df, [unshared([0, 1, 2], 5.0), unshared([3, 4, 5], 7.0)])
    pooled = [(8 + 4.4 + 7.2) / 20, (76 + 80 + 42) / 20]
    assert found.prior_df == np.inf and found.levels == pytest.approx(np.array(pooled))
    assert found.variances == pytest.approx(np.repeat(pooled, 3))
    assert found.dfs.tolist() == [5.0] * 3 + [7.0] * 3  # and not the 40 of all cells


@pytest.mark.parametrize("seeds", [(3, 3, 3), (5, 2, 3)])
def test_what_cells_of_a_target_share(seeds):
    """Correlation and df of the estimated variances, by drawing them again."""
    rng = np.random.default_rng(20)
    base, *others = seeds
    conditions, draws = len(others) * 3, 60_000
    counts = [base, *np.repeat(others, 3)]
    sds = 0.01 * np.array([1.0, *([1.0, 0.5, 2.0] * 2)])
    examples = Examples.regular(["a"], 4)
    cells = {
        c: Cell.from_counts(
            examples, np.repeat(0.5 + 0.01 * rng.normal(size=(s, 1)), 4, axis=1), np.ones((s, 4))
        )
        for c, s in enumerate(counts)
    }
    terms = [[Term(cells, {c: 1.0, 0: -1.0})] for c in range(1, conditions + 1)]
    (group,) = by_target(terms)
    fits = [estimate(t) for t in terms]
    assert group.members == tuple(range(conditions))
    assert group.variances.sum(axis=1) == pytest.approx([fit.v_run for fit in fits])
    assert group.scales.sum(axis=1) == pytest.approx([fit.run_scale for fit in fits])

    def drawn(sds):
        s2 = [sd**2 * rng.chisquare(s - 1, draws) / (s - 1) for sd, s in zip(sds, counts, strict=True)]
        scale = np.array([1 / s + 1 / base for s in counts[1:]])
        v = np.array([s2[c] / counts[c] + s2[0] / base for c in range(1, conditions + 1)])
        return v / scale[:, None]

    alike = np.cov(drawn(np.ones(conditions + 1)))
    shared = (alike.sum() - np.trace(alike)) / (conditions - 1) / np.trace(alike)
    assert group.shared == pytest.approx(shared, abs=0.02)
    level = drawn(sds).mean(axis=0)
    truth = Group(
        group.members,
        group.scales * [sds[0] ** 2, *sds[1:] ** 2],
        group.scales,
        group.dfs,
    )
    assert truth.level_df == pytest.approx(2 * level.mean() ** 2 / level.var(), rel=0.05)


def test_groups_are_targets():
    rng = np.random.default_rng(21)
    one, other = Examples.regular(["a"], 30), Examples.regular(["a"], 30)

    def term(examples, key, still=False):
        runs, seeds = (1, [-1]) if still else (3, [0, 1, 2])
        cells = {
            k: Cell.from_counts(examples, rng.random((runs, 30)) < 0.6, np.ones((runs, 30)), seeds)
            for k in (key, "none")
        }
        return [Term(cells, {key: 1.0, "none": -1.0})]

    both = [*term(one, "c"), *term(other, "c")]
    contrasts = [
        term(one, "a"),
        term(other, "a"),
        term(one, "b", still=True),
        term(one, "b"),
        both,
        both[::-1],
    ]
    assert [g.members for g in by_target(contrasts)] == [(0, 3), (1,), (4, 5)]
    wide = by_target([both])[0]
    assert wide.variances.sum() == pytest.approx(estimate(both).v_run)


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


def test_unlike_targets_are_moderated_by_their_own_level():
    """A map with two quiet targets, of which a prior for all says only that it knows nothing."""
    rng = np.random.default_rng(22)
    levels = np.array([0.02, 0.025, 0.012, 0.028, 0.002, 0.0025])
    families, ones, wrong = 50, np.ones((3, 2)), 0
    widths: tuple[list[np.ndarray], ...] = ([], [], [])
    for _ in range(families):
        terms = []
        for level in levels:
            examples = Examples.regular(["l0"], 2)
            runs = 0.6 + level * np.exp(rng.normal(0, 0.2, (2, 7, 1))) * rng.normal(size=(2, 7, 3))
            cells = {
                (a, c): Cell.from_counts(examples, np.repeat(runs[a, c][:, None], 2, axis=1), ones)
                for a in range(2)
                for c in range(7)
            }
            for c in range(1, 7):
                terms.append([Term(cells, {(0, c): 1.0, (0, 0): -1.0, (1, c): -1.0, (1, 0): 1.0})])
        fits = [estimate(t) for t in terms]
        by_level, _ = moderated(fits, by_target(terms))
        wrong += bool(np.any(holm([f.p for f in by_level if f.p is not None]) < 0.05))
        whole, _ = moderated(fits)
        for k, some in enumerate((by_level, whole, fits)):
            # what an effect must exceed in Holm's first step, in true standard errors
            bars = [f.se * stats.t.ppf(1 - 0.05 / 72, f.df) / np.sqrt(4 / 3) for f in some]
            widths[k].append(np.median(np.reshape(bars, (6, 6)) / levels[:, None], axis=1))
    assert wrong / families <= 0.06 + 2 * np.sqrt(0.05 * 0.95 / families)
    by_level, whole, own = (np.median(w, axis=0) for w in widths)
    assert np.all(by_level < 0.9 * own) and np.all(by_level < 0.9 * whole)
    # known variances would make it 3.2
    assert np.all(by_level > 3.2) and np.all(by_level < 6.0) and by_level[:4].max() < 4.5


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
    examples = Examples.regular(["l0"], 9)
    pair = [Cell.from_counts(examples, np.eye(s, 9), np.ones((s, 9))) for s in (3, 5)]
    other = by_target([[Term(dict(enumerate(pair)), {0: 1.0, 1: -1.0})]] * 5)
    for groups in (other, by_target([[Term({0: pair[0]}, {0: 1.0})]] * 6)):
        with pytest.raises(AnalysisError, match="not those of these 5 estimates"):
            moderated(fits, groups, minimum=5)
    for nothing in (([0.0, 0.0], [3.0, 3.0]), ([1.0, 2.0], [3.0, 0.0]), ([], [])):
        with pytest.raises(AnalysisError, match="no prior"):
            moderate(*nothing)
