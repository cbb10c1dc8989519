import numpy as np
import pytest
from scipy.stats import false_discovery_control

from xtremex.analysis.multiplicity import benjamini_hochberg, holm
from xtremex.errors import AnalysisError

# Benjamini & Hochberg (1995), section 3.2: 15 endpoints; Bonferroni finds three, Holm three, BH four
PUBLISHED = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
]  # fmt: skip


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
def test_bh_equals_scipy(m):
    rng = np.random.default_rng(m)
    p = np.round(rng.random(m) ** 2, 2)  # ties included
    assert benjamini_hochberg(p) == pytest.approx(false_discovery_control(p, method="bh"))


def test_order_and_bounds():
    p = np.random.default_rng(1).random(30)
    for adjust in (holm, benjamini_hochberg):
        adjusted = adjust(p)
        assert np.all(adjusted >= p) and np.all(adjusted <= 1)
        assert np.all(np.diff(adjusted[np.argsort(p)]) >= 0)
    assert np.all(holm(p) >= benjamini_hochberg(p))


def test_empty_and_refused():
    assert len(holm([])) == 0 and len(benjamini_hochberg([])) == 0
    for bad in ([0.1, float("nan")], [1.2], [-0.1], [[0.1], [0.2]]):
        for adjust in (holm, benjamini_hochberg):
            with pytest.raises(AnalysisError, match="within"):
                adjust(bad)
