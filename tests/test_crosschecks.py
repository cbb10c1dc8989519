"""Cross-checks of the closed form: bootstrap, permutation, mixed-model export and the shrunken map."""

import csv
import re
import shutil
import subprocess
from itertools import combinations

import numpy as np
import pytest
from demo_outcomes import TARGETS, write_demo
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from xtremex.analysis import permutation
from xtremex.analysis.bootstrap import hierarchical_bootstrap
from xtremex.analysis.crosschecks import crosscheck
from xtremex.analysis.estimator import Cell, Examples, contrast
from xtremex.analysis.lmer import write_lmer
from xtremex.analysis.outcomes import read_record, read_suite
from xtremex.analysis.permutation import synchronized_permutation
from xtremex.analysis.shrinkage import shrink
from xtremex.analysis.simulate import SCENARIOS, Scenario, simulate
from xtremex.errors import AnalysisError

SIGNS = (1.0, -1.0, -1.0, 1.0)


@pytest.mark.parametrize("name", ["base", "parallel", "clustered", "parallel-clustered", "f1", "unequal"])
def test_bootstrap_has_the_closed_forms_variance(name):
    """4,000 resamples: 1.1 % Monte-Carlo error of an SE, and sqrt(2 / n) for weights that languages share."""
    task = simulate(SCENARIOS[name], np.random.default_rng(3))[0]
    closed = contrast(task.cells(), SIGNS)
    found = hierarchical_bootstrap(task.examples, task.num, task.den, SIGNS, resamples=4000)
    assert found.value == pytest.approx(closed.value, abs=1e-12)
    assert found.se == pytest.approx(closed.se, rel=0.06)
    assert found.v_run == pytest.approx(closed.v_run, rel=0.1)
    assert found.df == pytest.approx(closed.df, rel=0.15)
    low, high = found.percentile
    assert low < found.value < high and high - low < found.high - found.low


def test_bootstrap_of_unlike_languages_and_weights():
    """Languages of different sizes, one of them weighing most, and a deterministic cell."""
    rng = np.random.default_rng(0)
    offsets = np.array([0, 300, 1200, 1500])
    example = np.concatenate([np.arange(n, dtype=np.int32) for n in np.diff(offsets)])
    examples = Examples(("a", "b", "c"), offsets, example, example)
    num = [(rng.random((s, 1500)) < 0.6).astype(float) for s in (4, 1)]
    den = [np.ones_like(x) for x in num]
    weights = np.array([0.2, 0.7, 0.1])
    cells = [Cell.from_counts(examples, num[0], den[0]), Cell.from_counts(examples, num[1], den[1], [-1])]
    d = num[0].mean(axis=0) - num[1][0]
    value = sum(w * d[a:b].mean() for w, a, b in zip(weights, offsets, offsets[1:], strict=False))
    found = hierarchical_bootstrap(examples, num, den, (1.0, -1.0), weights=weights, resamples=4000)
    runs = (cells[0].scores @ weights).var(ddof=1) / 4
    spread = [d[a:b].var(ddof=1) / (b - a) for a, b in zip(offsets, offsets[1:], strict=False)]
    own = weights**2 * cells[0].within / 4 / np.diff(offsets)
    assert found.value == pytest.approx(value)
    assert found.v_run == pytest.approx(runs, rel=0.12)
    assert found.v_examples == pytest.approx(np.sum(weights**2 * spread - own), rel=0.12)


def test_bootstrap_of_few_paragraphs():
    """Six clusters redrawn six at a time would have five sixths of their variance."""
    rng = np.random.default_rng(0)
    examples = Examples.regular(["a"], 60, cluster_size=10)
    level = np.repeat(rng.random(6), 10)
    num = [(rng.random((1, 60)) < p).astype(float) for p in (level, np.full(60, 0.5))]
    ones = [np.ones_like(x) for x in num]
    cells = [Cell.from_counts(examples, n, d, [-1]) for n, d in zip(num, ones, strict=True)]
    found = hierarchical_bootstrap(examples, num, ones, (1.0, -1.0), resamples=20_000)
    expected = contrast(cells, (1.0, -1.0)).v_examples
    assert found.v_examples == pytest.approx(expected, rel=0.05)
    with pytest.raises(AnalysisError, match="nothing to resample"):
        alone = Examples.regular(["a"], 60, cluster_size=60)
        hierarchical_bootstrap(alone, num, ones, (1.0, -1.0))


def test_bootstrap_rejects_at_its_level():
    scenario = Scenario(seeds=5, languages=6, examples=100, sd_run=0.01)
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(200):
        task = simulate(scenario, rng)[0]
        found = hierarchical_bootstrap(task.examples, task.num, task.den, SIGNS, resamples=300)
        missed += not found.low <= task.truth <= found.high
    assert 0.005 < binomtest(missed, 200, 0.05).pvalue


def test_bootstrap_seed_and_refusals():
    task = simulate(Scenario(languages=2, examples=50), np.random.default_rng(0))[0]

    def run(resamples=200, seed=0):
        return hierarchical_bootstrap(
            task.examples, task.num, task.den, SIGNS, resamples=resamples, seed=seed
        )

    assert run() == run() and run() != run(seed=1)
    with pytest.raises(AnalysisError, match="10 resamples"):
        run(resamples=10)


def brute_force(runs):
    """Every synchronized swap, one by one."""
    v1, v0, t1, t0 = (list(x) for x in runs)
    count = len(v1)
    places = range(count)
    found = []
    for moved in range(count + 1):
        choices = list(combinations(places, moved))
        for a in choices:
            for b in choices:
                x, y = v1.copy(), t1.copy()
                for i, j in zip(a, b, strict=True):
                    x[i], y[j] = t1[j], v1[i]
                for c in choices:
                    for e in choices:
                        z, w = v0.copy(), t0.copy()
                        for i, j in zip(c, e, strict=True):
                            z[i], w[j] = t0[j], v0[i]
                        found.append((sum(x) - sum(z) - sum(y) + sum(w)) / count)
    return np.array(found)


@pytest.mark.parametrize(("seeds", "arrangements"), [(2, 18), (3, 164)])
def test_permutation_by_brute_force(seeds, arrangements):
    runs = np.random.default_rng(seeds).normal(size=(4, seeds))
    found = synchronized_permutation(*runs)
    every = brute_force(runs)
    value = runs[0].mean() - runs[1].mean() - runs[2].mean() + runs[3].mean()
    assert found.arrangements == len(every) == arrangements and found.exact
    assert found.value == pytest.approx(value)
    assert found.p == np.mean(np.abs(every) >= abs(value) - 1e-9)


def test_permutation_counts_and_smallest_p():
    """Section 2.3: 1810 and 21,252 arrangements, smallest p .0011 and 9.4e-5."""
    split = [np.arange(5.0) + shift for shift in (100, 0, 0, 100)]
    five = synchronized_permutation(*split)
    assert (five.arrangements, five.p) == (21_252, 2 / 21_252) and five.smallest_p == five.p
    assert synchronized_permutation(*(x[:4] for x in split)).arrangements == 1810
    drawn = synchronized_permutation(*np.random.default_rng(0).normal(size=(4, 9)), resamples=999)
    assert (
        not drawn.exact
        and drawn.arrangements == 999
        and drawn.p * 1000 == pytest.approx(round(drawn.p * 1000))
    )


def test_permutation_ignores_main_effects():
    """The same p whatever the arms' and conditions' levels, which a swap of labels would take for an effect."""
    runs = np.random.default_rng(0).normal(size=(4, 4))
    moved = runs + np.array([5.0 + 3.0, 5.0, 3.0, 0.0])[:, None]
    assert synchronized_permutation(*moved).p == synchronized_permutation(*runs).p


def test_permutation_rejects_at_its_level_and_finds_an_effect():
    rng = np.random.default_rng(0)
    p = [synchronized_permutation(*(rng.normal(size=(4, 4)) + [[9], [4], [5], [0]])).p for _ in range(600)]
    assert binomtest(int(np.sum(np.array(p) <= 0.05)), 600, 0.05).pvalue > 0.005
    found = [synchronized_permutation(*(rng.normal(size=(4, 5)) + [[4], [0], [0], [0]])).p for _ in range(50)]
    assert np.mean(np.array(found) <= 0.05) > 0.9


def test_random_permutation_agrees_with_all():
    runs = np.random.default_rng(2).normal(size=(4, 5)) + np.array([0.8, 0, 0, 0])[:, None]
    exact = synchronized_permutation(*runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(permutation, "ALL_UP_TO", 1)
        drawn = synchronized_permutation(*runs, resamples=20_000, seed=1)
    assert not drawn.exact and drawn.p == pytest.approx(exact.p, abs=0.015)


@pytest.mark.parametrize("sizes", [(3, 3, 3, 4), (1, 1, 1, 1)])
def test_permutation_refuses_unequal_cells(sizes):
    with pytest.raises(AnalysisError, match="same number"):
        synchronized_permutation(*(np.zeros(n) for n in sizes))


def grid(rows, columns):
    return [f"c{i}" for i in range(rows) for _ in range(columns)], [
        f"t{j}" for _ in range(rows) for j in range(columns)
    ]


def test_shrunken_map_against_sampling():
    """The quadrature beside importance sampling from the prior, 200,000 draws, in a 2 x 2 map."""
    conditions, targets = grid(2, 2)
    y, v = np.array([2.0, 1.0, -0.5, 0.3]), np.diag([0.5, 0.8, 0.6, 0.4]) + 0.2
    found = shrink(y, v, conditions, targets, margin=0.7)
    rng = np.random.default_rng(0)
    draws = 200_000
    tau, sc, st = np.abs(rng.normal(size=(3, draws)))
    # the flat mean is drawn from near its posterior and weighted back
    centre = y.mean() + 1.5 * rng.standard_t(4, draws)
    theta = (
        centre[:, None]
        + sc[:, None] * rng.normal(size=(draws, 2))[:, [0, 0, 1, 1]]
        + st[:, None] * rng.normal(size=(draws, 2))[:, [0, 1, 0, 1]]
        + tau[:, None] * rng.normal(size=(draws, 4))
    )
    residual = y - theta
    log = -0.5 * np.einsum("di,ij,dj->d", residual, np.linalg.inv(v), residual)
    log -= student.logpdf((centre - y.mean()) / 1.5, 4)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    error = 4 / np.sqrt(1 / np.sum(weight**2))
    mean = weight @ theta
    assert found.mean == pytest.approx(mean, abs=error)
    assert found.sd == pytest.approx(np.sqrt(weight @ (theta - mean) ** 2), abs=error)
    assert found.positive == pytest.approx(weight @ (theta > 0), abs=error)
    assert found.negligible == pytest.approx(weight @ (np.abs(theta) < 0.7), abs=error)
    assert found.tau == pytest.approx(weight @ tau, abs=error)


@pytest.mark.parametrize("se", [0.01, 0.1, 1.0])
def test_shrunken_map_of_any_precision(se):
    """One free SD, so that the posterior is a ratio of two integrals over tau: adaptive quadrature beside ours."""
    rng = np.random.default_rng(3)
    y = 0.4 + rng.normal(0, np.hypot(0.08, se), 30)
    found = shrink(y, np.full(30, se**2), [f"c{i}" for i in range(30)], ["t"] * 30, margin=0.45)

    def given(tau):
        """Weight of tau, and the first cell's mean, P(> 0) and P(negligible)."""
        spread = tau**2 + se**2
        kept, mu = tau**2 / spread, y.mean()
        log = -0.5 * (29 * np.log(spread) + np.sum((y - mu) ** 2) / spread) - tau**2 / 2
        centre = mu + kept * (y[0] - mu)
        sd = np.sqrt(kept * se**2 + (1 - kept) ** 2 * spread / 30)
        inside = norm.cdf((0.45 - centre) / sd) - norm.cdf((-0.45 - centre) / sd)
        return log, np.array([1.0, tau, centre, norm.cdf(centre / sd), inside])

    edges = np.concatenate([[1e-9], np.geomspace(1e-4, 4, 4000)])
    middle, wide = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    logs, values = zip(*map(given, middle), strict=True)
    weight = np.exp(np.array(logs) - max(logs)) * wide
    _, tau, centre, positive, inside = weight @ np.array(values) / weight.sum()
    assert found.tau == pytest.approx(tau, rel=0.01)
    assert found.mean[0] == pytest.approx(centre, abs=0.002)
    assert found.positive[0] == pytest.approx(positive, abs=0.002)
    assert found.negligible[0] == pytest.approx(inside, abs=0.002)


def test_shrinkage_shrinks_noise_and_keeps_what_is_precise():
    conditions, targets = grid(3, 4)
    y = np.random.default_rng(0).normal(0, 1, 12)
    noisy = shrink(y, np.full(12, 4.0), conditions, targets)
    precise = shrink(y, np.full(12, 1e-6), conditions, targets)
    assert np.std(noisy.mean) < 0.5 * np.std(y)
    assert precise.mean == pytest.approx(y, abs=0.01)
    assert precise.positive == pytest.approx((y > 0).astype(float), abs=1e-3)
    assert precise.negligible == pytest.approx((np.abs(y) < 1).astype(float), abs=1e-3)
    assert noisy.positive == pytest.approx(norm.cdf(noisy.mean / noisy.sd), abs=0.05)


def test_shrinkage_beats_single_cells_where_the_model_holds():
    """Mean squared error, and coverage of the 95 % posterior intervals (40 maps of 20 cells)."""
    rng = np.random.default_rng(1)
    conditions, targets = grid(4, 5)
    errors, covered = [], []
    for _ in range(40):
        truth = 0.5 + np.repeat(rng.normal(0, 0.5, 4), 5) + np.tile(rng.normal(0, 0.5, 5), 4)
        truth += rng.normal(0, 0.3, 20)
        y = truth + rng.normal(0, 1, 20)
        found = shrink(y, np.ones(20), conditions, targets)
        errors.append((np.mean((found.mean - truth) ** 2), np.mean((y - truth) ** 2)))
        covered.append(np.mean(np.abs(found.mean - truth) < 1.96 * found.sd))
    ours, raw = np.mean(errors, axis=0)
    assert ours < 0.6 * raw
    assert 0.9 < np.mean(covered) < 0.99


def test_shrinkage_refusals():
    with pytest.raises(AnalysisError, match="do not match"):
        shrink([1.0, 2.0], np.ones(3), ["a", "b"], ["a", "b"])
    with pytest.raises(AnalysisError, match="eigenvalue"):
        shrink([1.0, 2.0], np.ones((2, 2)), ["a", "b"], ["t", "t"])
    with pytest.raises(AnalysisError, match="must be positive"):
        shrink([1.0, 2.0], np.ones(2), ["a", "b"], ["t", "t"], margin=0)


def test_mixed_model_export(tmp_path):
    """The long file carries the interaction: least squares with the script's coding gives every closed form."""
    folder = write_demo(
        tmp_path / "demo",
        targets=(TARGETS[0], TARGETS[2], TARGETS[4]),
        conditions=("none", "nli", "tags"),
        languages=("en", "de", "fa"),
        restart=False,
    )
    out = tmp_path / "out"
    out.mkdir()
    write_lmer(folder, read_suite(folder), out)
    with (out / "lmer.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    with (out / "closed.csv").open() as stream:
        closed = list(csv.DictReader(stream))
    # retrieval has one deterministic run without training: no such model
    assert {line["target"] for line in closed} == {"mini-inference", "mini-entities"}
    assert len(closed) == 2 * 2 * 2
    for line in closed:
        keys = ("pair", "contrast", "condition", "target")
        mine = [x for x in lines if all(x[k] == line[k] for k in keys)]
        a, c, score = (np.array([float(x[k]) for x in mine]) for k in ("A", "C", "score"))
        assert len(mine) == 4 * 3 * 3 and len({x["run"] for x in mine}) == 12
        design = np.column_stack([np.ones_like(a), a, c, a * c])
        assert np.linalg.lstsq(design, score)[0][3] == pytest.approx(float(line["estimate"]))
        assert line["tier"] == "T3" and float(line["se"]) > 0
    script = (out / "lmer.R").read_text()
    assert "lmer(score ~ A * C" in script and script.count("{") == script.count("}")


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R")
def test_mixed_model_export_runs_in_r(tmp_path):
    """What a reviewer would do: the script fits every cell beside the closed form; SEs agree unless a fit is singular."""
    folder = write_demo(
        tmp_path / "demo",
        targets=(TARGETS[1],),
        arms=("text", "vision"),
        conditions=("none", "nli"),
        languages=("en", "de", "fa", "fr", "ja", "zh"),
        seeds=5,
        run_sd=0.02,
        restart=False,
    )
    out = tmp_path / "out"
    out.mkdir()
    write_lmer(folder, read_suite(folder), out)
    done = subprocess.run(["Rscript", "lmer.R"], cwd=out, capture_output=True, text=True, check=False)
    if "there is no package" in done.stderr:
        pytest.skip("needs lme4 and lmerTest")
    assert done.returncode == 0, done.stderr
    numbers = r"lmer (\S+) se (\S+) df (\S+?)( \(singular\))?; closed form (\S+) se (\S+) df (\S+) \(T3\)"
    found = re.findall(numbers, done.stdout)
    assert len(found) == len(done.stdout.splitlines()) == 1
    for estimate, se, _, singular, ours, our_se, _ in found:
        assert float(estimate) == pytest.approx(float(ours), abs=1e-5)
        assert float(se) == pytest.approx(float(our_se), rel=0.15 if singular else 0.01)


def test_mixed_model_export_refuses_what_has_none(tmp_path):
    folder = write_demo(
        tmp_path / "demo", targets=(TARGETS[4],), conditions=("none", "nli"), languages=("en", "de")
    )
    with pytest.raises(AnalysisError, match="mixed model"):
        write_lmer(folder, read_suite(folder), tmp_path)
    shutil.rmtree(folder)


def test_a_cell_of_a_folder_by_three_roads(tmp_path):
    folder = write_demo(
        tmp_path / "demo",
        targets=(TARGETS[0], TARGETS[2], TARGETS[4]),
        conditions=("none", "nli"),
        languages=("en", "de", "fa"),
        examples=200,
        seeds=4,
        restart=False,
    )
    record = read_record(folder)
    for task, permuted in (("mini-inference", True), ("mini-entities", True), ("mini-sentences", False)):
        found = crosscheck(folder, record, "muse", ("vision", "text"), "nli", task, resamples=3000)
        assert found.bootstrap.value == pytest.approx(found.closed.value, abs=1e-12)
        assert found.bootstrap.se == pytest.approx(found.closed.se, rel=0.1)
        # retrieval has one deterministic run without training
        assert (found.permutation is not None) == permuted
        if found.permutation is not None:
            assert found.permutation.value == pytest.approx(found.closed.value)
            assert found.permutation.arrangements == 1810
    with pytest.raises(AnalysisError, match="no outcomes of vision / tags"):
        crosscheck(folder, record, "muse", ("vision", "text"), "tags", "mini-inference")
