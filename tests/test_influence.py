"""Jackknife contributions against scikit-learn, scipy, explicit leave-one-out and the bootstrap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from xtremex.analysis.estimator import Cell, Examples, contrast
from xtremex.analysis.influence import jackknife, macro_f1, matthews, pearson
from xtremex.errors import AnalysisError


def labels(rng, n, classes=3):
    gold = rng.integers(0, classes, n)
    return gold, np.where(rng.random(n) < 0.7, gold, rng.integers(0, classes, n))


def class_counts(gold, predicted, classes=3):
    one = np.eye(classes)
    return np.hstack([one[gold] * (gold == predicted)[:, None], one[predicted], one[gold]])


def confusion(gold, predicted):
    return np.stack([gold & predicted, ~gold & predicted, gold & ~predicted, ~gold & ~predicted], 1).astype(
        float
    )


def moments(x, y):
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def bleu(sums):
    """Columns: matches and candidates of 1- to 4-grams, length of the hypothesis, length of the reference."""
    precision = np.maximum(sums[:, :4], 1e-9) / np.maximum(sums[:, 4:8], 1e-9)
    brevity = np.minimum(0.0, 1.0 - sums[:, 9] / np.maximum(sums[:, 8], 1e-9))
    return np.exp(np.log(precision).mean(axis=1) + brevity)


def bleu_counts(rng, n):
    length = rng.integers(8, 30, n)
    candidates = np.stack([length - k for k in range(4)], axis=1)
    found = rng.binomial(candidates, [0.6, 0.4, 0.25, 0.15])
    return np.column_stack([found, candidates, length, length + rng.integers(-2, 4, n)]).astype(float)


def made(name, rng, n):
    """(statistics, score, value by an independent library)."""
    if name == "macro-f1":
        gold, predicted = labels(rng, n)
        return class_counts(gold, predicted), macro_f1, metrics.f1_score(gold, predicted, average="macro")
    if name == "matthews":
        gold, predicted = (x.astype(bool) for x in labels(rng, n, 2))
        return confusion(gold, predicted), matthews, metrics.matthews_corrcoef(gold, predicted)
    x = rng.normal(size=n)
    y = 0.6 * x + rng.normal(size=n)
    if name == "pearson":
        return moments(x, y), pearson, stats.pearsonr(x, y).statistic
    if name == "spearman":
        ranks = [stats.rankdata(v) - (n + 1) / 2 for v in (x, y)]
        return moments(*ranks), pearson, stats.spearmanr(x, y).statistic
    counts = bleu_counts(rng, n)
    total = counts.sum(axis=0)
    return counts, bleu, np.exp(np.mean(np.log(total[:4] / total[4:8])) + min(0, 1 - total[9] / total[8]))


METRICS = ["macro-f1", "matthews", "pearson", "spearman", "bleu"]


@pytest.mark.parametrize("name", METRICS)
def test_mean_is_the_score_and_spread_the_bootstrap(name):
    rng = np.random.default_rng(1)
    n = 500
    statistics, score, value = made(name, rng, n)
    phi = jackknife(statistics, score)
    assert phi.shape == (n,) and phi.mean() == pytest.approx(value, abs=1e-9)
    cell = Cell.from_statistics(Examples.regular(["en"], n), statistics[None], score, [-1])
    fit = contrast([cell], [1])
    assert fit.value == pytest.approx(value, abs=1e-9)
    assert fit.se == pytest.approx(phi.std(ddof=1) / np.sqrt(n))
    draws = score(rng.multinomial(n, np.full(n, 1 / n), 4000) @ statistics)
    assert fit.se == pytest.approx(draws.std(ddof=1), rel=0.07)


@pytest.mark.parametrize("name", METRICS)
def test_equals_leaving_each_example_out(name):
    statistics, score, _ = made(name, np.random.default_rng(2), 40)
    whole = score(statistics.sum(axis=0)[None])[0]
    without = np.array([score(np.delete(statistics, e, axis=0).sum(axis=0)[None])[0] for e in range(40)])
    phi = jackknife(statistics, score)
    assert phi == pytest.approx(whole + 39 * (without.mean() - without), abs=1e-9)
    pseudo = 40 * whole - 39 * without  # the reference's n F - (n - 1) F(-e), not centred
    assert np.diff(phi) == pytest.approx(np.diff(pseudo), abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(1, 4))
def test_of_a_mean_is_the_outcome_itself(seed, n, languages):
    """For an average the jackknife gives what from_counts takes: the same cell, the same fit."""
    rng = np.random.default_rng(seed)
    hits = rng.random((3, n * languages))
    examples = Examples.regular([f"l{i}" for i in range(languages)], n)
    direct = Cell.from_counts(examples, hits, np.ones_like(hits))
    pairs = np.stack([hits, np.ones_like(hits)], axis=2)
    jack = Cell.from_statistics(examples, pairs, lambda s: s[:, 0] / s[:, 1])
    for part in ("scores", "contributions", "within"):
        assert getattr(jack, part) == pytest.approx(getattr(direct, part), abs=1e-9)


def test_close_to_the_influence_values_of_a_ratio():
    """Corpus F1: two first-order approximations of the same thing differ by O(1/n)."""
    rng = np.random.default_rng(3)
    n = 2000
    gold = rng.integers(1, 5, n).astype(float)
    found = rng.binomial(gold.astype(int), 0.6).astype(float)
    counts = np.stack([2 * found, found + rng.integers(0, 3, n) + gold], axis=1)
    examples = Examples.regular(["en", "de"], n // 2)
    ratio = Cell.from_counts(examples, counts[None, :, 0], counts[None, :, 1], [-1])
    jack = Cell.from_statistics(examples, counts[None], lambda s: s[:, 0] / s[:, 1], [-1])
    assert jack.scores == pytest.approx(ratio.scores)
    assert contrast([jack], [1]).se == pytest.approx(contrast([ratio], [1]).se, rel=0.01)


def test_edges_of_the_scores():
    assert macro_f1(np.array([[0, 2, 0, 2, 1, 4, 1.0, 1, 4, 0, 0, 0]])[:, :12]).shape == (1,)
    assert macro_f1(np.zeros((1, 9))) == [0.0] and matthews(np.array([[5.0, 5, 0, 0]])) == [0.0]
    constant = moments(np.ones(6), np.arange(6.0)).sum(axis=0)[None]
    assert pearson(constant) == [0.0]


def test_refusals():
    with pytest.raises(AnalysisError, match="two examples"):
        jackknife(np.ones((1, 2)), lambda s: s[:, 0] / s[:, 1])
    with pytest.raises(AnalysisError, match="shape"):
        jackknife(np.ones(5), lambda s: s[:, 0])
    with pytest.raises(AnalysisError, match="returned the shape"):
        jackknife(np.ones((5, 2)), lambda s: s)
    with (
        np.errstate(all="ignore"),
        pytest.raises(AnalysisError, match="not finite"),
    ):
        jackknife(np.zeros((5, 2)), lambda s: s[:, 0] / s[:, 1])
    examples = Examples.regular(["en"], 5)
    with pytest.raises(AnalysisError, match="do not match"):
        Cell.from_statistics(examples, np.ones((2, 4, 2)), lambda s: s[:, 0])
    with pytest.raises(AnalysisError, match="deterministic"):
        Cell.from_statistics(examples, np.ones((2, 5, 2)), lambda s: s[:, 0], [-1, 0])
