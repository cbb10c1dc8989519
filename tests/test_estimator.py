"""The estimator against hand counts, a transcription of its definition, scipy, and a bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xtremex.analysis.equivalence import equivalence_p, minimum_detectable_effect, power, verdict
from xtremex.analysis.estimator import Cell, Examples, Term, contrast, did, estimate
from xtremex.analysis.simulate import SCENARIOS, Scenario, calibrate, simulate
from xtremex.errors import AnalysisError

DID = (1.0, -1.0, -1.0, 1.0)


def transcription(examples, num, den, weights, coefficients):
    """Section 2.2 of the statistics reference, one scalar at a time. Returns value, V_run, V_ex, df.

    What V_run holds of the examples is summed over units, as V_ex is: the section's ``within`` where units are single
    examples of one language.
    """
    languages = range(len(examples.languages))
    where = [range(examples.offsets[i], examples.offsets[i + 1]) for i in languages]
    run_parts, value, within, own = [], 0.0, [0.0 for _ in languages], 0.0

    def summed(values):
        units = {}
        for i in languages:
            mean = sum(values[e] for e in where[i]) / len(where[i])
            for e in where[i]:
                key = examples.cluster[e] if examples.parallel else (i, examples.cluster[e])
                units[key] = units.get(key, 0.0) + weights[i] * (values[e] - mean) / len(where[i])
        return units

    d = np.zeros(len(examples.example))
    for top, bottom, c in zip(num, den, coefficients, strict=True):
        runs = len(top)
        phi, y = np.zeros_like(top), np.zeros((runs, len(examples.languages)))
        for s in range(runs):
            for i in languages:
                ratio = sum(top[s, e] for e in where[i]) / sum(bottom[s, e] for e in where[i])
                mean_den = sum(bottom[s, e] for e in where[i]) / len(where[i])
                y[s, i] = ratio
                for e in where[i]:
                    phi[s, e] = ratio + (top[s, e] - ratio * bottom[s, e]) / mean_den
        total = [sum(weights[i] * y[s, i] for i in languages) for s in range(runs)]
        value += c * np.mean(total)
        run_parts.append((c * c * np.var(total, ddof=1) / runs, runs - 1))
        d += c * phi.mean(axis=0)
        for i in languages:
            spread = np.mean([np.var(phi[:, e], ddof=1) for e in where[i]]) - np.var(y[:, i], ddof=1)
            within[i] += c * c / runs * max(0.0, spread)
        for s in range(runs):
            of_run = summed(phi[s] - phi.mean(axis=0))
            own += c * c / runs * sum(u * u for u in of_run.values()) / (runs - 1)
    units = summed(d)
    if examples.parallel:
        v_ex, df_ex = sum(u * u for u in units.values()) * len(units) / (len(units) - 1), len(units) - 1
    else:
        v_ex, df_ex = 0.0, 0
        for i in languages:
            mine = [u for key, u in units.items() if key[0] == i]
            v_ex += sum(u * u for u in mine) * len(mine) / (len(mine) - 1)
            df_ex += len(mine) - 1
    if not examples.parallel and np.array_equal(examples.example, examples.cluster):
        assert own == pytest.approx(sum(weights[i] ** 2 * within[i] / len(where[i]) for i in languages))
    v_ex = max(0.0, v_ex - own)
    v_run = sum(v for v, _ in run_parts)
    df_run = v_run**2 / sum(v * v / f for v, f in run_parts)
    return value, v_run, v_ex, (v_run + v_ex) ** 2 / (v_run**2 / df_run + v_ex**2 / df_ex)


def build(seed, seeds, sizes, *, parallel=False, cluster_size=1, ratio=False):
    rng = np.random.default_rng(seed)
    ids = [np.arange(n) for n in sizes]
    example = np.concatenate(ids).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    examples = Examples(
        tuple(f"l{i}" for i in range(len(sizes))), offsets, example, example // cluster_size, parallel
    )
    num, den = [], []
    for s in seeds:
        ease = rng.random(len(example))  # difficulty of a cell's own, so that examples add variance
        hit = (rng.random((s, len(example))) < 0.9 * ease + 0.05 + 0.1 * rng.normal(size=(s, 1))).astype(
            float
        )
        extra = rng.integers(0, 3, hit.shape) if ratio else 0.0
        num.append(2.0 * hit if ratio else hit)
        den.append(hit + 1.0 + extra if ratio else np.ones_like(hit))
    return examples, num, den


@pytest.mark.parametrize("ratio", [False, True])
@pytest.mark.parametrize("seeds", [(3, 3, 3, 3), (2, 5, 3, 4)])
@pytest.mark.parametrize(
    ("sizes", "parallel", "cluster_size"),
    [
        ((20, 20, 20), False, 1),
        ((12, 30), False, 1),
        ((24, 24), True, 1),
        ((24, 18), False, 3),
        ((24, 24), True, 4),
    ],
)
def test_equals_the_transcribed_definition(ratio, seeds, sizes, parallel, cluster_size):
    examples, num, den = build(1, seeds, sizes, parallel=parallel, cluster_size=cluster_size, ratio=ratio)
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    weights = np.full(len(sizes), 1 / len(sizes))
    value, v_run, v_ex, df = transcription(examples, num, den, weights, DID)
    fit = did(*cells)
    assert (fit.value, fit.v_run, fit.v_examples, fit.df) == pytest.approx((value, v_run, v_ex, df), rel=1e-9)
    assert fit.p == pytest.approx(2 * stats.t.sf(abs(value) / np.sqrt(v_run + v_ex), df), rel=1e-9)
    half = stats.t.ppf(0.975, df) * np.sqrt(v_run + v_ex)
    assert (fit.low, fit.high) == pytest.approx((value - half, value + half), rel=1e-9)
    assert fit.v_examples > 0 and fit.tier == "T2" and fit.seeds == min(seeds)


def test_language_weights_equal_the_definition():
    examples, num, den = build(2, (3, 3, 3, 3), (20, 16, 24))
    cells = {k: Cell.from_counts(examples, a, b) for k, (a, b) in enumerate(zip(num, den, strict=True))}
    weights = np.array([0.5, 0.2, 0.3])
    value, v_run, v_ex, df = transcription(examples, num, den, weights, DID)
    fit = estimate([Term(cells, dict(enumerate(DID)), weights)])
    assert (fit.value, fit.v_run, fit.v_examples, fit.df) == pytest.approx((value, v_run, v_ex, df), rel=1e-9)


@pytest.mark.parametrize("parallel", [False, True])
def test_one_language_of_many_equals_that_language_alone(parallel):
    examples, num, den = build(3, (3, 3, 3, 3), (20, 16, 24), parallel=parallel)
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    one_hot = Term(dict(enumerate(cells)), dict(enumerate(DID)), np.array([0.0, 1.0, 0.0]))
    alone = contrast([cell.subset(["l1"]) for cell in cells], DID)
    assert estimate([one_hot]) == alone


def test_by_hand():
    """Two runs a cell, one language, four examples; every number below was counted on paper."""
    examples = Examples.regular(["en"], 4)
    v = Cell.from_counts(examples, np.array([[1, 1, 1, 0], [1, 1, 0, 0]]), np.ones((2, 4)))
    t = Cell.from_counts(examples, np.array([[1, 0, 0, 0], [1, 0, 1, 0]]), np.ones((2, 4)))
    assert v.scores.tolist() == [[0.75], [0.5]] and t.scores.tolist() == [[0.25], [0.5]]
    # run variance of each cell: (1/4)^2 / 2 = 1/32; mean over two runs: 1/64
    # within: one of four examples varies with variance 1/2, so 1/8 - 1/32 = 3/32 in each cell
    assert v.within == pytest.approx([3 / 32]) and t.within == pytest.approx([3 / 32])
    fit = contrast([v, t], [1, -1])
    # d = (0, 1, 0, 0): variance 1/4, over n 1/16; less (3/64 + 3/64) / 4 = 3/128
    assert fit.value == pytest.approx(0.25)
    assert fit.v_run == pytest.approx(1 / 32)
    assert fit.v_examples == pytest.approx(1 / 16 - 3 / 128)
    total = 1 / 32 + 5 / 128
    assert fit.df == pytest.approx(total**2 / (2 * (1 / 64) ** 2 + (5 / 128) ** 2 / 3))


def test_is_welch_where_examples_say_nothing():
    """Scores without any spread over examples leave only the runs: scipy's Welch test."""
    rng = np.random.default_rng(4)
    examples = Examples.regular(["en", "de"], 5)
    a, b = rng.random(4), rng.random(7)
    cells = [
        Cell.from_counts(examples, np.repeat(x[:, None], 10, axis=1), np.ones((len(x), 10))) for x in (a, b)
    ]
    fit, welch = contrast(cells, [1, -1]), stats.ttest_ind(a, b, equal_var=False)
    assert fit.v_examples == pytest.approx(0, abs=1e-30)
    assert fit.p == pytest.approx(welch.pvalue) and fit.df == pytest.approx(welch.df)
    interval = welch.confidence_interval()
    assert (fit.low, fit.high) == pytest.approx((interval.low, interval.high))


def test_is_the_paired_t_test_where_nothing_is_trained():
    rng = np.random.default_rng(5)
    examples = Examples.regular(["en"], 40)
    a, b = rng.random(40), rng.random(40)
    cells = [Cell.from_counts(examples, x, np.ones(40), [-1]) for x in (a, b)]
    fit, paired = contrast(cells, [1, -1]), stats.ttest_rel(a, b)
    assert fit.p == pytest.approx(paired.pvalue) and fit.df == pytest.approx(39)
    assert fit.v_run == 0 and fit.seeds == 0


def test_one_run_allows_examples_only():
    examples, num, den = build(6, (1, 1, 1, 1), (30,))
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    with pytest.raises(AnalysisError, match="two or more runs") as error:
        did(*cells)
    assert "T0" in error.value.hint
    fit = did(*cells, tier="T0")
    d = sum(c * a[0] for c, a in zip(DID, num, strict=True))
    assert fit.tier == "T0" and fit.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue)
    examples, num, den = build(6, (3, 3, 3, 3), (30,))
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    parts = {tier: did(*cells, tier=tier) for tier in ("T0", "T1", "T2")}
    assert parts["T0"].v_run == 0 and parts["T1"].v_examples == 0
    assert parts["T1"].v_run == parts["T2"].v_run
    # these checkpoints: the noise of each run is part of the examples' variance
    assert parts["T0"].v_examples > parts["T2"].v_examples


def test_deterministic_cell_beside_trained_ones():
    """A retrieval cell without training: no run variance, no df, and its examples still pair."""
    examples, num, den = build(7, (3, 1, 3, 1), (25, 25))
    seeds = [None, [-1], None, [-1]]
    cells = [Cell.from_counts(examples, *x) for x in zip(num, den, seeds, strict=True)]
    assert [cell.deterministic for cell in cells] == [False, True, False, True]
    fit = did(*cells)
    trained = [np.var(cells[k].scores.mean(axis=1), ddof=1) / 3 for k in (0, 2)]
    assert fit.v_run == pytest.approx(sum(trained)) and fit.seeds == 3
    v_ex = fit.v_examples
    assert fit.df == pytest.approx(
        (sum(trained) + v_ex) ** 2 / (sum(v * v / 2 for v in trained) + v_ex**2 / 48)
    )


def test_runs_without_variance():
    """0 / 0 in the degrees of freedom of the runs: they are then those of the examples."""
    hits = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    examples = Examples.regular(["en"], 6)
    same = Cell.from_counts(examples, np.tile(hits, (3, 1)), np.ones((3, 6)))
    other = Cell.from_counts(examples, np.tile(hits[::-1] * 0.5, (3, 1)), np.ones((3, 6)))
    fit = contrast([same, other], [1, -1])
    assert fit.v_run == 0 and fit.df == 5 and fit.p is not None and 0 < fit.p < 1
    nothing = contrast([same, same], [1, -1])
    assert nothing.se == 0 and nothing.p is None and nothing.low == nothing.high == nothing.value == 0
    assert np.isfinite(nothing.df)


def test_influence_error_equals_the_bootstrap():
    """F1: the example variance of one run from influence values, against 4,000 resamples of sentences."""
    rng = np.random.default_rng(8)
    n, resamples = 400, 4000
    gold = rng.integers(1, 5, n).astype(float)
    found = rng.binomial(gold.astype(int), 0.6).astype(float)
    predicted = found + rng.integers(0, 3, n)
    num, den = 2 * found, predicted + gold
    examples = Examples.regular(["en"], n)
    cell = Cell.from_counts(examples, num, den, [-1])
    fit = contrast([cell], [1])
    draws = rng.multinomial(n, np.full(n, 1 / n), resamples)
    scores = (draws @ num) / (draws @ den)
    assert fit.value == pytest.approx(num.sum() / den.sum())
    assert fit.se == pytest.approx(scores.std(ddof=1), rel=0.05)


def test_tasks_that_share_checkpoints_are_aggregated_first():
    """The same seed's scores are summed over tasks before the variance; example variances add."""
    rng = np.random.default_rng(9)
    cells = {}
    for task in "ab":
        examples, num, den = build(ord(task), (4, 4), (30, 30))
        cells[task] = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    shared = rng.normal(size=4)
    for task in "ab":  # a strong common checkpoint effect on the first cell
        first = cells[task][0]
        cells[task][0] = Cell(
            first.examples, first.seeds, first.scores + shared[:, None], first.contributions, first.noise
        )
    terms = [Term({0: x, 1: y}, {0: 0.5, 1: -0.5}) for x, y in cells.values()]
    fit, alone = estimate(terms), [contrast(pair, [0.5, -0.5]) for pair in cells.values()]
    per_seed = [sum(0.5 * pair[k].scores.mean(axis=1) for pair in cells.values()) for k in (0, 1)]
    by_hand = [np.var(z, ddof=1) / 4 for z in per_seed]
    assert fit.value == pytest.approx(sum(f.value for f in alone))
    assert fit.v_run == pytest.approx(sum(by_hand))
    assert fit.v_run > 1.8 * sum(f.v_run for f in alone)  # independence would halve it
    assert fit.v_examples == pytest.approx(sum(f.v_examples for f in alone))
    denominator = sum(v * v / 3 for v in by_hand) + sum(f.v_examples**2 / 58 for f in alone)
    assert fit.df == pytest.approx(fit.variance**2 / denominator)


def test_conditions_share_their_runs_without_training():
    """The mean of two effects over one `none` cell is one contrast: its two parts are correlated."""
    examples, num, den = build(10, (3,) * 3, (40, 40))
    one, two, none = (Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True))
    mean = contrast([one, two, none], [0.5, 0.5, -1.0])
    first, second = contrast([one, none], [1, -1]), contrast([two, none], [1, -1])
    assert mean.value == pytest.approx((first.value + second.value) / 2)
    none_run = np.var(none.scores.mean(axis=1), ddof=1) / 3
    # Var of the mean = (V1 + V2 + 2 Cov) / 4 with Cov = the variance of the shared runs
    assert mean.v_run == pytest.approx((first.v_run + second.v_run + 2 * none_run) / 4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_symmetries(seed, parallel, ratio):
    examples, num, den = build(seed, (3, 2, 3, 4), (16, 16, 16), parallel=parallel, ratio=ratio)
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    fit = did(*cells)
    swapped = did(cells[2], cells[3], cells[0], cells[1])
    assert swapped.value == pytest.approx(-fit.value) and swapped.p == pytest.approx(fit.p)
    assert (swapped.low, swapped.high) == pytest.approx((-fit.high, -fit.low))
    turned = did(*(Cell.from_counts(examples, a[::-1], b[::-1]) for a, b in zip(num, den, strict=True)))
    assert (turned.value, turned.se, turned.df) == pytest.approx((fit.value, fit.se, fit.df))
    double = contrast(cells, [2 * c for c in DID])
    assert (double.value, double.se) == pytest.approx((2 * fit.value, 2 * fit.se))
    assert (double.df, double.p) == pytest.approx((fit.df, fit.p))
    reordered = did(*(cell.subset(["l2", "l0", "l1"]) for cell in cells))
    assert (reordered.value, reordered.se) == pytest.approx((fit.value, fit.se))


def test_refusals():
    examples, num, den = build(11, (3, 3), (10, 10))
    cell, other = (Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True))
    with pytest.raises(AnalysisError, match="do not match"):
        Cell.from_counts(examples, num[0][:, :-1], den[0])
    with pytest.raises(AnalysisError, match="deterministic"):
        Cell.from_counts(examples, num[0], den[0], [-1, 0, 1])
    with pytest.raises(AnalysisError, match="different examples"):
        contrast([cell, other.subset(["l0"])], [1, -1])
    late = Cell.from_counts(examples, num[1], den[1], [0, 1, 5])
    with pytest.raises(AnalysisError, match="seeds"):
        estimate([Term({0: cell}, {0: 1.0}), Term({0: late}, {0: 1.0})])
    with pytest.raises(AnalysisError, match="at least one target"):
        estimate([])
    with pytest.raises(AnalysisError, match="holds one example"):
        contrast([Cell.from_counts(Examples.regular(["en"], 1), np.ones((2, 1)), np.ones((2, 1)))], [1])


def test_refused_contrasts():
    examples, num, den = build(14, (3, 3), (10, 10))
    cells = [Cell.from_counts(examples, a, b) for a, b in zip(num, den, strict=True)]
    with pytest.raises(AnalysisError, match="2 cells but 3 coefficients"):
        contrast(cells, [1, -1, 1])
    with pytest.raises(AnalysisError, match="2 cells but 1 coefficients"):
        contrast(cells, [1])
    for coefficients in ({0: np.nan}, {0: 1.0, 5: -1.0}):
        with pytest.raises(AnalysisError, match="no number or has no cell"):
            estimate([Term(dict(enumerate(cells)), coefficients)])
    compared = Term({0: cells[0]}, {0: 1.0}, np.array([1.0, -1.0]))
    assert estimate([compared]).value == pytest.approx(float(cells[0].scores.mean(axis=0) @ [1, -1]))
    with pytest.raises(AnalysisError, match="add to 0"):
        estimate([compared], tier="T3")
    # the same ids mean other units where the test set is parallel
    parallel = Examples(examples.languages, examples.offsets, examples.example, examples.cluster, True)
    other = Cell.from_counts(parallel, num[1], den[1])
    with pytest.raises(AnalysisError, match="different examples"):
        contrast([cells[0], other], [1, -1])


@pytest.mark.parametrize(("se", "df", "published"), [(0.72, 9, 2.26), (0.57, 21, 1.69), (0.43, 61, 1.23)])
def test_minimum_detectable_effect(se, df, published):
    effect = minimum_detectable_effect(se, df)
    assert effect == pytest.approx(published, abs=0.03)  # the table prints SE with two digits
    chance = stats.nct.sf(stats.t.ppf(0.975, df), df, effect / se)
    assert chance == pytest.approx(0.8, abs=1e-4) and power(effect, se, df) == pytest.approx(0.8, abs=1e-4)


def test_minimum_detectable_effect_at_its_edges():
    assert minimum_detectable_effect(0.0, 5) == 0.0
    effects = [minimum_detectable_effect(1.0, df) for df in (0.7, 1, 2, 5, 50, 1e4, 1e6)]
    assert effects == sorted(effects, reverse=True) and effects[-1] == pytest.approx(2.8016, abs=1e-3)
    # scipy's search has no end at a critical value of 636,619: the limit for large effects, exact to its last digits
    assert minimum_detectable_effect(1.0, 1, 1e-6) == pytest.approx(
        stats.t.isf(5e-7, 1) * stats.chi2.ppf(0.8, 1) ** 0.5
    )
    assert power(minimum_detectable_effect(1.0, 1, 5e-5), 1.0, 1, 5e-5) == pytest.approx(0.8, abs=1e-3)
    assert power(0.0, 1.0, 5) == pytest.approx(0.05) and power(1e4, 1.0, 5) == 1.0
    assert power(minimum_detectable_effect(1.0, 1), 1.0, 1) == pytest.approx(0.8, abs=1e-3)


def test_equivalence_is_the_ninety_percent_interval_inside_the_margin():
    for value in np.linspace(-1.2, 1.2, 25):
        half = stats.t.ppf(0.95, 7) * 0.3
        inside = -1 < value - half and value + half < 1
        p = equivalence_p(value, 0.3, 7, 1.0)
        assert p is not None and (p < 0.05) == inside
    assert equivalence_p(0.0, 0.0, 7, 1.0) is None
    with pytest.raises(AnalysisError, match="positive"):
        equivalence_p(0.0, 0.3, 7, 0.0)


def test_four_verdicts():
    assert verdict(0.01, 0.5) == "different"
    assert verdict(0.01, 0.01) == "different-but-negligible"
    assert verdict(0.2, 0.01) == "equivalent"
    assert verdict(0.2, 0.2) == verdict(None, None) == "inconclusive"


@pytest.mark.parametrize(("name", "datasets"), [("base", 300), ("S5", 200), ("noseed", 300)])
def test_calibration(name, datasets):
    """The short form of `tests/speed/calibration.py`.

    Error rate and coverage within Monte-Carlo error of the bars.
    """
    result = calibrate(SCENARIOS[name], datasets, seed=1)
    assert result.rejection <= 0.06 + 2 * result.standard_error
    assert result.coverage >= 0.93 - 2 * result.standard_error
    assert result.rejection > 0  # an interval that never misses is no 95 % interval


def test_calibration_of_a_grid_with_shared_runs():
    scenario = Scenario(languages=6, examples=60, conditions=3, tasks=3, sd_run=0.008, sd_checkpoint=0.006)
    result = calibrate(scenario, 200, seed=2)
    assert 0 < result.rejection <= 0.06 + 2 * result.standard_error


def test_simulation_is_reproducible_and_unbiased():
    scenario = Scenario(languages=4, examples=500, effect=0.05, sd_effect_language=0.0)
    draws = [simulate(scenario, np.random.default_rng(3))[0] for _ in range(2)]
    assert all(np.array_equal(a, b) for a, b in zip(draws[0].num, draws[1].num, strict=True))
    rng = np.random.default_rng(4)
    errors = [did(*task.cells()).value - task.truth for _ in range(60) for task in simulate(scenario, rng)]
    assert abs(np.mean(errors)) < 3 * np.std(errors, ddof=1) / np.sqrt(60)
    assert draws[0].truth == pytest.approx(0.05)
