"""Tier T3 against a crossed mixed model in R, a transcription of its definition, and simulated truth."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from xtremex.analysis.estimator import Cell, Examples, Term, contrast, did, estimate
from xtremex.analysis.languages import Languages, between_and_inter
from xtremex.analysis.simulate import Scenario, simulate
from xtremex.errors import AnalysisError

DID = (1.0, -1.0, -1.0, 1.0)
ORACLES = Path(__file__).parent / "oracles"

# Printed by tests/oracles/crossed_design.R (R 4.2.2, lme4 1.1-31, lmerTest 3.1-3): estimate, SE, df
LMER = {
    "a": (0.0108277333, 0.0050728437, 23.634261),
    "b": (0.0220041333, 0.0079133961, 24.486379),
    "c": (0.0070138833, 0.0091633222, 14.187341),
    "d": (0.0181693833, 0.0106260254, 9.720132),
}


def oracle_scores(name):
    spec = importlib.util.spec_from_file_location("crossed_design", ORACLES / "crossed_design.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.scores(name)


def cells_of(scores, *, n=2, names=None, examples=None):
    """Cells with these (S, L) scores, in which no example differs from another."""
    count = scores[0].shape[1]
    examples = examples or Examples.regular(names or [f"l{i}" for i in range(count)], n)
    n = len(examples.example) // count
    return [Cell.from_counts(examples, np.repeat(y, n, axis=1), np.ones((len(y), n * count))) for y in scores]


@pytest.mark.parametrize("name", LMER)
def test_equals_a_crossed_mixed_model(name):
    """Balanced, no variance component at 0: moments and REML agree, and pooled df are lmerTest's."""
    scores = oracle_scores(name)
    total = {"a": 169.724484, "b": 167.603434, "c": 166.215467, "d": 332.920976}[name]
    message = "another random stream than the one that R saw: run the two oracle scripts again"
    assert round(float(scores.sum()), 6) == total, message
    value, se, df = LMER[name]
    fit = contrast(cells_of(scores), DID, tier="T3", df="pooled")
    assert fit.value == pytest.approx(value, rel=1e-6) and fit.se == pytest.approx(se, rel=1e-5)
    assert fit.df == pytest.approx(df, rel=1e-4)
    welch = contrast(cells_of(scores), DID, tier="T3")
    assert welch.se == pytest.approx(fit.se) and welch.df < fit.df
    assert welch.tier == "T3" and welch.languages == scores.shape[2] and welch.v_languages > 0


def transcription(scores, weights, v_ex, *, parallel):
    """Section 2.2 of the statistics reference, T3: V and the Satterthwaite df over run, lang and inter.

    Its factor L / (L - 1) and df L - 1 are those of equal weights: here in their general form, which
    `test_moments_are_unbiased_whatever_the_weights` checks by simulation.
    """
    count = len(weights)
    w = np.array(weights)
    factor = sum(w**2) / sum(w**2 * (1 - 2 * w + sum(w**2)))
    spread_of = np.diag(w) @ (np.eye(count) - np.outer(np.ones(count), w))
    form = spread_of.T @ spread_of
    lang_df = np.trace(form) ** 2 / np.trace(form @ form)
    if len(set(weights)) == 1:
        assert factor == pytest.approx(count / (count - 1)) and lang_df == pytest.approx(count - 1)
    run_parts, inter, inter_df = [], 0.0, 0
    by_language = [sum(c * np.mean(y[:, i]) for c, y in zip(DID, scores, strict=True)) for i in range(count)]
    value = sum(w * x for w, x in zip(weights, by_language, strict=True))
    lang = factor * sum(w**2 * (x - value) ** 2 for w, x in zip(weights, by_language, strict=True))
    for y in scores:
        runs = len(y)
        total = [sum(weights[i] * y[s, i] for i in range(count)) for s in range(runs)]
        run_parts.append((np.var(total, ddof=1) / runs, runs - 1))
        for s in range(runs):
            for i in range(count):
                e = (y[s, i] - np.mean(y[:, i])) - (total[s] - np.mean(total))
                inter += weights[i] ** 2 * e**2 / (runs * (runs - 1)) * factor
        inter_df += (runs - 1) * lang_df
    v_run = sum(v for v, _ in run_parts)
    if parallel:
        v = v_run + max(0.0, lang - inter) + v_ex
    else:
        v = v_run + max(v_ex, lang - inter)
    spread = sum(x * x / df for x, df in run_parts) + lang**2 / lang_df + inter**2 / inter_df
    return value, v, v * v / spread


def noisy(seed, seeds, languages, *, parallel, n=40, sd=0.05):
    rng = np.random.default_rng(seed)
    examples = Examples.regular([f"l{i}" for i in range(languages)], n, parallel=parallel)
    cells = []
    for s in seeds:
        p = (
            0.6
            + rng.normal(0, sd, languages)
            + rng.normal(0, 0.02, (s, 1))
            + rng.normal(0, 0.02, (s, languages))
        )
        hits = rng.random((s, languages, n)) < p[:, :, None]
        cells.append(Cell.from_counts(examples, hits.reshape(s, -1), np.ones((s, languages * n))))
    return cells


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("seeds", [(3, 3, 3, 3), (2, 5, 3, 4)])
@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1)])
def test_equals_the_transcribed_definition(parallel, seeds, weights):
    cells = noisy(3, seeds, 4, parallel=parallel)
    below = estimate([Term(dict(enumerate(cells)), dict(enumerate(DID)), np.array(weights))])
    fit = estimate([Term(dict(enumerate(cells)), dict(enumerate(DID)), np.array(weights))], tier="T3")
    value, v, df = transcription([c.scores for c in cells], weights, below.v_examples, parallel=parallel)
    assert (fit.value, fit.se**2) == pytest.approx((value, v), rel=1e-9)
    assert fit.v_languages > 0 and fit.v_examples == below.v_examples and fit.v_run == below.v_run
    if parallel:  # the reference lists no df for the examples of parallel sets; n - 1 = 39 is next to nothing
        assert fit.df == pytest.approx(df, rel=0.03) and fit.df <= df * (1 + 1e-12)
    else:
        assert fit.df == pytest.approx(df, rel=1e-9)


@pytest.mark.parametrize("weights", [(0.25,) * 4, (0.4, 0.3, 0.2, 0.1), (0.8, 0.1, 0.05, 0.05)])
def test_moments_are_unbiased_whatever_the_weights(weights):
    """E[lang - inter] is the variance that new languages add: sum of w^2 times their variance."""
    rng = np.random.default_rng(12)
    w, sd = np.array(weights), 0.02
    examples = Examples.regular(["a", "b", "c", "d"], 2)
    found = []
    for _ in range(4000):
        effect = rng.normal(0, sd, 4)
        (cell,) = cells_of([0.5 + effect + rng.normal(0, 0.01, (3, 4))], examples=examples)
        (target,) = languages_of(cell, w)
        between, inter, _ = between_and_inter([target])
        found.append(between[0] - inter[0])
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(sd**2 * sum(w**2), abs=4 * error) and error < 0.04 * np.mean(found)


def languages_of(cell, weights):
    """What the estimator hands over for one cell with the coefficient 1."""
    y, mean = cell.scores, cell.scores.mean(axis=0)
    residuals = (y - mean) - ((y - mean) @ weights)[:, None]
    deviations = weights * (mean - weights @ mean)
    return [Languages(cell.examples.languages, deviations, weights, {0: weights * residuals}, 1.0)]


def test_targets_with_unlike_weights_meet_in_their_common_languages():
    """Two targets, one language effect each language favours in both: unbiased for the variance of the sum."""
    rng = np.random.default_rng(13)
    sets = [Examples.regular(["a", "b", "c", "d"], 2), Examples.regular(["c", "d", "e"], 2)]
    weights = [np.array([0.5, 0.2, 0.2, 0.1]), np.array([0.2, 0.5, 0.3])]
    found = []
    for _ in range(4000):
        effect = dict(zip("abcde", rng.normal(0, 0.02, 5), strict=True))
        targets = []
        for examples, w in zip(sets, weights, strict=True):
            (cell,) = cells_of(
                [np.tile([0.5 + effect[name] for name in examples.languages], (2, 1))], examples=examples
            )
            targets += languages_of(cell, w)
        found.append(between_and_inter(targets)[0][0])
    totals = np.array([0.5, 0.2, 0.2 + 0.2, 0.1 + 0.5, 0.3])
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(0.02**2 * sum(totals**2), abs=4 * error)


def test_is_never_surer_than_t2():
    for seed in range(30):
        for parallel in (False, True):
            cells = noisy(seed, (3, 3, 3, 3), 5, parallel=parallel, sd=0.0)
            t2, t3 = (contrast(cells, DID, tier=tier) for tier in ("T2", "T3"))
            assert t3.se >= t2.se * (1 - 1e-12) and t3.value == t2.value
            assert sum(t3.shares.values()) == pytest.approx(1) and t3.variance == pytest.approx(t3.se**2)


def test_a_language_without_weight_plays_no_part():
    cells = noisy(5, (3, 3, 3, 3), 5, parallel=False)
    weights = np.array([0.25, 0.25, 0.0, 0.25, 0.25])
    fit = estimate([Term(dict(enumerate(cells)), dict(enumerate(DID)), weights)], tier="T3")
    rest = contrast([c.subset(["l0", "l1", "l3", "l4"]) for c in cells], DID, tier="T3")
    assert (fit.value, fit.se, fit.df, fit.languages) == pytest.approx((rest.value, rest.se, rest.df, 4))


def test_targets_in_the_same_languages_are_averaged_language_by_language():
    """The mean over two targets is one target whose scores are the mean: also for new languages."""
    rng = np.random.default_rng(6)
    first, second = (
        [rng.normal(0.6, 0.05, 8) + rng.normal(0, 0.02, (4, 8)) for _ in range(4)] for _ in range(2)
    )
    half = dict(enumerate(c / 2 for c in DID))
    terms = [Term(dict(enumerate(cells_of(scores))), half) for scores in (first, second)]
    both = estimate(terms, tier="T3")
    mean = contrast(cells_of([(a + b) / 2 for a, b in zip(first, second, strict=True)]), DID, tier="T3")
    assert (both.value, both.se, both.df) == pytest.approx((mean.value, mean.se, mean.df))
    assert both.languages == 8


def test_targets_without_a_common_language_add_their_variances():
    rng = np.random.default_rng(7)
    scores = [[rng.normal(0.6, 0.05, 6) + rng.normal(0, 0.01, (4, 6)) for _ in range(4)] for _ in range(2)]
    half = {k: c / 2 for k, c in enumerate(DID)}
    terms, alone = [], []
    for t, of_target in enumerate(scores):
        cells = cells_of(of_target, names=[f"t{t}l{i}" for i in range(6)])
        # training lineages of their own: nothing is shared
        keyed = {(t, k): cell for k, cell in enumerate(cells)}
        terms.append(Term(keyed, {(t, k): c for k, c in half.items()}))
        alone.append(contrast(cells, list(half.values()), tier="T3"))
    both = estimate(terms, tier="T3")
    assert both.se**2 == pytest.approx(sum(fit.se**2 for fit in alone)) and both.languages == 12
    assert both.df > max(fit.df for fit in alone)


def test_covers_the_truth_over_new_languages():
    """T2 speaks of these languages and misses the truth over all of them too often; T3 does not."""
    scenario = Scenario(languages=12, examples=150, effect=0.03, sd_effect_language=0.05, sd_run=0.004)
    rng = np.random.default_rng(8)
    missed = {"T2": 0, "T3": 0}
    for _ in range(250):
        cells = simulate(scenario, rng)[0].cells()
        for tier in missed:
            fit = contrast(cells, scenario.coefficients, tier=tier)
            missed[tier] += not fit.low <= scenario.effect <= fit.high
    error = np.sqrt(0.05 * 0.95 / 250)
    assert 0 < missed["T3"] / 250 <= 0.06 + 2 * error
    assert missed["T2"] / 250 > 0.1


def test_covers_the_truth_where_targets_share_languages():
    """Three targets with overlapping languages whose effects are partly common; shared checkpoints."""
    rng = np.random.default_rng(9)
    lists = [range(0, 12), range(6, 16), range(4, 20)]
    coefficients = {k: c / 3 for k, c in enumerate(DID)}
    sets = [Examples.regular([f"l{i}" for i in languages], 2) for languages in lists]
    missed, variances, values = 0, [], []
    for _ in range(400):
        common, checkpoint = rng.normal(0, 0.02, 20), rng.normal(0, 0.004, (4, 4, 1))
        terms = []
        for languages, examples in zip(lists, sets, strict=True):
            count = len(languages)
            effect = common[list(languages)] + rng.normal(0, 0.01, count)
            level = rng.normal(0.6, 0.03, count)
            scores = (
                level + checkpoint + rng.normal(0, 0.004, (4, 4, 1)) + rng.normal(0, 0.004, (4, 4, count))
            )
            scores[0] += effect
            terms.append(Term(dict(enumerate(cells_of(scores, examples=examples))), coefficients))
        fit = estimate(terms, tier="T3")
        missed += not fit.low <= 0 <= fit.high
        variances.append(fit.variance)
        values.append(fit.value)
    assert 0 < missed / 400 <= 0.06 + 2 * np.sqrt(0.05 * 0.95 / 400)
    # the moments are unbiased: the mean variance is that of the estimates (Monte-Carlo error about 7 %)
    assert np.mean(variances) == pytest.approx(np.var(values, ddof=1), rel=0.2)


@pytest.mark.parametrize("tier", ["T0", "T1", "T2", "T3"])
def test_deterministic_cells_at_every_tier(tier):
    """Nothing trained: no run variance and no df of runs; 0 / 0 has a value at every tier."""
    rng = np.random.default_rng(10)
    examples = Examples.regular(["l0", "l1", "l2"], 20)
    hits = [rng.random(60) < p for p in (0.8, 0.6, 0.5, 0.6)]
    cells = [Cell.from_counts(examples, x, np.ones(60), [-1]) for x in hits]
    fit = contrast(cells, DID, tier=tier)
    assert fit.v_run == 0 and fit.df_run == 0 and fit.seeds == 0 and np.isfinite(fit.df)
    if tier == "T1":  # on this very test set nothing can come out otherwise
        assert fit.se == 0 and fit.p is None and fit.df == 0 and fit.low == fit.high == fit.value
    elif tier == "T3":
        scores = np.array([c.scores[0] for c in cells])
        spread = np.var(np.array(DID) @ scores, ddof=1) / 3
        v_ex = contrast(cells, DID).v_examples
        assert fit.se**2 == pytest.approx(max(spread, v_ex))
        expected = 2.0 if spread > v_ex else v_ex**2 / (spread**2 / 2 + v_ex**2 / 57)
        assert fit.df == pytest.approx(expected)
    else:
        assert fit.df == 57 and fit.p is not None and 0 < fit.p < 1
    nothing = contrast([cells[0], cells[0]], [1, -1], tier=tier)
    assert nothing.se == 0 and nothing.p is None and np.isfinite(nothing.df) and nothing.mde == 0
    assert "nothing varied" in str(nothing) and sum(nothing.shares.values()) == 0


@pytest.mark.parametrize("tier", ["T1", "T2", "T3"])
def test_runs_that_do_not_vary_at_every_tier(tier):
    """Trained cells with equal scores: their df count where nothing else varies, and are silent elsewhere."""
    scores = [np.full((3, 4), x) for x in (0.7, 0.6)]
    fit = contrast(cells_of(scores), [1, -1], tier=tier)
    # means of 0.7 and 0.6 are not exact: a test that divided by rounding errors would say p = 1e-31
    assert fit.se == 0 and fit.p is None and fit.value == pytest.approx(0.1)
    assert np.isfinite(fit.df) and fit.df > 0 and fit.df_run == fit.df_residual == 4


def test_refusals_and_cautions():
    cells = noisy(11, (3, 3, 3, 3), 4, parallel=False)
    one = Term({k: c.subset(["l1"]) for k, c in enumerate(cells)}, dict(enumerate(DID)))
    with pytest.raises(AnalysisError, match="two or more languages") as error:
        estimate([one], tier="T3")
    assert "l1" in error.value.message and "T2" in error.value.hint
    single = [Cell(c.examples, (0,), c.scores[:1], c.contributions, c.noise) for c in cells]
    with pytest.raises(AnalysisError, match="two or more runs"):
        contrast(single, DID, tier="T3")
    with pytest.raises(AnalysisError, match="weights"):
        estimate([Term(dict(enumerate(cells)), dict(enumerate(DID)), np.ones(3))])
    few = contrast(cells, DID, tier="T3")
    assert any("from 4" in caution for caution in few.cautions)
    many = contrast(noisy(12, (3, 3, 3, 3), 10, parallel=False), DID, tier="T3")
    assert many.cautions == () == contrast(cells, DID).cautions
    assert contrast(noisy(13, (2, 2), 4, parallel=False), [1, -1]).cautions != ()


def test_weights_of_did_are_weights_of_languages():
    cells = noisy(14, (3, 3, 3, 3), 4, parallel=False)
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    effect = did(*cells, weights=weights, tier="T3")
    assert effect.value == pytest.approx(
        sum(c * cell.scores.mean(0) @ weights for c, cell in zip(DID, cells, strict=True))
    )
