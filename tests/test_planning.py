"""`power`: plans from stated components agree with the reference's table, plans from a pilot with the pilot."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from demo_outcomes import TARGETS, write_demo
from small_suite import printed, write_small

from xtremex.analysis.outcomes import read_record
from xtremex.analysis.pilot import variance_components
from xtremex.analysis.planning import design_plan, pilot_plan, stated_components
from xtremex.analysis.power import Components, planned_test
from xtremex.benchmark.cost import plan_cost
from xtremex.benchmark.plan import Numerics, make_plan
from xtremex.benchmark.power_design import suite_design
from xtremex.benchmark.progress import Estimates
from xtremex.benchmark.run import Options
from xtremex.benchmark.suite import load_suite
from xtremex.errors import AnalysisError, UnknownName


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(
        tmp_path_factory.mktemp("pilot"),
        arms=("text", "vision"),
        conditions=("none", "nli", "tags"),
        targets=TARGETS[:3],
        languages=("en", "de", "fa"),
        examples=40,
        seeds=4,
    )


def test_stated_components_are_the_base_scenario() -> None:
    """Section 3.1 of the statistics reference: 1272 and 159.7 squared points at an accuracy of .7."""
    target = stated_components(run_sd=0.5, targets=1).targets[0]
    base = Components.stated().targets[0]
    assert target.run == pytest.approx(base.run) and target.run_language == pytest.approx(base.run_language)
    assert 1e4 * target.run_examples == pytest.approx(1272, abs=1)
    assert 1e4 * target.cell_examples == pytest.approx(159.7, abs=0.5)


def test_plan_of_the_reference() -> None:
    """Section 3.5: one task 2.26 / 1.69 / 1.23 points with 3 / 5 / 10 seeds, nine tasks 1.09 / .80 / .56; pooled df."""
    nine = stated_components(run_sd=0.5, checkpoint_sd=0.3)
    plan = design_plan(nine, 1, seeds=(3, 5, 10), df="pooled")
    [mean] = [e for e in plan.effects if e.target == "*"]
    assert [round(row.mde, 2) for row in mean.rows] == [1.09, 0.80, 0.56]
    one = stated_components(run_sd=0.5, checkpoint_sd=0.0, targets=1)
    [single] = design_plan(one, 1, seeds=(3, 5, 10), df="pooled").effects
    assert [round(row.mde, 2) for row in single.rows] == [2.26, 1.69, 1.23]


def test_plan_names_every_effect_and_its_family() -> None:
    plan = design_plan(stated_components(run_sd=0.5, targets=3), 4, seeds=(3,), effect=2.0)
    found = [(e.target, e.conditions, e.comparisons) for e in plan.effects]
    one = plan.components.targets[0].name
    assert found == [("*", 4, 1), ("*", 1, 1), ("*", 1, 4), (one, 1, 1), (one, 1, 12)]
    # a mean over more cells sees less, a larger family more
    mdes = [e.rows[0].mde for e in plan.effects]
    assert mdes[0] < mdes[1] < mdes[2] and mdes[1] < mdes[3] < mdes[4]


def test_seeds_needed_are_the_fewest() -> None:
    plan = design_plan(stated_components(run_sd=0.5), 1, effect=1.0)
    for planned in plan.effects:
        assert planned.needed is not None
        chosen = plan.components if planned.target == "*" else plan.components.of(planned.target)
        alpha = plan.alpha / planned.comparisons
        enough = planned_test(chosen, planned.needed, alpha=alpha).power(0.01)
        fewer = planned_test(chosen, planned.needed - 1, alpha=alpha).power(0.01)
        assert fewer < plan.power <= enough


def test_examples_alone_may_hide_an_effect() -> None:
    plan = design_plan(stated_components(run_sd=0.1, examples=20, languages=2, targets=1), 1, effect=0.5)
    assert [e.needed for e in plan.effects] == [None] and plan.effects[0].floor > 0.5


def test_seeds_beyond_a_thousand_are_not_never(capsys: pytest.CaptureFixture[str]) -> None:
    """Runs of SD 20 points hide half a point from a thousand seeds, but not from all."""
    line = ["--targets", "1", "--conditions", "1", "--examples", "4000", "--effect", "0.5"]
    out = printed(capsys, "power", "--run-sd", "20", *line)
    assert "> 1000" in out and "never" not in out
    out = printed(capsys, "power", "--run-sd", "20", *line[:4], "--examples", "20", "--effect", "0.5")
    assert "> 1000" not in out and "never: the test examples" in out


def test_plan_of_a_suite_that_has_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Targets, conditions and languages are the suite's, and the cost of a seed is the plan's of half its jobs."""
    path = write_small(tmp_path)
    line = ["power", "--run-sd", "1", "--suite", path, "--out", tmp_path / "runs", "--examples", "60"]
    tree = json.loads(printed(capsys, *line, "--json"))
    targets = tree["components"]["targets"]
    # retention is in no family of effects
    assert [t["name"] for t in targets] == ["mini-inference", "mini-entities", "mini-retrieval"]
    # retrieval is scored from the other languages to English
    assert [len(t["sizes"]) for t in targets] == [3, 3, 2] and targets[0]["sizes"] == [60] * 3
    assert [t["fixed_none"] for t in targets] == [False, False, True] and all(t["parallel"] for t in targets)
    assert tree["source"] == "suite" and tree["conditions"] == 1
    plan = make_plan(load_suite(str(path)), Numerics())
    estimates = Estimates.from_store(Options(tmp_path / "runs").store, plan.jobs)
    one = sum(estimates.of(job) for job in plan.jobs.values() if job.seed == 0)
    assert tree["seconds_per_seed"] == pytest.approx(one) and one > 0
    assert {e["target"] for e in tree["effects"]} == {"*", *(t["name"] for t in targets)}
    out = printed(capsys, *line)
    assert "3 targets of the suite, 1 condition." in out
    assert "60 test examples a language assumed for mini-inference" in out


def test_large_encoders_cost_gpu_hours() -> None:
    """Declared sizes alone: four seeds share what the whole plan is said to cost but for what no seed owns."""
    found = suite_design("replication", 1000, Path("runs"))
    plan = make_plan(load_suite("replication"), Numerics())
    assert found.seconds_per_seed is not None
    seeds = len({job.seed for job in plan.jobs.values() if job.seed >= 0})
    assert 0.5 < found.seconds_per_seed * seeds / (plan_cost(plan).flops / 100e12) <= 1
    sizes = {t.name: t.sizes for t in found.targets}
    assert sizes["xnli"] == (5010,) * 15 and "bucc2018" in found.basis


def test_pilot_is_planned_from_its_own_components(pilot: Path) -> None:
    record = read_record(pilot)
    plan = pilot_plan(record, seeds=(4,))
    assert plan.components == variance_components(record, "muse") and plan.conditions == 2
    assert {e.target for e in plan.effects} == {"*", *(t.name for t in TARGETS[:3])}
    # every trained run of the demonstration took 2.5 s: 3 targets, 2 arms, 3 conditions
    assert plan.seconds_per_seed == pytest.approx(2.5 * 18)
    assert all(row.cost == pytest.approx(4 * 2.5 * 18) for e in plan.effects for row in e.rows)
    with pytest.raises(UnknownName, match="mused"):
        pilot_plan(record, pair="mused")


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"alpha": 0.9}, "alpha below power"), ({"effect": 0.0}, "above 0"), ({"seeds": ()}, "one or more")],
)
def test_impossible_plans_are_refused(changed: dict, said: str) -> None:
    with pytest.raises(AnalysisError) as error:
        design_plan(stated_components(run_sd=0.5), 1, **changed)
    assert said in error.value.hint
    for sd in (-1, math.nan, math.inf):
        with pytest.raises(AnalysisError, match=str(sd)):
            stated_components(run_sd=sd)


def test_command(pilot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = json.loads(printed(capsys, "power", pilot, "--seeds", "3,7", "--json"))
    assert tree["source"] == "pilot" and [r["seeds"] for r in tree["effects"][0]["rows"]] == [3, 7]
    lines = printed(capsys, "power", "--run-sd", "0.5", "--effect", "1.5").splitlines()
    header = next(i for i, line in enumerate(lines) if "seeds for 1.5" in line)
    rows = [line.split() for line in lines[header + 1 :] if "condition" in line]
    expected = design_plan(stated_components(run_sd=0.5), 9, effect=1.5)
    assert len(rows) == len(expected.effects) == 5
    for cells, planned in zip(rows, expected.effects, strict=True):
        assert cells[-5:-1] == [f"{row.mde:.2f}" for row in planned.rows] and cells[-1] == str(planned.needed)
    assert not any(math.isnan(float(cells[-2])) for cells in rows)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--run-sd", "0.5", "--seeds", "three"],
        ["--run-sd", "0.5", "--seeds", "1,3"],
        ["somewhere", "--run-sd", "0.5"],
        ["somewhere", "--suite", "mini"],
    ],
)
def test_command_says_what_is_missing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AnalysisError) as error:
        printed(capsys, "power", *arguments)
    assert error.value.hint
