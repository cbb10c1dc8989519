"""What the report says of tasks, training and its own words; its first lines; what a phone sees."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from made_results import made_results
from report_pages import Page

from xtremex.analysis import methods_setup, svg, task_tables
from xtremex.analysis import wording as w
from xtremex.analysis.bibliography import REFERENCES
from xtremex.analysis.methods import methods
from xtremex.analysis.outline import Outline
from xtremex.analysis.page import Opening
from xtremex.analysis.panels import plots
from xtremex.analysis.report import write_report
from xtremex.analysis.results import Answer, Results
from xtremex.analysis.secondary_tables import secondary
from xtremex.analysis.tables import Table, mean_digits
from xtremex.analysis.words import words
from xtremex.benchmark import jobs, training


def cells(table: Table) -> list[list[str]]:
    return [[c.text for c in r.cells] for b in table.blocks for r in b.rows]


def outline_of(**changed: Any) -> Outline:
    r = made_results()
    return Outline.of(dataclasses.replace(r, suite={**r.suite, **changed}))


def test_conditions_are_mapped_to_tasks_and_settings() -> None:
    outline = outline_of()
    assert cells(task_tables.conditions(outline)) == [
        ["nli", "Does nli follow?", "mini-nli", "classification", "300", "32", "16", "0.0003, 0.003"],
        ["tags", "Does tags follow?", "mini-tags", "classification", "300", "32", "16", "0.0003, 0.003"],
        [
            *("mixture", "the task of each step is drawn in proportion to its size", "mini-nli, mini-tags"),
            *("mixture", "600", "32", "16", "0.0003, 0.003"),
        ],
    ]
    assert cells(task_tables.conditions_paper(outline))[-1][:4] == ["mixture", "2 tasks", "mixture", "600"]


def test_settings_of_one_task_and_of_tasks_in_mixtures_only() -> None:
    suite = made_results().suite
    stages = suite["stages"] | {"per_task": {"mini-nli": {"epochs": 2.0, "batch_size": 8}}}
    stages["intermediate"] = stages["intermediate"] | {
        "limit": 100, "sampling": "temperature", "temperature": 2.0, "cap": 50,
    }  # fmt: skip
    conditions = [c for c in suite["conditions"] if c["name"] != "tags"]
    r = made_results(conditions=("nli", "mixture"))
    both = {**suite, "stages": stages, "conditions": conditions}
    table = cells(task_tables.conditions(Outline.of(dataclasses.replace(r, suite=both))))
    # the task's own length replaces the stage's, in its unit; the limit holds per task
    assert table[0][4:] == ["100 of 300", "2 epochs", "8", "0.0003, 0.003"]
    assert "to the power 1/2, counted up to 50" in table[1][1] and table[1][4:6] == ["200 of 600", "32"]
    # of the mixture's tasks, the one without a condition of its own
    assert [line[:4] for line in table[2:]] == [
        ["in mixture", "Does tags follow?", "mini-tags", "classification"]
    ]


def test_records_without_sizes_and_stages_still_make_tables() -> None:
    suite = made_results().suite
    tasks = [{k: v for k, v in t.items() if k != "train_examples"} for t in suite["intermediate_tasks"]]
    table = task_tables.conditions(outline_of(intermediate_tasks=tasks, stages={}))
    assert "Train" not in [c.title for c in table.columns] and "Train" not in table.note
    assert cells(table)[0] == [
        "nli",
        "Does nli follow?",
        "mini-nli",
        "classification",
        "n/a",
        "n/a",
        "n/a, n/a",
    ]
    # nothing known of tasks: no table, no paragraph
    bare = outline_of(intermediate_tasks=[], conditions=[{"name": c, "tasks": []} for c in ("none", "nli")])
    assert not task_tables.conditions(bare)
    assert not any(x.startswith("Tasks and data.") for x in methods(bare))


def test_targets_and_data_of_tasks() -> None:
    suite = made_results().suite
    targets: list[dict[str, Any]] = [
        dict(t, description="Which?", train_examples=90, revision="f" * 40) for t in suite["targets"]
    ]
    line = {"seed": 0, "fingerprint": "0", "arms": [], "equal": True}
    trained = [{**line, "stage": f"target:{targets[0]['task']}"}]
    outline = outline_of(targets=targets, schedules=trained)
    first, second, *_, last = cells(task_tables.targets(outline))
    assert first[1:] == ["Which?", "classification", "accuracy", "6", "60", "90", "30", "12", "0.0004, 0.003"]
    assert second[-4:] == ["–"] * 4 and last[0].endswith("(retention)")
    data = {row[0]: row[1:] for row in cells(task_tables.data(outline))}
    assert data[targets[0]["task"]][0] == "target" and data["mini-tags"][:3] == [
        "intermediate",
        "1",
        "c0ffeec0ffee",
    ]


def test_the_rule_of_failure_is_that_of_training() -> None:
    assert methods_setup.COLLAPSE_MARGIN == training.COLLAPSE_MARGIN
    assert methods_setup.MAX_ATTEMPTS == jobs.MAX_ATTEMPTS == 2
    [said] = [x for x in methods(outline_of()) if x.startswith("Failed runs.")]
    assert "not more than 1 point above the best rule without a model" in said and "run once more" in said
    before = [
        {"attempt": 1, "collapsed": False},
        {"attempt": 1, "collapsed": True},
        {"attempt": 0, "collapsed": False},
    ]
    [said] = [x for x in methods(outline_of(intermediate_runs=before)) if x.startswith("Failed runs.")]
    assert "Of 3 intermediate trainings, 2 were run again and 1 kept although failed." in said


def test_methods_count_runs_that_add_up_and_name_what_a_seed_sets() -> None:
    suite = made_results().suite
    retained = [dict(r, task="mini-pictures") for r in suite["runs"][:5]]
    [design] = [x for x in methods(outline_of(runs=[*suite["runs"], *retained])) if x.startswith("Design.")]
    assert f"({len(suite['runs'])} runs on the targets and 5 of image-text retrieval)" in design
    assert "heads, data order and dropout of" in design
    still = {name: dict(b, dropout=0.0) for name, b in suite["backbones"].items()}
    [design] = [x for x in methods(outline_of(backbones=still)) if x.startswith("Design.")]
    assert "heads and data order (dropout is 0)" in design


def test_encoders_are_cited_where_they_are_used() -> None:
    paragraphs = methods(outline_of())
    assert any("yang2020" in x for x in paragraphs) and "yang2020" in REFERENCES
    other = {name: dict(b, family="xlm-r") for name, b in made_results().suite["backbones"].items()}
    assert not any("yang2020" in x for x in methods(outline_of(backbones=other)))


def test_negative_terms_of_the_examples_are_counted() -> None:
    r = made_results()
    cut = [dataclasses.replace(e, variance_shares={"run": 1.0, "examples": 0.0}) for e in r.estimates]
    kept = [dataclasses.replace(e, variance_shares={"run": 0.5, "examples": 0.5}) for e in r.estimates]
    cells = sum(e.family == "map" for e in r.estimates)
    for some, count in ((cut, cells), (kept, 0)):
        [test] = [
            x
            for x in methods(Outline.of(dataclasses.replace(r, estimates=tuple(some))))
            if x.startswith("Test.")
        ]
        assert f"(here in {count} of {cells} cells of the map)" in test


def test_margins_stand_with_what_they_apply_to() -> None:
    r = made_results()
    mixed = [
        dataclasses.replace(e, margin=0.5 if e.target == "*" else 1.0, verdict="equivalent")
        for e in r.estimates
    ]
    both = "±1 point for effects on one target, ±0.5 points for means over targets"
    assert w.margins(mixed) == both
    assert w.margins([e for e in mixed if e.target == "*"]) == "±0.5 points for means over targets"
    [(name, meaning)] = w.meanings(mixed)
    assert name == "equivalent" and meaning.endswith(f"not adjusted for their number): {both}")
    assert f"not adjusted, margin {both}." in w.test_note(mixed)
    assert "MDE" in w.test_note(mixed) and "MDE" not in w.test_note(mixed, mde=False)


def test_a_mean_is_not_rounded_away() -> None:
    assert [mean_digits(*x) for x in (("nli", "topic"), ("*", "topic"), ("nli", "*"), ("*", "*"))] == [
        1,
        2,
        2,
        2,
    ]
    figure = next(f for f in plots(Outline.of(made_results())) if f.name == "effect_map")
    inner, corner = figure.plots[0].cells[0][0].text, figure.plots[0].cells[-1][-1].text  # type: ignore[union-attr]
    assert re.fullmatch(r"[+−]?\d+\.\d†?", inner) and re.fullmatch(r"[+−]?\d+\.\d\d", corner)


def test_the_map_says_what_its_colours_do_not() -> None:
    figure = next(f for f in plots(Outline.of(made_results())) if f.name == "effect_map")
    assert "Colour is the estimate, not its certainty." in figure.caption
    assert "no independent confirmations" in figure.caption and "what was trained on" in figure.caption


def test_words_are_those_that_occur() -> None:
    names = [name for name, _ in words(["The MDE at tier T2."])]
    assert names == ["tier", "MDE, detectable effect"]
    assert words(["nothing"]) == ()


def test_the_page_explains_its_words(report_folder: Path, report: Results) -> None:
    page = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    told = page.split("Words of this report")[1].split("Signature")[0]
    for word in ("tier", "MWV-t", "moderated", "placebo", "equivalent, TOST"):
        assert f"{word} " in told
    # a word that this report does not have
    assert "ladder, dose" not in told
    assert "The placebo is an arm made like the vision-language arm" in page


@pytest.mark.parametrize(
    ("sentence", "lead", "parts"),
    [
        (
            "Inconclusive. Averaged. Inconclusive.",
            "Inconclusive",
            ("", "Inconclusive.", " Averaged. Inconclusive."),
        ),
        ("a: Different. It did.", "Different", ("a: ", "Different.", " It did.")),
        ("No answer for x.", "", ("", "", "No answer for x.")),
    ],
)
def test_the_verdict_opens_the_answer(sentence: str, lead: str, parts: tuple[str, str, str]) -> None:
    opening = Opening.of(Answer(sentence, None, "primary", lead))
    assert (opening.before, opening.lead, opening.rest) == parts


def test_a_phone_sees_every_arm_of_the_retention() -> None:
    outline = Outline.of(made_results())
    [figure] = [f for f in plots(outline) if f.name == "retention"]
    for plot in figure.plots:
        width = re.search(r"min-width:(\d+)px", svg.draw(plot))
        # a phone of 390 pixels has 358 beside the margins of the page
        assert width is not None and int(width[1]) <= 358


def test_the_verdict_stands_beside_the_name(report_folder: Path) -> None:
    source = (report_folder / "report.html").read_text(encoding="utf-8")
    [table] = re.findall(r"<table[^>]*>\s*<caption[^>]*><span>The answer:.*?</table>", source, re.S)
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', table)[:2] == ["Contrast", "Verdict"]


def test_pages_numbers_have_the_dash_of_print() -> None:
    assert "34(1–2): 28–35" in REFERENCES["welch1947"].words and "{1--2}" in REFERENCES["welch1947"].entry


def test_a_report_without_contrasts_has_words_and_no_placebo(without_figures: None, tmp_path: Path) -> None:
    write_report(made_results(arms=("text",)), tmp_path)
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert "Words of this report" in page and "The placebo is" not in page


def test_languages_that_are_left_out_are_named() -> None:
    r = made_results()
    first = next(x for x in r.leave_out if x.role == "primary")
    left = (
        dataclasses.replace(first, family="", left_out=("en",), what="source"),
        dataclasses.replace(first, family="", left_out=("fa",), what="untrained"),
        first,
    )
    outline = Outline.of(dataclasses.replace(r, leave_out=left))
    table = secondary(outline)
    shown = {(c.text, c.sub) for b in table.blocks for line in b.rows for c in line.cells[:1]}
    assert {("no source", "[en]"), ("no controls", "[fa]")} <= shown
    assert (
        "Source: the language of training. Controls: languages that pre-training did not cover." in table.note
    )
    [beside] = [x for x in methods(outline) if x.startswith("Sensitivity")]
    said = "without the training language, without the languages outside pre-training, without each family"
    assert said in beside
