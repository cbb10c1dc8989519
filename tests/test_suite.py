"""Suites: bad input is answered by one error naming file, key and neighbours, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_suite import write_small, xtremex

from xtremex.benchmark.environment import numerics
from xtremex.benchmark.plan import make_plan
from xtremex.benchmark.suite import builtin_suites, load_suite
from xtremex.errors import SuiteError, UnknownName, XtremexError


@pytest.mark.parametrize("name", sorted(builtin_suites()))
def test_every_shipped_suite_loads_and_plans(name: str) -> None:
    plan = make_plan(load_suite(name), numerics("cpu", "fp32"))
    assert plan.jobs and plan.cells


PAIR = '[[pairs]]\nname = "muse"\n[pairs.arms]\nthird = { backbone = "muse" }\n\n'
MISTAKES = {
    "an unknown key": ({"seeds = [0, 1]": "seed = [0, 1]"}, ["unknown key `seed`", "`seeds`"]),
    "an unknown stage key": ({"head_lr = 5e-3": "haed_lr = 5e-3"}, ["unknown key `haed_lr`", "`head_lr`"]),
    "an unknown grounding key": (
        {"[grounding]\nsteps = 2": "[grounding]\nstep = 2"},
        ["grounding", "`step`", "`steps`"],
    ),
    "an unknown target": (
        {'"mini-entities"': '"mini-entitys"'},
        ["targets", "unknown task `mini-entitys`", "`mini-entities`"],
    ),
    "an unknown intermediate task": (
        {'["mini-quantity"]': '["mini-qantity"]'},
        ["conditions.inference", "`mini-quantity`"],
    ),
    "an unknown backbone": (
        {'text = { backbone = "muse"': 'text = { backbone = "mouse"'},
        ["pairs.muse.arms.text.backbone", "unknown backbone `mouse`", "`muse`"],
    ),
    "an unknown objective": ({'grounding = "vision"': 'grounding = "visoin"'}, ["visoin", "vision"]),
    "a target as intermediate": ({'["mini-quantity"]': '["mini-topic"]'}, ["cannot serve as intermediate"]),
    "a wrong type": ({"batch_size = 8": 'batch_size = "8"'}, ["grounding.batch_size", "expected int"]),
    "no seeds": ({"seeds = [0, 1]": "seeds = []"}, ["`seeds` is empty"]),
    "a seed twice": ({"seeds = [0, 1]": "seeds = [1, 1]"}, ["twice"]),
    "broken TOML": ({"[conditions]": "[conditions"}, ["not valid TOML"]),
    "no steps": ({"steps = 3": "steps = 0"}, ["steps", "at least 1"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_file_key_and_neighbours(mistake: str, tmp_path: Path) -> None:
    replace, expected = MISTAKES[mistake]
    path = write_small(tmp_path, replace=replace)
    with pytest.raises(XtremexError) as caught:
        make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    said = str(caught.value)
    for part in [str(path), *expected]:
        assert part in said, said


def test_an_unknown_adapter_is_named(tmp_path: Path) -> None:
    path = write_small(
        tmp_path,
        replace={'text = { backbone = "muse"': 'text = { backbone = "mine"'},
        append='\n[backbones.mine]\nadapter = "hugingface"\ncheckpoint = "x"\n',
    )
    with pytest.raises(XtremexError) as caught:
        make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    assert (
        "hugingface" in str(caught.value)
        and "`huggingface`" in str(caught.value)
        and str(path) in str(caught.value)
    )


def test_the_command_line_answers_a_mistake_with_two_lines_and_writes_nothing(tmp_path: Path) -> None:
    path = write_small(tmp_path, replace={'"mini-entities"': '"mini-entitys"'})
    done = xtremex("run", path, "--out", tmp_path / "runs")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "\nhint: did you mean `mini-entities`" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "runs").exists()


def test_an_unknown_suite_lists_the_shipped_ones() -> None:
    with pytest.raises(UnknownName, match="unknown suite `minni`") as caught:
        load_suite("minni")
    assert "`mini`" in caught.value.hint


def test_one_arm_with_another_hyper_parameter_is_refused(tmp_path: Path) -> None:
    other = {'grounding = "vision" }': 'grounding = "vision", target = { encoder_lr = 1e-3 } }'}
    path = write_small(tmp_path, replace=other)
    with pytest.raises(SuiteError, match="departs from the common schedule") as caught:
        make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    assert 'key = "target.encoder_lr"' in caught.value.hint


def test_a_declared_exception_is_accepted(tmp_path: Path) -> None:
    path = write_small(
        tmp_path,
        replace={'grounding = "vision" }': 'grounding = "vision", target = { encoder_lr = 1e-3 } }'},
        append='\n[[exceptions]]\narm = "vision"\nkey = "target.encoder_lr"\nreason = "a test"\n',
    )
    plan = make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    rates = {job.stage.encoder_lr for job in plan.jobs.values() if job.type == "evaluate" and job.stage}
    assert rates == {3e-4, 1e-3}


def test_an_exception_needs_a_reason(tmp_path: Path) -> None:
    path = write_small(
        tmp_path, append='\n[[exceptions]]\narm = "vision"\nkey = "target.steps"\nreason = " "\n'
    )
    with pytest.raises(SuiteError, match="gives no reason"):
        load_suite(str(path))


MORE = {
    "a pair name twice": ({"[[pairs]]": PAIR + "[[pairs]]"}, ["`pairs` names something twice"]),
    "an exception for no key of a stage": (
        {"[conditions]": '[[exceptions]]\narm = "text"\nkey = "grounding.steps"\nreason = "x"\n[conditions]'},
        ["exceptions", "`grounding.steps`", "target.steps"],
    ),
    "a language that no target has": (
        {'languages = ["en", ': 'languages = ["eng", '},
        ["unknown language `eng`"],
    ),
    "targets without any language": (
        {'languages = ["en", "de", "fa"]': 'languages = ["en"]'},
        ["`mini-retrieval` without any"],
    ),
    "no condition": ({'inference = ["mini-quantity"]': ""}, ["`conditions` holds no intermediate task"]),
    "retention only": (
        {'"mini-inference", "mini-entities", "mini-retrieval", ': ""},
        ["only retention targets"],
    ),
    "a margin of nothing": (
        {"[conditions]": "[analysis]\nmargin_task = 0\n[conditions]"},
        ["analysis.margin_task"],
    ),
    "a seed too large": ({"seeds = [0, 1]": "seeds = [4000000000]"}, ["seeds are whole numbers"]),
    "a task's stage without steps": (
        {"[conditions]": "[per_task.mini-entities]\nsteps = 0\n[conditions]"},
        ["steps"],
    ),
    "no temperature": ({"[target]": "[target]\ntemperature = 0"}, ["temperature must be above 0"]),
    "a branch for a revision": (
        {
            '{ backbone = "muse", grounding = "text" }': '{ backbone = "xlm-roberta-base@main" }',
        },
        ["revision `main`, which can move"],
    ),
}


@pytest.mark.parametrize("mistake", MORE)
def test_what_would_only_show_after_the_compute_is_refused_before(mistake: str, tmp_path: Path) -> None:
    replace, expected = MORE[mistake]
    path = write_small(tmp_path, replace=replace)
    with pytest.raises(XtremexError) as caught:
        make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    for part in [str(path), *expected]:
        assert part in str(caught.value), str(caught.value)


def test_an_override_that_equals_the_common_stage_is_refused_where_a_task_has_its_own(tmp_path: Path) -> None:
    path = write_small(
        tmp_path,
        replace={
            'grounding = "vision" }': 'grounding = "vision", target = { batch_size = 4 } }',
            "[conditions]": "[per_task.mini-entities]\nbatch_size = 2\n\n[conditions]",
        },
    )
    with pytest.raises(SuiteError, match="departs from the common schedule"):
        make_plan(load_suite(str(path)), numerics("cpu", "fp32"))


def test_a_pinned_backbone_of_the_catalogue_is_found(tmp_path: Path) -> None:
    pinned = f'{{ backbone = "xlm-roberta-base@{"0123456789" * 4}" }}'
    path = write_small(tmp_path, replace={'{ backbone = "muse", grounding = "text" }': pinned})
    suite = load_suite(str(path))
    assert suite.backbones[f"xlm-roberta-base@{'0123456789' * 4}"].revision == "0123456789" * 4


def test_a_task_left_out_takes_what_depends_on_it_along(tmp_path: Path) -> None:
    path = write_small(
        tmp_path,
        replace={
            'inference = ["mini-quantity"]': 'inference = ["mini-quantity"]\nmixed = ["mini-quantity", "mini-terms"]\n'
            'tags = ["mini-terms"]\n[per_task.mini-terms]\nbatch_size = 2'
        },
    )
    whole, part = load_suite(str(path)), load_suite(str(path), without=["mini-terms", "mini-entities"])
    assert [task.name for task in part.targets] == ["mini-inference", "mini-retrieval", "mini-pictures"]
    assert {name: [t.name for t in members] for name, members in part.conditions.items()} == {
        "none": [],
        "inference": ["mini-quantity"],
        "mixed": ["mini-quantity"],
    }
    assert part.digest != whole.digest and "without mini-terms, mini-entities" in part.title
    with pytest.raises(UnknownName, match="mini-termz"):
        load_suite(str(path), without=["mini-termz"])


def test_an_override_changes_the_task_and_its_jobs_and_no_others(tmp_path: Path) -> None:
    path = write_small(tmp_path)
    plain = make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    path = write_small(tmp_path, append="\n[overrides.mini-entities]\nmax_length = 24\n")
    shorter = make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
    assert {t.name: t.max_length for t in shorter.suite.targets}["mini-entities"] == 24
    changed = {shorter.jobs[key].label for key in set(shorter.jobs) - set(plain.jobs)}
    assert changed == {"read mini-entities", "evaluate mini-entities"}


def test_targets_that_share_a_run_agree_on_it(tmp_path: Path) -> None:
    text = builtin_suites()["replication"].read_text(encoding="utf-8")
    path = tmp_path / "replication.toml"
    for old, new, odd in (
        ("[per_task.mlqa]\nbatch_size = 16\n", "", "batch_size"),
        ("[per_task.mlqa]\nbatch_size = 16\n", "[per_task.mlqa]\nepochs = 3\nbatch_size = 16\n", "epochs"),
        ("[overrides.xnli]", "[overrides.mlqa]\nmax_length = 512\n[overrides.xnli]", "max_length"),
    ):
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(SuiteError, match="`xquad` and `mlqa` share one training run") as caught:
            make_plan(load_suite(str(path)), numerics("cpu", "fp32"))
        assert odd in str(caught.value)
    without = make_plan(load_suite("replication", without=["xquad"]), numerics("cpu", "fp32"))
    (stage,) = {job.stage for job in without.jobs.values() if job.label == "evaluate mlqa"}
    assert stage is not None and stage.batch_size == 16


def test_whole_and_decimal_numbers_are_one_address(tmp_path: Path) -> None:
    plans = []
    for number in ("3", "3.0"):
        append = f"\n[per_task.mini-entities]\nepochs = {number}\n[per_task.mini-quantity]\nclip = {number}\n"
        plans.append(
            make_plan(load_suite(str(write_small(tmp_path, append=append))), numerics("cpu", "fp32"))
        )
    assert set(plans[0].jobs) == set(plans[1].jobs)


def test_the_two_real_suites_share_their_common_jobs() -> None:
    one, other = (
        make_plan(load_suite(name), numerics("cpu", "fp32")) for name in ("replication", "xtreme-x")
    )
    trained = {key for key, job in one.jobs.items() if job.type == "train"}
    assert trained <= set(other.jobs)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[[contamination]]\nintermediate = "mini-quantity"\nnote = "x"', "`target` is missing"),
        (
            '[[contamination]]\nintermediate = "mini-quantity"\ntarget = "nope"\nnote = "x"',
            "unknown target `nope`",
        ),
        (
            '[[expected]]\ntask = "overall"\nmetric = "mean"\nvalue = 1\nsource = "x"\n' * 2,
            "twice under the label `published`",
        ),
        ("[overrides.mini-entitys]\nmax_length = 24", "unknown task `mini-entitys`"),
        ("[overrides.mini-entities]\nmax_length = -1", "must not be negative"),
        ('[overrides.mini-entities]\noptions = { viws = "all" }', "viws"),
        (
            '[[expected]]\ntask = "xnli"\nmetric = "accuracy"\nvalue = 79.2\nsource = "x"',
            "unknown target `xnli`",
        ),
        (
            '[[expected]]\ntask = "mini-entities"\nmetric = "f1"\nvalue = 1\nsource = "x"\ncondition = "mnli"',
            "unknown condition `mnli`",
        ),
    ],
)
def test_overrides_and_expected_scores_name_what_exists(table: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(XtremexError) as caught:
        load_suite(str(write_small(tmp_path, append=f"\n{table}\n")))
    assert said in str(caught.value)


def test_what_determines_scores_is_told_from_what_does_not(tmp_path: Path) -> None:
    """A registration holds the set-up: notes and titles may change after it, encoders and data may not."""

    def setup(replace: dict[str, str] | None = None, append: str = "") -> str:
        return load_suite(str(write_small(tmp_path, replace=replace, append=append))).setup

    plain = setup()
    assert setup({"For tests only.": "Other words."}, "# a remark\n") == plain
    # what a registered design spells out is compared there
    assert setup({"seeds = [0, 1]": "seeds = [0, 1, 2]"}, "[analysis]\nmargin_task = 2.0\n") == plain
    for changed, added in (
        ({"[grounding]\nsteps = 2": "[grounding]\nsteps = 3"}, ""),
        ({'{ backbone = "muse", grounding = "text" }': '{ backbone = "muse" }'}, ""),
        (None, "[overrides.mini-inference]\nmax_length = 32\n"),
        ({'name = "muse"\n[pairs.arms]': 'name = "muse"\npolicy = { dropout = 0.1 }\n[pairs.arms]'}, ""),
    ):
        assert setup(changed, added) != plain, (changed, added)
