"""Adjusted p-values against R, scipy, published examples and enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import false_discovery_control

from xtremex.analysis.multiplicity import (
    benjamini_hochberg,
    benjamini_yekutieli,
    holm,
    max_p,
    max_t,
    partial_conjunction,
    replicability_count,
    within_selected,
)
from xtremex.errors import AnalysisError

# Benjamini & Hochberg (1995), section 3.2: 15 endpoints; Bonferroni finds three, Holm three, BH four
PUBLISHED = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
]  # fmt: skip

# p.adjust of R 4.2.2, printed by tests/oracles/families.R
P = [0.00021, 0.0009, 0.004, 0.011, 0.0112, 0.03, 0.041, 0.26, 0.5, 0.97]
P_ADJUST = {
    holm: [0.0021, 0.0081, 0.0320, 0.0770, 0.0770, 0.1500, 0.1640, 0.7800, 1.0, 1.0],
    benjamini_hochberg: [
        0.0021, 0.0045, 0.0133333333333, 0.0224, 0.0224, 0.05, 0.0585714285714, 0.325, 0.5555555555556, 0.97,
    ],
    benjamini_yekutieli: [
        0.00615083333333, 0.01318035714286, 0.03905291005291, 0.06560888888889, 0.06560888888889,
        0.14644841269841, 0.17155385487528, 0.95191468253968, 1.0, 1.0,
    ],
}  # fmt: skip


@pytest.mark.parametrize("adjust", P_ADJUST, ids=lambda f: f.__name__)
def test_equals_r(adjust):
    order = np.random.default_rng(0).permutation(len(P))
    assert adjust(np.array(P)[order]) == pytest.approx(np.array(P_ADJUST[adjust])[order], rel=1e-9)


def test_published_example():
    order = np.random.default_rng(0).permutation(len(PUBLISHED))
    p = np.array(PUBLISHED)[order]
    found = {f.__name__: sorted(p[f(p) < 0.05].tolist()) for f in (holm, benjamini_hochberg)}
    assert found == {"holm": PUBLISHED[:3], "benjamini_hochberg": PUBLISHED[:4]}


def test_holm_by_hand():
    # sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, then the running maximum, in the order given
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("m", [1, 2, 9, 81])
def test_step_up_equals_scipy(m):
    rng = np.random.default_rng(m)
    p = np.round(rng.random(m) ** 2, 2)  # ties included
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p, method="bh"))
    assert benjamini_yekutieli(p) == pytest.approx(false_discovery_control(p, method="by"))


def test_order_and_bounds():
    p = np.random.default_rng(1).random(30)
    for adjust in P_ADJUST:
        adjusted = adjust(p)
        assert np.all(adjusted >= p) and np.all(adjusted <= 1)
        assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
    assert np.all(holm(p) >= benjamini_hochberg(p)) and np.all(
        benjamini_yekutieli(p) >= benjamini_hochberg(p)
    )


def test_empty_and_refused():
    assert all(len(adjust([])) == 0 for adjust in P_ADJUST) and replicability_count([]) == 0
    for bad in ([0.1, float("nan")], [1.2], [-0.1], [[0.1], [0.2]]):
        for adjust in (*P_ADJUST, max_p, replicability_count):
            with pytest.raises(AnalysisError, match="within"):
                adjust(bad)
    with pytest.raises(AnalysisError, match="pair"):
        max_p([])
    for u in (0, 4):
        with pytest.raises(AnalysisError, match="u goes from 1 to 3"):
            partial_conjunction([0.1, 0.2, 0.3], u)
    with pytest.raises(AnalysisError, match="combination"):
        partial_conjunction([0.1], 1, method="fisher")  # type: ignore[arg-type]
    with pytest.raises(AnalysisError, match="2 families"):
        within_selected([[0.1], [0.2]], [True])


def test_max_t_equals_dunnett():
    """Three groups against one control: its largest statistic has Dunnett's (single-step) p-value."""
    rng = np.random.default_rng(2)
    control, *groups = (rng.normal(shift, 1, 9) for shift in (0.0, 1.3, 0.2, 0.7))
    published = stats.dunnett(*groups, control=control, rng=np.random.default_rng(1))
    df = 4 * 9 - 4
    correlation = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    adjusted = max_t(published.statistic, df, correlation, draws=400_000)
    first = int(np.argmax(np.abs(published.statistic)))
    assert adjusted[first] == pytest.approx(published.pvalue[first], abs=0.002)
    # the second is taken among the two that are left
    rest = np.delete(np.arange(3), first)
    two = stats.multivariate_t(shape=correlation[:2, :2], df=df, seed=3)
    second = rest[np.argmax(np.abs(published.statistic[rest]))]
    t = abs(published.statistic[second])
    inside = two.cdf([t, t], lower_limit=[-t, -t], maxpts=100_000)
    assert adjusted[second] == pytest.approx(1 - inside, abs=0.003)
    assert np.all(adjusted <= published.pvalue + 0.002)


def test_max_t_of_independent_statistics_is_step_down_sidak():
    p = np.array([0.004, 0.2, 0.03, 0.6])
    df = np.array([5.0, 9.0, np.inf, 30.0])
    adjusted = max_t(stats.t.isf(p / 2, df), df, np.eye(4), draws=400_000)
    sorted_p = np.sort(p)
    sidak = np.maximum.accumulate(1 - (1 - sorted_p) ** np.arange(4, 0, -1))
    assert np.sort(adjusted) == pytest.approx(sidak, abs=0.003)
    # perfectly correlated: as if there were one test, the smaller p-values first
    one = max_t(stats.norm.isf(p / 2), np.inf, np.ones((4, 4)), draws=400_000)
    assert one == pytest.approx(p, abs=0.003)


def test_max_t_is_at_least_as_powerful_as_holm_and_reproducible():
    rng = np.random.default_rng(4)
    for m in (1, 5, 20):
        a = rng.normal(size=(m, 2 * m))
        correlation = np.corrcoef(a).reshape(m, m)
        t, df = rng.normal(0, 2, m), rng.uniform(3, 30, m)
        adjusted = max_t(t, df, correlation, draws=50_000, seed=5)
        raw = 2 * stats.t.sf(np.abs(t), df)
        assert np.all(adjusted <= holm(raw) + 0.01) and np.all(adjusted >= raw - 0.01)
        assert np.array_equal(adjusted, max_t(t, df, correlation, draws=50_000, seed=5))
        shuffle = rng.permutation(m)
        again = max_t(t[shuffle], df[shuffle], correlation[np.ix_(shuffle, shuffle)], draws=50_000, seed=6)
        assert again == pytest.approx(adjusted[shuffle], abs=0.012)
    assert len(max_t([], 5, np.empty((0, 0)))) == 0


def test_max_t_controls_the_familywise_error():
    rng = np.random.default_rng(6)
    m, families = 9, 300
    correlation = np.full((m, m), 0.5) + 0.5 * np.eye(m)
    root = np.linalg.cholesky(correlation)
    wrong = {"max-t": 0, "holm": 0}
    for _ in range(families):
        t = root @ rng.normal(size=m) / np.sqrt(rng.chisquare(12, m) / 12)
        wrong["max-t"] += bool(np.any(max_t(t, np.full(m, 12.0), correlation, draws=2000) < 0.05))
        wrong["holm"] += bool(np.any(holm(2 * stats.t.sf(np.abs(t), 12)) < 0.05))
    assert wrong["holm"] <= wrong["max-t"] and wrong["max-t"] / families <= 0.06 + 2 * 0.0126


def test_max_t_refusals():
    good = np.eye(2)
    for t, df, r, match in (
        ([1.0, 2.0], 5, np.eye(3), "do not match"),
        ([1.0, 2.0], [5.0], good, "do not match"),
        ([1.0, np.nan], 5, good, "numbers"),
        ([1.0, 2.0], 0, good, "positive"),
        ([1.0, 2.0], 5, 2 * good, "no correlation"),
        ([1.0, 2.0], 5, np.array([[1.0, 1.5], [1.5, 1.0]]), "no correlation"),
        ([1.0, 2.0], 5, np.array([[1.0, 0.2], [0.4, 1.0]]), "no correlation"),
    ):
        with pytest.raises(AnalysisError, match=match):
            max_t(t, df, r)


def test_partial_conjunction_by_hand():
    p = [0.02, 0.001, 0.3, 0.012]
    # sorted .001 .012 .02 .3; (n - u + 1) p_(u) = .004 .036 .04 .3
    assert [partial_conjunction(p, u) for u in (1, 2, 3, 4)] == pytest.approx([0.004, 0.036, 0.04, 0.3])
    # Simes over the n - u + 1 largest: u = 1: min(4 * .001, 2 * .012, 4/3 * .02, .3); u = 2: min(3 * .012, 3/2 * .02, .3)
    simes = [partial_conjunction(p, u, method="simes") for u in (1, 2, 3, 4)]
    assert simes == pytest.approx([0.004, 0.03, 0.04, 0.3])
    assert replicability_count(p) == 3 and replicability_count(p, 0.01) == 1
    assert partial_conjunction(p, 4) == max_p(p) == 0.3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_replicability(p):
    """Bonferroni counts what Holm rejects; Simes counts no less; larger claims need larger p-values."""
    assert replicability_count(p) == np.sum(holm(p) <= 0.05)
    assert replicability_count(p, method="simes") >= replicability_count(p)
    for method in ("bonferroni", "simes"):
        found = [partial_conjunction(p, u, method=method) for u in range(1, len(p) + 1)]
        assert found == sorted(found) and found[-1] >= max(p)
    assert replicability_count(p) == sum(partial_conjunction(p, u) <= 0.05 for u in range(1, len(p) + 1))


def test_replicability_count_is_a_lower_bound():
    """With 4 of 9 effects true, "at least u" overshoots 4 in at most 5 % of data sets."""
    rng = np.random.default_rng(7)
    shift = np.array([4.0] * 4 + [0.0] * 5)
    p = 2 * stats.norm.sf(np.abs(rng.normal(size=(1500, 9)) + shift))
    for method in ("bonferroni", "simes"):
        counts = np.array([replicability_count(row, method=method) for row in p])
        assert np.mean(counts > 4) <= 0.05 + 2 * 0.0056 and counts.mean() > 3


def test_within_selected_cells():
    families = [[0.001, 0.02, 0.2], [0.5, 0.6], [0.004, 0.03], [0.9]]
    found = within_selected(families, [True, False, True, False])
    assert found[1] is None and found[3] is None
    # two of four were selected: BH at q / 2, so the adjusted values are doubled
    assert found[0] == pytest.approx(2 * benjamini_hochberg(families[0])) and found[2] is not None
    assert (found[2] < 0.05).tolist() == [True, False] == (benjamini_hochberg(families[2]) < 0.025).tolist()
    assert within_selected([[0.7]], [False]) == [None]
    everything = within_selected(families, [True] * 4)
    assert all(
        a is not None and np.allclose(a, benjamini_hochberg(b))
        for a, b in zip(everything, families, strict=True)
    )
