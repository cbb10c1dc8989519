"""The report: what it says, and that nothing in it can run or leave the page."""

from __future__ import annotations

import dataclasses
import html
import math
import re
from pathlib import Path

import pytest
from made_results import LANGUAGES, made_results
from report_pages import FIGURES, TABLES, Page

from xtremex.analysis import wording
from xtremex.analysis.methods import methods
from xtremex.analysis.outline import Outline
from xtremex.analysis.page import build
from xtremex.analysis.render import markdown_escape
from xtremex.analysis.report import write_report
from xtremex.analysis.results import Results
from xtremex.analysis.svg_parts import ticks


def test_page_opens_with_the_answer(report_folder: Path, report: Results) -> None:
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    answer, placebo = (wording.typeset(a.sentence) for a in report.answers)
    # numbers of the answer have the minus signs of the tables
    assert any("CI -" in a.sentence for a in report.answers) and "CI \N{MINUS SIGN}" in answer + placebo
    order = [words.index(x) for x in (answer, placebo, report.suite["suite"]["notice"], report.signature)]
    assert order == sorted(order)
    # only the title and the question stand before the answer
    assert words[: order[0]].split("Skip to the figures")[1].strip() == (
        "Mini Does intermediate-task training improve the zero-shot cross-lingual transfer of vision "
        "encoders more "
        "than that of text encoders?"
    )


def test_markdown_opens_with_the_answer(report_folder: Path, report: Results) -> None:
    lines = [line for line in (report_folder / "report.md").read_text(encoding="utf-8").splitlines() if line]
    assert lines[0].startswith("# Does intermediate-task training")
    for line, role, answer in zip(lines[1:], ("", "Placebo: "), report.answers, strict=False):
        rest = answer.sentence.removeprefix("Inconclusive.")
        assert len(rest) < len(answer.sentence)
        assert line == f"{role}**Inconclusive.**{markdown_escape(wording.typeset(rest))}"


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_every_estimate_with_verdict_interval_p_and_mde(
    report_folder: Path, report: Results, name: str
) -> None:
    source = (report_folder / name).read_text(encoding="utf-8")
    outline = Outline.of(report)
    if name == "report.html":
        rows = [
            [
                " ".join(re.sub("<[^>]+>", "", cell).split())
                for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)
            ]
            for row in re.findall("<tr[^>]*>(.*?)</tr>", source, re.S)
        ]
    else:
        rows = [
            [re.sub(r"\\|\*\*", "", cell).strip() for cell in line.strip("|").split("|")]
            for line in source.replace("&lt;", "<").splitlines()
            if line.startswith("|")
        ]
    for e in report.estimates:
        tail = [wording.points(e.value), wording.interval(e.low, e.high), wording.p_value(e.p)]
        tail += [wording.p_value(e.p_adjusted), wording.verdict(e.verdict), wording.number(e.mde)]
        if name == "report.html":
            tail = [x.replace("<", "&lt;") for x in tail]
        where = [
            "mean" if e.condition == "*" else e.condition,
            "mean" if e.target == "*" else outline.task(e.target) + outline.dagger(e.condition, e.target),
        ]
        grand = [e.contrast + (" (placebo)" if e.role == "placebo" else "")]
        head = grand if e.family == "grand" else where
        if e.family == "grand":  # the verdict beside the name
            head, tail = [*head, tail[4]], [*tail[:4], tail[5]]
        assert any(row[: len(head) + len(tail)] == head + tail for row in rows), e


def test_notes_name_tier_seeds_df_family_and_correction(report_folder: Path) -> None:
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    for said in (
        "MWV-t, tier T2; seeds 3; Welch-Satterthwaite df 5.0 to 7.0; family and correction: map: "
        "Benjamini-Hochberg over 9 tests",
        "targets: Holm over 3 tests; conditions: Holm over 3 tests",
        "grand: uncorrected (one test)",
    ):
        assert said in words


def test_every_table_with_a_p_value_says_what_it_rests_on(report: Results) -> None:
    """Tier, seeds, df and correction, in the note of each."""
    page, _ = build(Outline.of(report))
    tested = [
        t
        for section in page.sections
        for t in section.tables
        if any(re.match(r"p\b", column.title) for column in t.columns)
    ]
    assert {t.name for t in tested} >= {
        *("grand", "aggregates", "cells", "scale", "secondary", "replicability", "languages"),
        *("placebo_difference", "cell_languages", "failure_tests"),
    }
    for table in tested:
        assert re.search(r"\bdf\b", table.note), table.name
        assert re.search("adjusted|Holm|Benjamini", table.note), table.name
        if table.name != "failure_tests":
            rests = r"tier T2(, T3)?; seeds (3|2 to 3); Welch-Satterthwaite df \d+\.\d"
            assert re.search(rests, table.note), table.name
        # what belongs to no family has its own df in every row
        if table.name in ("scale", "languages", "cell_languages"):
            assert "df" in {column.title for column in table.columns}, table.name


def test_two_seeds_carry_no_verdict_and_the_note_says_so(report: Results) -> None:
    said = "Two seeds carry no verdict: such rows are inconclusive whatever their p."
    grand = next(e for e in report.estimates if e.family == "grand")
    assert said not in wording.test_note([grand])
    assert said in wording.test_note([grand, dataclasses.replace(grand, seeds=2)])
    assert said not in wording.test_note([dataclasses.replace(grand, seeds=2, p_unmoderated=0.2)])


@pytest.mark.parametrize(
    ("tier", "said", "unsaid"),
    [
        (
            "T0",
            "The variance is that of the test examples (from influence values), for these checkpoints.",
            "run term",
        ),
        (
            "T1",
            "The variance is the run term (variance over seeds). The reference",
            "shared test examples (from influence values)",
        ),
        (
            "T2",
            "the run term (variance over seeds) plus the term of the shared test examples",
            "and of the languages.",
        ),
        (
            "T3",
            "plus the terms of the shared test examples (from influence values) and of the languages.",
            "for these languages",
        ),
    ],
)
def test_methods_name_the_variance_of_their_tier(report: Results, tier: str, said: str, unsaid: str) -> None:
    estimates = tuple(dataclasses.replace(e, tier=tier) for e in report.estimates)
    [test] = [
        x
        for x in methods(Outline.of(dataclasses.replace(report, estimates=estimates)))
        if x.startswith("Test.")
    ]
    assert said in test and unsaid not in test


def test_tiers_of_what_stands_beside(report: Results) -> None:
    """Each has its own: single languages are fixed at T2 where the report itself is of T3, and may lack runs."""
    general = [dataclasses.replace(e, tier="T3", seeds=5, df_method="pooled") for e in report.estimates]
    outline = Outline.of(dataclasses.replace(report, estimates=tuple(general)))
    fixed, single = report.leave_out[0], report.sensitivity[0]
    said = wording.basis(outline, [fixed, single])
    assert said == "MWV-t, tier T2; seeds 2 to 3; pooled (one run variance for all cells) df 3.4 to 5.6"
    assert wording.basis(outline, [general[0], fixed]).startswith("MWV-t, tier T2, T3; seeds 3 to 5; pooled")
    # one arm has gains and no estimates: the kind of df is what the suite asks for
    suite = {**report.suite, "analysis": {"df": "pooled"}}
    alone = Outline.of(dataclasses.replace(report, estimates=(), suite=suite))
    assert "; pooled (one run variance" in wording.basis(alone, report.gains)
    assert "Welch-Satterthwaite df" in wording.basis(
        Outline.of(dataclasses.replace(report, estimates=())), report.gains
    )
    # the note of the estimates themselves keeps what they are
    assert wording.test_note(general[:2]).startswith(
        "Values in points (100 × metric). MWV-t, tier T3; seeds 5;"
    )


def test_runs_schedules_materials_and_methods_are_told(report_folder: Path, report: Results) -> None:
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    restarted = sum(r["attempt"] for r in report.suite["runs"])
    collapsed = sum(r["intermediate_collapsed"] for r in report.suite["runs"])
    assert restarted and collapsed
    for said in (
        f"{len(report.suite['runs'])} runs: {restarted} with a stage that needed a second attempt",
        f"(restart rule), {collapsed} with a collapsed one.",
        "mixture topic 0 0 0 intermediate 91.0",
        "All 9 schedules are equal over the arms",
        "0f0f0f0f0f0f",
        "One run of 48 ended at its second attempt.",
        "muse@grounded-vision",
        "compute time 7 min 0 s",
        "1 matched pair of encoders",
        "then scoring on 6 languages: the training language (en), 4 others and 1 that the encoder's pre-training did not "
        "cover (fa); all count alike",
        f"against a margin of {wording.margins(report.estimates)}, not adjusted for their number",
        "muse: one grounded checkpoint per arm",
        "best baseline 33.3 33.3 33.3",
    ):
        assert said in words, said


def test_unequal_schedules_and_exceptions_are_told(without_figures: None, tmp_path: Path) -> None:
    r = made_results()
    schedules = [dict(s, equal=False) if i == 0 else s for i, s in enumerate(r.suite["schedules"])]
    declared = [{"arm": "vision", "key": "encoder_lr", "value": 1e-4, "reason": "diverged at 3e-4"}]
    changed = dataclasses.replace(r, suite={**r.suite, "schedules": schedules, "exceptions": declared})
    write_report(changed, tmp_path)
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert "1 of 9 schedules differ between arms, as declared: intermediate:nli (seed 0)." in words
    assert "vision encoder_lr 0.0001 diverged at 3e-4" in words


def test_every_cell_of_the_map_has_its_tooltip(report_folder: Path, report: Results) -> None:
    source = (report_folder / "report.html").read_text(encoding="utf-8")
    titles = [html.unescape(title) for title in re.findall("<title>(.*?)</title>", source)]
    outline = Outline.of(report)
    for e in report.estimates:
        tip = wording.describe(outline, e)
        assert tip in titles
        for part in (wording.interval(e.low, e.high), wording.verdict(e.verdict), "T2", "3 seeds"):
            assert part in tip
    for code, (name, _) in LANGUAGES.items():
        assert any(title.startswith(f"{name} ({code}), vision-text") for title in titles)


def test_page_is_accessible(report_folder: Path) -> None:
    page = Page((report_folder / "report.html").read_text(encoding="utf-8"))
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    drawings = page.of("svg")
    assert len(drawings) == 9 and all(len(a["aria-label"] or "") > 20 for a in drawings)
    assert len(page.of("caption")) == len(page.of("table")) > 8
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.of("th"))
    marks = [a for a in page.of("g") if "hit" in (a.get("class") or "")]
    assert len(marks) > 80 and all(a["tabindex"] == "0" for a in marks)
    assert page.of("html")[0]["lang"] == "en"
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.of("a")} <= set(ids)


@pytest.mark.parametrize("which", ["report_folder", "hostile_folder"])
def test_page_asks_for_nothing_outside_itself(which: str, request: pytest.FixtureRequest) -> None:
    source = (request.getfixturevalue(which) / "report.html").read_text(encoding="utf-8")
    page = Page(source)
    for tag, attributes in page.tags:
        for key in ("src", "srcset", "href", "xlink:href", "data", "action", "poster"):
            value = attributes.get(key) or ""
            assert value == "" or value.startswith("#") or (tag == "link" and value == "data:,"), (
                tag,
                key,
                value,
            )
        assert not [key for key in attributes if key.startswith("on")]
    assert "@import" not in source and "url(" not in source and "fetch(" not in source
    policy = [a["content"] for a in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy and (policy[0] or "").startswith("default-src 'none'")


def test_hostile_names_stay_text_in_html(hostile_folder: Path) -> None:
    page = Page((hostile_folder / "report.html").read_text(encoding="utf-8"))
    assert len(page.of("script")) == 1 and not page.of("img") and not page.of("b")
    words = page.words()
    for said in (
        "<script>alert(1)</script>&_%",
        "<img src=x onerror=alert(1)>",
        "[Türkçe]",
        'n<l>i&"_%$#{}~^',
    ):
        assert said in words


def test_hostile_names_stay_text_in_markdown(hostile_folder: Path) -> None:
    source = (hostile_folder / "report.md").read_text(encoding="utf-8")
    # inside a code span nothing is markup
    without = re.sub("</?(details|summary)>|`[^`\\n]*`", "", source)
    assert "<" not in without
    assert "https://" not in source and "http://" not in source
    tables = re.findall(r"(?:^\|.*\n)+", source, re.M)
    assert len(tables) > 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


def _links_have_their_places(folder: Path) -> None:
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    places = {attributes.get("id") for _, attributes in page.tags}
    links = [a["href"] or "" for a in page.of("a")]
    assert len(links) > 3 and {link[1:] for link in links if link.startswith("#")} <= places


def test_links_of_the_page_have_their_places(report_folder: Path) -> None:
    _links_have_their_places(report_folder)


def test_one_arm_answers_with_gains(tmp_path: Path) -> None:
    r = made_results(arms=("text",))
    write_report(r, tmp_path)
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert (
        "Does intermediate-task training improve zero-shot cross-lingual transfer? " + r.answers[0].sentence
        in words
    )
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"gains"}
    _links_have_their_places(tmp_path)
    assert {p.stem for p in (tmp_path / "tables").iterdir()} == {"conditions", "failures", "gains", "scores"}


def test_missing_pieces_and_numbers_do_not_stop_the_report(without_figures: None, tmp_path: Path) -> None:
    r = made_results(arms=("text", "vision"))
    bare = {"format": 1, "suite": {"name": "x"}}
    nothing = {
        "p": None,
        "p_adjusted": None,
        "p_equivalence": None,
        "low": math.nan,
        "high": math.nan,
        "df": math.inf,
    }
    silent = tuple(
        dataclasses.replace(
            e, **nothing, mde=math.inf, se=0.0, variance_shares={"run": math.nan, "examples": 0.0}
        )
        for e in r.estimates
    )
    answers = tuple(dataclasses.replace(a, estimate=silent[-1]) for a in r.answers)
    write_report(
        dataclasses.replace(
            r, suite=bare, answers=answers, estimates=silent, retention=(), languages=(), warnings=()
        ),
        tmp_path,
    )
    words = Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert "nan" not in words.lower() and " inf " not in words
    assert "p = n/a" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The outcomes list no runs." in words and "The outcomes carry no schedule fingerprints." in words
    assert "Retention" not in words and not (tmp_path / "tables" / "retention.tex").exists()


def test_several_pairs_get_files_of_their_own(without_figures: None, tmp_path: Path) -> None:
    write_report(made_results(pairs=("large", "base/2")), tmp_path)
    names = {p.stem for p in (tmp_path / "tables").iterdir()}
    assert names == set(TABLES) | {f"{n}-base_2" for n in TABLES if n not in ("conditions", "grand")}
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.headings.count(3) == 2 * len(FIGURES)
    grand = (tmp_path / "tables" / "grand.tex").read_text(encoding="utf-8")
    assert "textit{large}" in grand and "textit{base/2}" in grand


def test_numbers_as_they_are_written() -> None:
    assert (
        wording.points(-0.004) == "0.00"
        and wording.points(-1.005, 1) == "−1.0"
        and wording.points(2.0) == "+2.00"
    )
    assert wording.interval(-1, 2.25, 1) == "[−1.0, 2.2]" and wording.interval(math.nan, 1) == "n/a"
    assert [wording.p_value(p) for p in (0.0004, 0.0421, 0.9999, None)] == ["<.001", ".042", "1.000", "n/a"]
    assert wording.duration(59.6) == "1 min 0 s" and wording.duration(7300) == "2 h 1 min"
    assert wording.size(123456789) == "123 MB" and wording.span([3, 3.0]) == "3" and wording.span([]) == "n/a"


def test_intervals_that_exclude_zero_do_not_print_it() -> None:
    assert wording.bounds(0.03, 1.84) == "[0.03, 1.8]"
    assert wording.bounds(-0.0004, 9.96) == "[0.0, 10.0]"
    assert wording.bounds(-2.06, -0.049) == "[−2.1, −0.05]"
    assert wording.bounds(-0.004, 0.0) == "[−0.004, 0.0]"
    assert wording.bounds(-1.0, math.inf) == wording.bounds(None, 1.0) == "n/a"


def test_sentences_for_terminals_get_minus_signs() -> None:
    assert wording.typeset("-1.5 to [-.2, -3) (-0.08, df 6)") == "−1.5 to [−.2, −3) (−0.08, df 6)"
    for untouched in ("cross-lingual", "vision-2", "2026-01-02", "a - 1", "1e-3", "mini-x.v-1"):
        assert wording.typeset(untouched) == untouched


def test_one_cell_is_no_cells(without_figures: None, tmp_path: Path) -> None:
    write_report(made_results(conditions=("nli",), targets=("mini-topic",)), tmp_path)
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "vision-text: of 1 cell 1 " in source
    # means are no conditions and no targets
    assert "1 intermediate condition (rows) by 1 target (columns), and their means" in source


def test_ticks_are_round_and_inside() -> None:
    assert ticks(-2.2, 2.2) == [-2, -1, 0, 1, 2]
    for low, high in ((-0.013, 0.4), (3, 97), (-1e-9, 1e-9)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 8 and low <= found[0] and found[-1] <= high
