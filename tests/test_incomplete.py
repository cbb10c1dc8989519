"""Designs that lost something, or had too little: what the analysis says, and what it does not claim."""

from dataclasses import replace

import pytest
from demo_outcomes import SMALL, write_demo

from xtremex.analysis.effects import analyse, effects
from xtremex.analysis.outcomes import read_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo"), **SMALL)


def chosen(results, family, role="primary"):
    return [e for e in results.estimates if e.family == family and e.role == role]


def without(record, lost):
    cells = {
        place: {key: cell for key, cell in grid.items() if not lost(place[1], *key)}
        for place, grid in record.cells.items()
    }
    return replace(record, cells=cells)


def test_a_contrast_that_lost_an_arm_says_so_first(folder):
    """Else the report would open with the placebo, or with gains, as if nothing had been asked."""
    record = read_record(folder)
    results = effects(without(record, lambda task, arm, condition: arm == "vision"))
    assert [(a.role, a.estimate is None) for a in results.answers] == [("primary", True), ("placebo", False)]
    assert results.answers[0].sentence.startswith("No answer for vision-text: ")
    alone = effects(without(record, lambda task, arm, condition: arm != "text"))
    sentences = [a.sentence for a in alone.answers]
    assert sum(s.startswith("No answer") for s in sentences) == 2 and alone.estimates == ()
    assert sum("changed the text-only arm" in s for s in sentences) == 1
    assert not any("with one arm" in s for s in sentences)


def test_gains_over_other_cells_are_not_set_beside_the_effect(folder):
    """Where one arm lost a cell, the other's gain is a mean over more cells than the effect."""
    record = read_record(folder)
    lost = ("mini-entities", "text", "nli")
    results = effects(without(record, lambda *place: place == lost))
    (grand,) = chosen(results, "grand")
    total = {g.arm: g.value for g in results.gains if (g.condition, g.target) == ("*", "*")}
    assert abs(total["vision"] - total["text"] - grand.value) > 0.01
    assert f"differed by {grand.value:+.2f} points between" in results.answers[0].sentence
    # one condition is left: the sentence counts what was analysed
    one = effects(without(record, lambda task, arm, condition: condition == "nli"))
    assert "After the intermediate condition `tags`, averaged over" in one.answers[0].sentence


def test_one_seed_tells_checkpoints_apart_not_arms(tmp_path):
    results = analyse(write_demo(tmp_path, **SMALL, seeds=1, effect=-0.25))
    assert chosen(results, "grand")[0].verdict == "different"
    assert "These checkpoints differ" in results.answers[0].sentence
    assert "he arms differ" not in results.answers[0].sentence


def test_nothing_that_varies_detects_nothing(folder):
    record = read_record(folder)
    flat = {
        place: {
            key: replace(
                c, scores=c.scores * 0 + 0.5, contributions=c.contributions * 0 + 0.5, noise=c.noise * 0
            )
            for key, c in grid.items()
        }
        for place, grid in record.cells.items()
    }
    sentence = effects(replace(record, cells=flat)).answers[0].sentence
    assert "no test: nothing varied" in sentence and "could have detected" not in sentence


def test_two_seeds_carry_no_verdict_of_their_own(tmp_path):
    """A large true effect, seen by two seeds: intervals and p-values, but verdicts only where variances borrow."""
    many = {**SMALL, "conditions": ("none", *(f"c{i}" for i in range(7))), "languages": ("en", "de")}
    record = read_record(write_demo(tmp_path, **many, seeds=2, effect=-0.15, run_sd=0.002))
    results = effects(record)
    for e in (*results.estimates, *results.further):
        moderated = e.p_unmoderated is not None
        assert e.provisional is not moderated and (moderated or e.verdict == "inconclusive")
        assert e.p is not None and e.low < e.value < e.high
    assert any(e.p_adjusted < 0.05 for e in results.estimates if e.provisional)
    assert {e.family for e in results.estimates if not e.provisional} == {"map"}
    assert any(e.verdict == "different" for e in results.estimates if e.family == "map")
    assert "No verdict. " in results.answers[0].sentence
    assert any(w.startswith("Two seeds:") for w in results.warnings)
    # means over conditions are targets' own tests, the cells of the map are not
    assert "*" not in {x.condition for x in results.replicability} and results.replicability
    # pooled run variances borrow as well, as the suite asks for
    pooled = effects(replace(record, suite=record.suite | {"analysis": {"df": "pooled"}}))
    assert (
        not any(e.provisional for e in pooled.estimates) and "The arms differ" in pooled.answers[0].sentence
    )
    small = effects(without(record, lambda task, arm, condition: condition not in ("none", "c0")))
    assert all(e.provisional and e.verdict == "inconclusive" for e in small.estimates)
    assert small.replicability == () == small.cell_languages
    with_three = write_demo(tmp_path / "three", **many, seeds=3, effect=-0.15, run_sd=0.002)
    assert not any(e.provisional for e in analyse(with_three).estimates)
    assert not any(e.provisional for e in analyse(write_demo(tmp_path / "one", **SMALL, seeds=1)).estimates)
