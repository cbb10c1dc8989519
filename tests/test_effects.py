"""The whole analysis: families, aggregates, gains, languages, retention, sentences."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from demo_outcomes import CONDITIONS, LANGUAGES, SMALL, TARGETS, write_demo

from xtremex.analysis.answers import answers, scale_caution
from xtremex.analysis.effects import analyse, effects
from xtremex.analysis.estimator import Cell, Examples, Term, contrast, did, estimate
from xtremex.analysis.multiplicity import benjamini_hochberg, holm
from xtremex.analysis.outcomes import read_record
from xtremex.errors import AnalysisError

CORE = ("mini-inference", "mini-entities", "mini-sentences")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"), **SMALL)


@pytest.fixture(scope="module")
def results(folder):
    return analyse(folder)


def chosen(results, family, role="primary"):
    return [e for e in results.estimates if e.family == family and e.role == role]


def test_families(results):
    for role, name in (("primary", "vision-text"), ("placebo", "scrambled-text")):
        assert {e.contrast for e in results.estimates if e.role == role} == {name}
        assert [(e.condition, e.target) for e in chosen(results, "grand", role)] == [("*", "*")]
        assert [(e.condition, e.target) for e in chosen(results, "conditions", role)] == [
            ("nli", "*"),
            ("tags", "*"),
        ]
        assert [(e.condition, e.target) for e in chosen(results, "targets", role)] == [("*", t) for t in CORE]
        cells = [(e.condition, e.target) for e in chosen(results, "map", role)]
        assert cells == [(c, t) for c in ("nli", "tags") for t in CORE]
        for family, adjust, correction in (
            ("conditions", holm, "holm"),
            ("targets", holm, "holm"),
            ("map", benjamini_hochberg, "bh"),
        ):
            members = chosen(results, family, role)
            assert {e.family_size for e in members} == {len(members)}
            assert {e.correction for e in members} == {correction}
            assert [e.p_adjusted for e in members] == pytest.approx(adjust([e.p for e in members]))
    (grand,), (placebo,) = chosen(results, "grand"), chosen(results, "grand", "placebo")
    assert (grand.correction, grand.family_size, placebo.correction, placebo.family_size) == (
        "holm",
        1,
        "none",
        1,
    )
    assert placebo.p_adjusted == placebo.p


def test_aggregates_are_means_of_the_map(results):
    for role in ("primary", "placebo"):
        cells = {(e.condition, e.target): e.value for e in chosen(results, "map", role)}
        for e in results.estimates:
            if e.role == role:
                mine = [v for (c, t), v in cells.items() if e.condition in (c, "*") and e.target in (t, "*")]
                assert e.value == pytest.approx(np.mean(mine))


def test_a_map_cell_from_the_file(folder, results):
    """vision-text under nli on mini-inference, from the Parquet file by hand."""
    table = pq.read_table(folder / "outcomes" / "mini-inference.parquet")
    column = {name: np.asarray(table[name]) for name in table.column_names}

    def cell(arm, condition):
        mine = (column["arm"] == arm) & (column["condition"] == condition)
        languages = [mine & (column["language"] == code) for code in ("en", "de", "fa")]
        return np.mean(
            [column["accuracy.num"][rows].sum() / column["accuracy.den"][rows].sum() for rows in languages]
        )

    gain = {arm: 100 * (cell(arm, "nli") - cell(arm, "none")) for arm in ("vision", "text")}
    (estimate,) = [e for e in chosen(results, "map") if (e.condition, e.target) == ("nli", "mini-inference")]
    assert estimate.value == pytest.approx(gain["vision"] - gain["text"])
    assert (estimate.languages, estimate.examples, estimate.seeds, estimate.tier) == (3, 240, 3, "T2")
    found = {g.arm: g.value for g in results.gains if (g.condition, g.target) == ("nli", "mini-inference")}
    assert found["vision"] == pytest.approx(gain["vision"]) and found["text"] == pytest.approx(gain["text"])


def test_grand_effect_equals_one_contrast_of_task_means(folder, results):
    """By hand: per arm and condition, scores are averaged over targets seed by seed, then over seeds."""
    record = read_record(folder)
    v_run = v_examples = 0.0
    cells = [(arm, c) for arm in ("vision", "text") for c in ("nli", "tags", "none")]
    weights = [0.5, 0.5, -1.0, -0.5, -0.5, 1.0]
    for (arm, condition), w in zip(cells, weights, strict=True):
        members = [record.cells["muse", t][arm, condition] for t in CORE]
        trained = [m for m in members if not m.deterministic]
        per_seed = sum(m.scores.mean(axis=1) for m in trained) / len(CORE)
        v_run += w * w * np.var(per_seed, ddof=1) / 3
    for task in CORE:
        grid = [record.cells["muse", task][key] for key in cells]
        v_examples += contrast(grid, weights).v_examples / len(CORE) ** 2
    (grand,) = chosen(results, "grand")
    assert grand.se == pytest.approx(100 * np.sqrt(v_run + v_examples))
    assert grand.variance_shares["run"] == pytest.approx(v_run / (v_run + v_examples))


def test_every_estimate_is_complete(results):
    for e in results.estimates:
        assert e.low < e.value < e.high and e.se > 0 and e.df > 0 and 0 <= e.p <= e.p_adjusted <= 1
        assert sum(e.variance_shares.values()) == pytest.approx(1)
        assert e.mde > 2 * e.se and 0 <= e.p_equivalence <= 1
        assert e.margin == (0.5 if e.target == "*" else 1.0)
        differs, negligible = e.p_adjusted < 0.05, e.p_equivalence < 0.05
        expected = {
            (True, True): "different-but-negligible",
            (True, False): "different",
            (False, True): "equivalent",
            (False, False): "inconclusive",
        }
        assert e.verdict == expected[differs, negligible]
    json.dumps(results.to_json(), allow_nan=False)


def test_language_effects_average_to_the_grand_effect(results):
    for role in ("primary", "placebo"):
        mine = [x for x in results.languages if x.role == role]
        assert [(x.language, x.name, x.untrained) for x in mine] == [
            ("en", "English", False),
            ("de", "German", False),
            ("fa", "Persian", True),
        ]
        assert {x.targets for x in mine} == {3}
        (grand,) = chosen(results, "grand", role)
        assert np.mean([x.value for x in mine]) == pytest.approx(grand.value)
        assert all(x.high - x.low > grand.high - grand.low for x in mine)


def test_scores_and_retention(results):
    score = next(
        s for s in results.scores if (s.arm, s.condition, s.target) == ("text", "nli", "mini-inference")
    )
    assert score.mean == pytest.approx((score.source + 2 * score.transfer) / 3)
    assert score.sd > 0 and score.baseline == pytest.approx(0.3) and not score.deterministic
    alone = next(
        s for s in results.scores if (s.arm, s.condition, s.target) == ("text", "none", "mini-sentences")
    )
    assert alone.deterministic and alone.sd is None and alone.seeds == 1
    assert {(r.arm, r.target) for r in results.retention} == {
        ("vision", "mini-pictures"),
        ("scrambled", "mini-pictures"),
    }
    for r in results.retention:
        assert (r.change is None) == (r.condition == "none") == (r.low is None)
        assert r.chance == pytest.approx(1 / 80, abs=1e-4)
        if r.change is not None:
            before = next(x for x in results.retention if (x.arm, x.condition) == (r.arm, "none"))
            assert r.change == pytest.approx(100 * (r.mean - before.mean)) and r.low < r.change < r.high
    assert "mini-pictures" not in {e.target for e in results.estimates}
    assert {s.target for s in results.scores} == {*CORE, "mini-pictures"}


def test_gains_hold_their_aggregates(results):
    for arm in ("text", "vision", "scrambled"):
        mine = {(g.condition, g.target): g for g in results.gains if g.arm == arm}
        assert len(mine) == 1 + 2 + 3 + 6
        cells = [g.value for (c, t), g in mine.items() if "*" not in (c, t)]
        assert mine["*", "*"].value == pytest.approx(np.mean(cells))
    total = {g.arm: g.value for g in results.gains if (g.condition, g.target) == ("*", "*")}
    (grand,) = chosen(results, "grand")
    assert grand.value == pytest.approx(total["vision"] - total["text"])


def test_answers(results):
    primary, placebo = results.answers
    assert (primary.role, placebo.role) == ("primary", "placebo")
    e = primary.estimate
    for text in (
        f"{e.low:.2f} to {e.high:.2f}",
        f"df {e.df:.1f}",
        "p = ",
        "tier T2",
        "for new seeds and new examples, tier T2",
        f"detected {e.mde:.2f} points",
        "with 3 seeds",
        "vision-language",
    ):
        assert text in primary.sentence
    # the verdict first, then what the mean goes over
    over = "Averaged over 2 intermediate conditions, 3 targets and 3 languages, intermediate-task training"
    assert e.verdict == "inconclusive" and primary.sentence.startswith(f"Inconclusive. {over} changed")
    assert primary.lead == "Inconclusive"
    assert "scrambled-pictures arm" in placebo.sentence and primary.sentence.count("\n") == 0
    assert "|test:MWV-t/T2/welch|" in results.signature and results.signature.startswith(
        "xtremex:0.1.0|suite:demo"
    )


def test_sentence_follows_the_signs_of_the_gains(results):
    (grand,) = chosen(results, "grand")

    def sentence(vision, text, verdict="different"):
        gains = [
            replace(g, value={"vision": vision, "text": text}.get(g.arm, 0.0))
            for g in results.gains
            if (g.condition, g.target) == ("*", "*")
        ]
        shown = replace(grand, value=vision - text, verdict=verdict)
        return answers(results.suite, [shown], gains)[0].sentence

    assert "helped the vision-language arm 1.00 points more than" in sentence(2, 1)
    assert "helped the vision-language arm 1.00 points less than" in sentence(1, 2)
    assert "hurt the vision-language arm 1.00 points less than" in sentence(-1, -2)
    assert "hurt the vision-language arm 1.00 points more than" in sentence(-2, -1)
    assert "by +1.00 points and the text-only arm by -1.00, a difference of +2.00" in sentence(1, -1)
    # more and less are findings: an inconclusive answer claims neither
    for verdict in ("inconclusive", "equivalent"):
        assert "by +2.00 points and the text-only arm by +1.00, a difference of +1.00" in sentence(
            2, 1, verdict
        )
        assert "hurt" not in sentence(-2, -1, verdict)


def test_scale_dependence_is_said():
    """Two arms gain the same points, one of them close to the ceiling: equal in points, not in log-odds."""
    cells = []
    rng = np.random.default_rng(0)
    examples = Examples.regular(["en", "de"], 2000)
    for level in (0.97, 0.92, 0.55, 0.50):  # +5 points each
        num = (rng.random((5, 4000)) < level).astype(float)
        cells.append(Cell.from_counts(examples, num, np.ones_like(num)))
    points, logits = did(*cells), did(*(cell.on_logit_scale() for cell in cells))
    expected = np.log(0.97 / 0.03) - np.log(0.92 / 0.08) - np.log(0.55 / 0.45)
    assert logits.low < expected < logits.high and logits.p < 0.001 < 0.05 < points.p
    caution = scale_caution("muse", "vision-text", points, logits, 0.05)
    assert "scale-dependent interaction" in caution and f"{logits.value:+.3f} on the logit scale" in caution
    assert scale_caution("muse", "vision-text", logits, logits, 0.05) == ""


def test_scale_caution_enters_the_warnings(folder, results):
    record = read_record(folder)
    terms = {}
    for key in ("points", "logits"):
        grids = {t: record.cells["muse", t] for t in CORE}
        cells = {
            t: {k: c.on_logit_scale() if key == "logits" else c for k, c in g.items()}
            for t, g in grids.items()
        }
        weights = {("nli", 1): 0.5, ("tags", 1): 0.5, ("none", 1): -1.0}
        coefficients = {
            (arm, c): sign * w / len(CORE)
            for arm, sign in (("vision", 1.0), ("text", -1.0))
            for (c, _), w in weights.items()
        }
        terms[key] = estimate([Term(g, coefficients) for g in cells.values()])
    said = any("vision-text: scale-dependent" in w for w in results.warnings)
    assert said == bool(scale_caution("muse", "vision-text", terms["points"], terms["logits"], 0.05))


def test_a_large_effect_is_found(tmp_path):
    """A true difference of -12 points: found by grand effect and families; the placebo's true effect is 0."""
    results = analyse(write_demo(tmp_path, **{**SMALL, "examples": 150}, effect=-0.12, seeds=5, run_sd=0.004))
    (grand,), (placebo,) = chosen(results, "grand"), chosen(results, "grand", "placebo")
    assert (
        grand.verdict == "different" and grand.high < -4 and "The arms differ" in results.answers[0].sentence
    )
    assert all(e.verdict == "different" for e in chosen(results, "conditions"))
    assert placebo.low < 0 < placebo.high
    assert not any("seeds in the smallest cell" in w for w in results.warnings)


def test_one_arm_answers_with_gains(tmp_path):
    results = analyse(write_demo(tmp_path, **SMALL, arms=("text",)))
    assert results.estimates == () and results.languages == () and results.retention == ()
    (answer,) = results.answers
    (gain,) = [g for g in results.gains if (g.condition, g.target) == ("*", "*")]
    assert answer.estimate is None and f"{gain.value:+.2f} points" in answer.sentence
    assert (
        f"{gain.low:.2f} to {gain.high:.2f}" in answer.sentence and "no comparison of arms" in answer.sentence
    )


def test_two_pairs_form_the_grand_family(tmp_path):
    results = analyse(write_demo(tmp_path, **SMALL, pairs=("muse", "other")))
    primary = chosen(results, "grand")
    assert [e.pair for e in primary] == ["muse", "other"] and {e.family_size for e in primary} == {2}
    assert [e.p_adjusted for e in primary] == pytest.approx(holm([e.p for e in primary]))
    assert {e.family_size for e in chosen(results, "grand", "placebo")} == {1}
    assert [a.role for a in results.answers] == ["primary", "primary", "placebo", "placebo"]
    assert (
        results.answers[1].sentence.startswith("other: ")
        and "over 2 contrasts" in results.answers[0].sentence
    )
    assert {e.family_size for e in chosen(results, "map")} == {6}  # each pair has a map of its own


def test_one_seed_is_tier_t0(tmp_path):
    results = analyse(write_demo(tmp_path, **SMALL, seeds=1))
    assert {e.tier for e in results.estimates} == {"T0"} and {
        e.variance_shares["run"] for e in results.estimates
    } == {0}
    assert results.warnings[0].startswith("No design was registered")
    assert "One seed per cell" in results.warnings[1] and "MWV-t/T0" in results.signature
    assert "with one seed" in results.answers[0].sentence and "tier T0" in results.answers[0].sentence
    assert all(s.sd is None for s in results.scores)


def test_warnings_name_restarts_and_collapses(tmp_path):
    results = analyse(write_demo(tmp_path, **{**SMALL, "restart": True}))
    text = "\n".join(results.warnings)
    assert "runs restarted after a failed attempt: muse / scrambled / tags / mini-inference / seed 0" in text
    assert "runs collapsed and kept: muse / text / tags / mini-inference / seed 0" in text
    assert "3 seeds in the smallest cell" in text


def test_no_gain_to_estimate(folder):
    record = read_record(folder)
    cells = {key: {k: c for k, c in grid.items() if k[1] != "none"} for key, grid in record.cells.items()}
    left = replace(record, cells=cells, warnings=("a / b: 1 seed(s) on all targets; the cell was left out.",))
    with pytest.raises(AnalysisError, match="no gain to estimate") as error:
        effects(left)
    assert error.value.hint.endswith("\n" + left.warnings[0])  # the reason, which no report will show


def test_source_language_may_be_no_test_language(tmp_path):
    results = analyse(write_demo(tmp_path, **{**SMALL, "languages": ("de", "fa")}))
    assert {s.source for s in results.scores} == {None} and all(
        s.transfer == pytest.approx(s.mean) for s in results.scores
    )


def test_analysis_is_deterministic_free_of_torch_and_quick(tmp_path):
    """The size of the mini suite in two seconds; twice as much is allowed for a busy machine."""
    folder = write_demo(tmp_path)
    assert (len(CONDITIONS), len(TARGETS), len(LANGUAGES)) == (7, 7, 16)
    code = (
        "import sys, json, time; from pathlib import Path; from xtremex.analysis.effects import analyse;"
        "start = time.process_time(); r = analyse(Path(sys.argv[1])); spent = time.process_time() - start;"
        "assert not {'torch', 'transformers', 'pandas'} & set(sys.modules); print(spent);"
        "print(json.dumps(r.to_json(), allow_nan=False))"
    )
    spent, text = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert json.loads(text) == json.loads(json.dumps(analyse(folder).to_json()))
    assert float(spent) < 4
