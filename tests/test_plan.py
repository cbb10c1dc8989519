"""The plan: shared prefixes, addresses that change with what determines a result, and size."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from small_suite import write_small, xtremex

from xtremex.benchmark.environment import numerics
from xtremex.benchmark.plan import Numerics, Plan, make_plan
from xtremex.benchmark.suite import Suite, load_suite
from xtremex.errors import SuiteError

CPU = Numerics("cpu", "fp32")


@pytest.fixture
def small(tmp_path: Path) -> Suite:
    return load_suite(str(write_small(tmp_path)))


def _count(plan: Plan, kind: str) -> int:
    return sum(job.type == kind for job in plan.jobs.values())


def test_prefixes_are_shared(small: Suite) -> None:
    plan = make_plan(small, CPU)
    assert _count(plan, "ground") == 2  # arms
    assert _count(plan, "train") == 2 * 2  # arms x seeds: one checkpoint feeds all targets
    # trained targets: 2 arms x 2 conditions x 2 targets x 2 seeds; retrieval: 2 arms x (none + 2 seeds);
    # pictures: the vision arm only
    assert _count(plan, "evaluate") == 16 + 6 + 3
    assert len(plan.cells) == 25


def test_retrieval_under_none_is_one_deterministic_run(small: Suite) -> None:
    cells = [c for c in make_plan(small, CPU).cells if c.task == "mini-retrieval" and c.condition == "none"]
    assert [c.seed for c in cells] == [-1, -1]


def test_targets_that_share_a_training_set_share_the_run(small: Suite) -> None:
    twin = replace(small.targets[0], name="twin", train_set="mini-inference")
    shared = replace(small, targets=(small.targets[0], twin))
    plan = make_plan(shared, CPU)
    assert _count(plan, "evaluate") == 8
    assert all(len(job.tasks) == 2 for job in plan.jobs.values() if job.type == "evaluate")


def test_jobs_follow_what_they_need(small: Suite) -> None:
    seen: set[str] = set()
    for key, job in make_plan(small, CPU).jobs.items():
        assert set(job.needs) <= seen
        seen.add(key)


def test_keys_depend_on_everything_that_determines_a_number(small: Suite) -> None:
    base = set(make_plan(small, CPU).jobs)
    work = {key for key, job in make_plan(small, CPU).jobs.items() if job.type != "describe"}

    def kept(suite: Suite, numerics: Numerics = CPU) -> set[str]:
        return set(make_plan(suite, numerics).jobs) & work

    assert set(make_plan(small, CPU).jobs) == base
    assert not kept(small, Numerics("cpu", "bf16"))
    assert not kept(small, Numerics("cpu", "fp32", threads=2))
    slower = replace(small, target=replace(small.target, encoder_lr=1e-4))
    assert {make_plan(slower, CPU).jobs[k].type for k in kept(slower)} == {"ground", "train", "evaluate"}
    assert not any(
        make_plan(slower, CPU).jobs[k].stage
        for k in kept(slower)
        if make_plan(slower, CPU).jobs[k].type == "evaluate"
    )
    newer = replace(small, targets=(replace(small.targets[0], version="99"), *small.targets[1:]))
    assert not any(make_plan(newer, CPU).jobs[k].tasks[:1] == newer.targets[:1] for k in kept(newer))
    grounded = {k: replace(v, steps=v.steps + 1) for k, v in small.grounding.items()}
    assert not kept(replace(small, grounding=grounded))


def test_adding_a_seed_or_a_condition_keeps_all_earlier_jobs(small: Suite) -> None:
    before = set(make_plan(small, CPU).jobs)
    assert before < set(make_plan(replace(small, seeds=(0, 1, 2)), CPU).jobs)
    more = {**small.conditions, "twice": small.conditions["inference"] * 2}
    assert before < set(make_plan(replace(small, conditions=more), CPU).jobs)


def test_schedules_list_all_arms(small: Suite) -> None:
    for arms in make_plan(small, CPU).schedules.values():
        assert set(arms) == {"muse/text", "muse/vision"}


def test_planning_a_hundred_thousand_jobs_takes_seconds(small: Suite) -> None:
    seeds = tuple(range(100_000 // 12))
    started = time.process_time()
    plan = make_plan(replace(small, seeds=seeds), CPU)
    assert len(plan.jobs) >= 100_000
    assert (
        time.process_time() - started < 15
    )  # the bar of 5 s is for an idle machine: tests/speed/planning.py


def test_plan_writes_nothing_and_prints_the_dag(tmp_path: Path) -> None:
    path = write_small(tmp_path)
    done = xtremex("plan", path, "--out", tmp_path / "runs", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "25 runs" in done.stdout and "train inference" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_numerics_refuse_what_they_do_not_know() -> None:
    with pytest.raises(Exception, match="unknown precision `fp8`"):
        numerics("cpu", "fp8")


def test_the_languages_of_a_target_count_also_where_the_task_is_an_intermediate_one_too(small: Suite) -> None:
    whole = small.targets[0]

    def keys(*languages: str) -> set[str]:
        conditions = {"none": (), "itself": (whole,)}
        targets = (replace(whole, languages=languages),)
        plan = make_plan(replace(small, targets=targets, conditions=conditions), CPU)
        return {key for key, job in plan.jobs.items() if job.type == "evaluate"}

    assert not keys("en", "de") & keys("en", "de", "fa")


SHARED = """
[tasks.mine]
kind = "classification"
files = "{split}.{language}.jsonl"
labels = ["yes", "no"]
languages = ["en"]
[tasks.follower]
kind = "classification"
files = { test = "other.{language}.jsonl" }
labels = ["yes", "no"]
languages = ["en", "de"]
train_set = "mine"
"""


def test_a_follower_trains_on_the_data_that_its_train_set_names(tmp_path: Path) -> None:
    for name in ("train.en", "dev.en", "test.en", "other.en", "other.de"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}", "label": "yes"}}\n')
    targets = '"mini-inference", "mini-entities", "mini-retrieval", "mini-pictures"'
    path = write_small(tmp_path, replace={targets: '"follower", "mine"', ', "fa"]': "]"}, append=SHARED)
    suite = load_suite(str(path))
    follower = suite.targets[0]
    texts = {
        split: follower.source.load(follower, split, language)[0].text
        for split, language in (("train", "en"), ("dev", "en"), ("test", "de"))
    }
    assert texts == {"train": "train.en", "dev": "dev.en", "test": "other.de"}
    before = make_plan(suite, CPU)
    assert all(len(job.tasks) == 2 for job in before.jobs.values() if job.type == "evaluate")
    (tmp_path / "train.en.jsonl").write_text('{"text": "changed", "label": "no"}\n')
    after = make_plan(load_suite(str(path)), CPU)
    assert not {k for k, j in before.jobs.items() if j.type == "evaluate"} & set(after.jobs)
    (tmp_path / "small.toml").write_text(
        path.read_text().replace('labels = ["yes", "no"]', 'labels = ["no", "yes"]', 1)
    )
    with pytest.raises(SuiteError, match="other labels"):
        load_suite(str(path))
