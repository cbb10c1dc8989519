"""What stands beside the effects: moderation, other scales and tiers, replication, derived contrasts, settings."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from demo_outcomes import TARGETS, write_demo
from scipy import stats
from scipy.stats import false_discovery_control

from xtremex.analysis.comparisons import declared, derived
from xtremex.analysis.effects import analyse, effects
from xtremex.analysis.estimator import Term, estimate
from xtremex.analysis.families import by_target
from xtremex.analysis.moderation import moderated
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.replication import over_pairs
from xtremex.analysis.report import json_text
from xtremex.analysis.settings import Settings
from xtremex.analysis.study import POINTS
from xtremex.errors import AnalysisError

THREE = (TARGETS[0], TARGETS[2], TARGETS[4])
NAMES = ("mini-inference", "mini-entities", "mini-sentences")
SMALL = {
    "conditions": ("none", "nli", "tags"),
    "targets": THREE,
    "languages": ("en", "de", "fr", "it", "fa"),
    "examples": 60,
    "restart": False,
}
SIGNS = {"vision": 1.0, "text": -1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"), **SMALL)


@pytest.fixture(scope="module")
def results(folder):
    return analyse(folder)


@pytest.fixture(scope="module")
def record(folder):
    return read_record(folder)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """24 cells, 12 languages, a large true effect: moderated, with T3 and cells that are found."""
    conditions = ("none", *(f"c{i}" for i in range(8)))
    settings = SMALL | {"conditions": conditions, "languages": tuple(f"l{i:02}" for i in range(12))}
    path = write_demo(tmp_path_factory.mktemp("large"), **settings, effect=-0.12, run_sd=0.004)
    return read_record(path), analyse(path)


def chosen(estimates, family, role="primary"):
    return [e for e in estimates if e.family == family and e.role == role]


def term(grid, condition, scale=1.0, logit=False):
    cells = {key: cell.on_logit_scale() if logit else cell for key, cell in grid.items()}
    coefficients = {
        (arm, c): scale * sign * way
        for arm, sign in SIGNS.items()
        for c, way in ((condition, 1.0), ("none", -1.0))
    }
    return Term(cells, coefficients)


def test_a_small_map_is_not_moderated(results):
    assert {e.p_unmoderated for e in results.estimates} == {None} and results.priors == ()
    assert results.signature.count("map=bh(by)|") == 1


def test_a_map_of_twenty_cells_is_moderated(large):
    record, results = large
    cells = chosen(results.estimates, "map")
    terms = [[term(record.cells["muse", e.target], e.condition)] for e in cells]
    fits = [estimate(t) for t in terms]
    expected, prior = moderated(fits, by_target(terms))
    assert [e.p for e in cells] == pytest.approx([fit.p for fit in expected])
    assert [e.p_unmoderated for e in cells] == pytest.approx([fit.p for fit in fits])
    assert [e.low for e in cells] == pytest.approx([100 * fit.low for fit in expected])
    (mine,) = [p for p in results.priors if p.contrast == "vision-text"]
    assert mine.cells == 24 and mine.run_sd == pytest.approx(100 * np.sqrt(prior.prior_variance))
    # every target has a level of its own
    assert [target for target, _ in mine.levels] == list(dict.fromkeys(e.target for e in cells))
    assert [sd for _, sd in mine.levels] == pytest.approx(100 * np.sqrt(prior.levels))
    assert "map=bh(by)+moderated" in results.signature
    # what the verdict goes by is the moderated p, adjusted; beside it the bound for any dependence
    p = [e.p for e in cells]
    assert [e.p_adjusted for e in cells] == pytest.approx(false_discovery_control(p))
    assert [e.p_by for e in cells] == pytest.approx(false_discovery_control(p, method="by"))


def test_max_t_stands_beside_holm(results, large):
    for found in (results, large[1]):
        for role in ("primary", "placebo"):
            for e in chosen(found.estimates, "conditions", role):
                assert e.p - 0.01 <= e.p_max_t <= e.p_adjusted + 0.01
    assert {e.p_max_t for e in results.estimates if e.family != "conditions"} == {None}


def test_the_correlation_of_the_conditions(results):
    (mine,) = [c for c in results.correlations if c.contrast == "vision-text"]
    matrix = np.array(mine.matrix)
    assert mine.names == ("nli", "tags") and mine.family == "conditions"
    # both conditions are compared with the same runs of `none`
    assert np.allclose(np.diag(matrix), 1) and 0.1 < matrix[0, 1] < 0.9
    assert np.allclose(matrix, matrix.T)


def test_effects_on_the_logit_scale(record, results):
    for e in chosen(results.estimates, "map"):
        fit = estimate([term(record.cells["muse", e.target], e.condition, logit=True)])
        assert (e.logit.value, e.logit.p) == pytest.approx((fit.value, fit.p))
        assert e.scale_dependent == ((e.value > 0) != (fit.value > 0) or (e.p < 0.05) != (fit.p < 0.05))
    terms = [term(record.cells["muse", t], c, 1 / 6, logit=True) for t, c in product(NAMES, ("nli", "tags"))]
    (grand,) = chosen(results.estimates, "grand")
    assert grand.logit.value == pytest.approx(estimate(terms).value)


def test_effect_sizes(record, results):
    """By brute force: every run with against every run without, and the SD pooled over the four cells."""
    for e in chosen(results.estimates, "map"):
        grid = record.cells["muse", e.target]
        v1, v0, t1, t0 = (
            grid[arm, c].scores.mean(axis=1) for arm in ("vision", "text") for c in (e.condition, "none")
        )
        wins = [np.sign(round((a - b) - (c - d), 12)) for a, b, c, d in product(v1, v0, t1, t0)]
        assert e.superiority == pytest.approx(np.mean(wins) / 2 + 0.5)
        if e.target != "mini-sentences":
            sd = np.sqrt(np.mean([np.var(x, ddof=1) for x in (v1, v0, t1, t0)]))
            assert e.run_sd == pytest.approx(100 * sd) and e.standardised == pytest.approx(e.value / e.run_sd)
    (grand,) = chosen(results.estimates, "grand")
    by_condition = [e.superiority for e in chosen(results.estimates, "conditions")]
    assert grand.superiority == pytest.approx(np.mean(by_condition))


def test_languages_generalise_from_ten_on(results, large):
    assert results.generalisation == ()
    assert [(a.view, a.contrast) for a in results.absent] == [("T3", "vision-text"), ("T3", "scrambled-text")]
    assert "5 languages" in results.absent[0].reason
    found = large[1]
    assert found.absent == () and {e.tier for e in found.generalisation} == {"T3"}
    rows = chosen(found.generalisation, "grand") + chosen(found.generalisation, "conditions")
    assert len(rows) == 9
    by_place = {(e.condition, e.target): e for e in found.estimates if e.role == "primary"}
    for e in rows:
        same = by_place[e.condition, e.target]
        assert e.value == pytest.approx(same.value) and e.se >= same.se * (1 - 1e-9)
        assert set(e.variance_shares) == {"run", "examples", "languages"}
        assert sum(e.variance_shares.values()) == pytest.approx(1)


def test_one_seed_has_no_t3(tmp_path):
    found = analyse(
        write_demo(tmp_path, **(SMALL | {"languages": tuple(f"l{i}" for i in range(10))}), seeds=1)
    )
    assert found.generalisation == () and "one seed" in found.absent[0].reason
    assert found.priors == () and {e.tier for e in found.further} == {"T0"}


def test_the_sign_of_rounding_depends_on_no_scale(tmp_path):
    """Two arms with the same runs in another order: every effect is 0 but for rounding, on both scales."""
    record = read_record(write_demo(tmp_path, **SMALL, seeds=5))
    for grid in record.cells.values():
        for (arm, condition), cell in list(grid.items()):
            if arm == "text":
                order = [3, 0, 4, 2, 1] if len(cell.seeds) == 5 else [0]
                grid["vision", condition] = replace(cell, scores=cell.scores[order])
    found = chosen(effects(record).estimates, "map") + chosen(effects(record).estimates, "conditions")
    assert max(abs(x) for e in found for x in (e.value, e.logit.value)) < 1e-10
    assert any((e.value > 0) != (e.logit.value > 0) for e in found)
    assert not any(e.scale_dependent for e in found)


def test_without_a_family_of_languages(record, results):
    every = [x for x in results.leave_out if x.contrast == "vision-text"]
    mine = {x.family: x for x in every if x.what == "family"}
    assert {family: x.left_out for family, x in mine.items()} == {
        "Germanic": ("en", "de"),
        "Romance": ("fr", "it"),
        "Iranian": ("fa",),
    }
    kept = [2, 3, 4]
    gains = [
        sign * (grid[arm, c].scores - grid[arm, "none"].scores.mean(axis=0)).mean(axis=0)[kept].mean()
        for grid in (record.cells["muse", t] for t in NAMES)
        for c in ("nli", "tags")
        for arm, sign in SIGNS.items()
    ]
    assert mine["Germanic"].value == pytest.approx(100 * np.sum(gains) / 6)
    assert mine["Germanic"].targets == 3 and all(x.low < x.value < x.high for x in mine.values())
    # the training language is not transferred to, and controls are not in the pre-training
    other = {x.what: x for x in every if x.what != "family"}
    assert {what: (x.family, x.left_out) for what, x in other.items()} == {
        "source": ("", ("en",)),
        "untrained": ("", ("fa",)),
    }
    # Persian is all of its family
    assert other["untrained"].value == pytest.approx(mine["Iranian"].value)
    kept = [1, 2, 3, 4]
    gains = [
        sign * (grid[arm, c].scores - grid[arm, "none"].scores.mean(axis=0)).mean(axis=0)[kept].mean()
        for grid in (record.cells["muse", t] for t in NAMES)
        for c in ("nli", "tags")
        for arm, sign in SIGNS.items()
    ]
    assert other["source"].value == pytest.approx(100 * np.sum(gains) / 6)


def test_every_p_value_stands_beside_its_df_and_seeds(large, tmp_path):
    """From what is printed alone: p by t = value / se on df, the interval by the quantile of t."""
    record = read_record(write_demo(tmp_path, **SMALL, seeds=4))
    first = next(
        r
        for r in record.suite["runs"]
        if r["seed"] != -1 and r["condition"] == "nli" and r["arm"] == "vision"
    )
    first["collapsed"] = True
    for found in (large[1], effects(record)):
        logits = [e.logit for e in found.estimates if e.logit is not None]
        kinds = {
            "gains": found.gains,
            "languages": found.languages,
            "leave_out": found.leave_out,
            "cell_languages": found.cell_languages,
            "sensitivity": found.sensitivity,
            "logits": logits,
        }
        assert {name for name, rows in kinds.items() if not rows} <= {
            "cell_languages",
            "leave_out",
            "sensitivity",
        }
        for name, rows in kinds.items():
            for x in rows:
                assert x.p == pytest.approx(2 * stats.t.sf(abs(x.value) / x.se, x.df), rel=1e-6), name
                half = stats.t.ppf(0.975, x.df) * x.se
                assert (x.low, x.high) == pytest.approx((x.value - half, x.value + half)), name
                assert x.tier == "T2" and x.seeds == (
                    3 if name == "sensitivity" else len(found.suite["seeds"])
                )
    assert found.sensitivity and found.leave_out and large[1].cell_languages
    tree = json.loads(json_text(found))
    for rows in (tree["languages"], tree["sensitivity"], [e["logit"] for e in tree["estimates"]]):
        assert {"se", "df", "p", "tier", "seeds"} <= set(rows[0])


def test_in_how_many_targets(large):
    for line in large[1].replicability:
        family = "targets" if line.condition == "*" else "map"
        tested = [
            e
            for e in large[1].estimates
            if (e.family, e.contrast) == (family, line.contrast) and e.condition == line.condition
        ]
        p = np.sort([e.p for e in tested])
        steps = np.maximum.accumulate(p * np.arange(len(p), 0, -1))
        assert line.targets == len(tested) == 3 and line.p == pytest.approx(np.minimum(steps, 1))
        assert line.count == np.sum(steps <= 0.05)
        if line.role == "primary":
            assert line.positive == 0  # the true effect is negative
    grand = next(x for x in large[1].replicability if (x.role, x.condition) == ("primary", "*"))
    assert grand.count == 3


def test_languages_within_the_cells_that_were_found(record, results, large):
    assert results.cell_languages == ()
    lines = [x for x in large[1].cell_languages if x.role == "primary"]
    cells = chosen(large[1].estimates, "map")
    found = {(e.condition, e.target): e for e in cells if e.p_adjusted < 0.05}
    assert 0 < len(found) and {(x.condition, x.target) for x in lines} == set(found)
    for place, e in found.items():
        mine = [x for x in lines if (x.condition, x.target) == place]
        assert len(mine) == 12 and np.mean([x.value for x in mine]) == pytest.approx(e.value)
        adjusted = false_discovery_control([x.p for x in mine]) * len(cells) / len(found)
        assert [x.p_adjusted for x in mine] == pytest.approx(np.minimum(adjusted, 1))
        line, grid = mine[3], large[0].cells["muse", e.target]
        alone = Term(grid, term(grid, e.condition).coefficients, np.eye(12)[3])
        fit = estimate([alone])
        assert (line.value, line.low, line.p) == pytest.approx((100 * fit.value, 100 * fit.low, fit.p))


def test_the_placebo_is_taken_from_the_primary(results):
    further = {(e.condition, e.target): e for e in results.further}
    assert list(further) == [("*", "*"), ("nli", "*"), ("tags", "*")]
    for place, e in further.items():
        values = {x.role: x.value for x in results.estimates if (x.condition, x.target) == place}
        assert (e.contrast, e.role) == ("vision-scrambled", "placebo-difference")
        assert e.value == pytest.approx(values["primary"] - values["placebo"])
    assert [c.contrast for c in results.correlations] == ["vision-text", "scrambled-text", "vision-scrambled"]


def test_the_trend_is_the_slope_over_the_ladder(tmp_path):
    ladder = ("text", "distilled", "scrambled", "vision")
    results = analyse(write_demo(tmp_path, **SMALL, arms=ladder, ladder=ladder))
    trends = {e.condition: e for e in results.further if e.role == "trend"}
    assert list(trends) == ["*", "nli", "tags"]
    for condition, e in trends.items():
        gains = {g.arm: g.value for g in results.gains if (g.condition, g.target) == (condition, "*")}
        slope = np.polyfit(range(4), [gains[arm] for arm in ladder], 1)[0]
        assert e.contrast == "trend(text < distilled < scrambled < vision)"
        assert e.value == pytest.approx(slope) and e.superiority is None and e.low < e.value < e.high


def test_derived_contrasts():
    def names(arms, contrasts, ladder=()):
        known = [{"name": f"{p}-{m}", "plus": p, "minus": m, "role": r} for p, m, r in contrasts]
        pair = {"name": "x", "arms": dict.fromkeys(arms, ""), "contrasts": known, "ladder": list(ladder)}
        assert [c.name for c in declared(pair)] == [c["name"] for c in known]
        return [(c.name, c.role) for c in derived(pair)]

    main = ("v", "t", "primary")
    assert names("vts", [main, ("s", "t", "placebo")]) == [("v-s", "placebo-difference")]
    assert names("vts", [main, ("t", "s", "placebo")]) == []  # another minus arm
    assert names("vts", [main, ("s", "t", "placebo"), ("v", "s", "primary")]) == []  # declared already
    assert names("vts", [main], "ts") == []  # two arms are no ladder
    assert names("vts", [main], "tsv") == [("trend(t < s < v)", "trend")]
    old = {"name": "x", "arms": {"v": "", "t": ""}, "contrasts": []}
    assert derived(old) == []


def test_a_claim_over_pairs_needs_one_direction(tmp_path):
    found = analyse(write_demo(tmp_path, **SMALL, pairs=("a", "b")))
    lines = {(x.contrast, x.condition): x for x in found.replication}
    assert {key[1] for key in lines} == {"*", "nli", "tags"}
    assert {key[0] for key in lines} == {"vision-text", "scrambled-text", "vision-scrambled"}
    for (contrast, condition), line in lines.items():
        mine = [
            e
            for e in (*found.estimates, *found.further)
            if (e.contrast, e.condition, e.target) == (contrast, condition, "*")
        ]
        # one condition was chosen among several, the mean was not
        p = [e.p if condition == "*" else e.p_adjusted for e in mine]
        assert line.p == max(p) and line.values == tuple(e.value for e in mine)
        assert line.agree == (len({np.sign(v) for v in line.values}) == 1)
    grand = [
        replace(e, value=v, p=0.01) for e, v in zip(chosen(found.estimates, "grand"), (1, 2), strict=True)
    ]
    assert over_pairs(grand, 0.05)[0].shown
    opposed = [grand[0], replace(grand[1], value=-2.0)]
    assert not over_pairs(opposed, 0.05)[0].shown and over_pairs(opposed, 0.05)[0].p == 0.01
    assert over_pairs(grand[:1], 0.05) == []
    chosen_among = [
        replace(e, value=v, p=0.01, p_adjusted=0.06)
        for e in chosen(found.estimates, "conditions")
        if e.condition == "nli"
        for v in (1,)
    ]
    assert not over_pairs(chosen_among, 0.05)[0].shown and over_pairs(chosen_among, 0.07)[0].shown


def test_a_named_condition_is_the_primary_hypothesis(tmp_path):
    found = analyse(write_demo(tmp_path, **SMALL, pairs=("a", "b"), analysis={"primary": "tags"}))
    primary = chosen(found.estimates, "primary")
    assert [(e.pair, e.condition, e.target, e.family_size, e.correction) for e in primary] == [
        ("a", "tags", "*", 2, "holm"),
        ("b", "tags", "*", 2, "holm"),
    ]
    assert [e.correction for e in chosen(found.estimates, "grand")] == ["none", "none"]
    # the others form the family of conditions
    assert {(e.condition, e.family_size) for e in chosen(found.estimates, "conditions")} == {("nli", 1)}
    assert [a.estimate.condition for a in found.answers] == ["tags"] * 4
    assert ". After the intermediate condition `tags`, averaged over 3 targets" in found.answers[0].sentence
    assert "correction:tags=holm(pairs)" in found.signature


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"tier": "T1"}, "MWV-t/T1/welch"),
        ({"df": "pooled"}, "MWV-t/T2/pooled"),
        ({"tier": "T3"}, "MWV-t/T3/welch"),
    ],
)
def test_tier_and_df_are_the_ones_asked_for(folder, results, asked, word):
    record = read_record(folder)
    found = effects(replace(record, suite=record.suite | {"analysis": record.suite["analysis"] | asked}))
    (grand,), (before,) = (chosen(x.estimates, "grand") for x in (found, results))
    assert f"|test:{word}|" in found.signature
    assert (grand.tier, grand.df_method) == (asked.get("tier", "T2"), asked.get("df", "welch"))
    assert grand.value == pytest.approx(before.value)
    if asked.get("tier") == "T1":
        assert grand.variance_shares == {"run": 1.0, "examples": 0.0}
    if asked.get("tier") == "T3":
        assert found.generalisation == () and "primary analysis" in found.absent[0].reason
        assert "conditions=holm," in found.signature and {e.p_max_t for e in found.estimates} == {None}
    if "df" in asked:
        assert any("Pooled degrees of freedom" in w for w in found.warnings)
    json.dumps(found.to_json(), allow_nan=False)


def test_settings_have_defaults_and_limits():
    conditions = [{"name": "none"}, {"name": "nli"}]
    assert Settings.of({"conditions": conditions}) == Settings()
    known = Settings.of({"conditions": conditions, "analysis": {"alpha": 0.01, "later": 1}})
    assert known.alpha == 0.01 and (known.margin("*"), known.margin("xnli")) == (0.5, 1.0)
    for wrong in ({"tier": "T0"}, {"df": "none"}, {"primary": "none"}, {"primary": "tags"}):
        with pytest.raises(AnalysisError, match=f"analysis.{next(iter(wrong))}"):
            Settings.of({"conditions": conditions, "analysis": wrong})
    assert POINTS == 100
