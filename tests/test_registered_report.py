"""Registered and exploratory in every form of the report: map, PDF, tables, LaTeX, words."""

import re
from dataclasses import replace

import pytest
from demo_outcomes import write_demo
from made_results import made_results

from xtremex.analysis import svg
from xtremex.analysis.effects import effects
from xtremex.analysis.latex import latex_table
from xtremex.analysis.outcomes import read_record
from xtremex.analysis.outline import Outline
from xtremex.analysis.panels import plots
from xtremex.analysis.registered import confirmatory
from xtremex.analysis.tables import ITALICS, effects_map, grand
from xtremex.analysis.tables import effects as effects_table


def all_of(results, status):
    def given(e):
        return None if e is None else replace(e, status=status)

    return replace(
        results,
        estimates=tuple(map(given, results.estimates)),
        further=tuple(map(given, results.further)),
        answers=tuple(replace(answer, estimate=given(answer.estimate)) for answer in results.answers),
    )


def the_map(results):
    return next(f for f in plots(Outline.of(results)) if f.name == "effect_map")


def cells_of(figure):
    """(words, whether in italics) of every square that is drawn."""
    found = []
    for plot in figure.plots:
        for group in re.findall(r'<g class="hit".*?</g>(?:</g>)?', str(svg.draw(plot))):
            words = re.search(r'<text[^>]*class="value[^>]*>([^<]*)<', group)
            found.append((words.group(1), 'font-style="italic"' in group))
    return found


def test_the_map_sets_exploratory_numbers_apart():
    results = made_results()
    status = {"confirmatory": 0, "exploratory": 0}
    for e in results.estimates:
        status[e.status] += 1
    figure = the_map(results)
    italics = [italic for _, italic in cells_of(figure)]
    assert italics.count(True) == status["exploratory"] > 0
    assert italics.count(False) == status["confirmatory"] > 0
    tips = " ".join(cell.tip for plot in figure.plots for row in plot.cells for cell in row)
    assert tips.count("; confirmatory") == status["confirmatory"]
    for plot in figure.plots:  # what is registered stands in the corner and the column of means
        assert not plot.cells[-1][-1].italic and plot.cells[0][0].italic
    assert ITALICS in figure.caption and "not registered" not in figure.caption


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("unregistered", "Not preregistered."),
        ("exploratory", "All exploratory: not registered."),
        ("confirmatory", ""),
    ],
)
def test_captions_and_notes_say_what_is_there(status, said):
    results = all_of(made_results(), status)
    outline = Outline.of(results)
    figure = the_map(results)
    tables = [grand(outline), effects_map(outline), effects_table(outline, {"map"}, "cells", "", fold=True)]
    for words in (figure.caption, *(t.note for t in tables)):
        assert (said in words) and "Italics" not in words
        assert said or ("xploratory" not in words and "preregistered" not in words)
    italics = {italic for _, italic in cells_of(figure)}
    assert italics == {status == "exploratory"}


def test_the_figure_for_papers_has_italics_where_the_page_has(report_folder, tmp_path):
    from xtremex.analysis.figures import write_figures

    assert b"DejaVuSans-Oblique" in (report_folder / "figures" / "effect_map.pdf").read_bytes()
    write_figures([the_map(all_of(made_results(), "unregistered"))], tmp_path)
    assert b"Oblique" not in (tmp_path / "effect_map.pdf").read_bytes()


def test_latex_marks_exploratory_estimates_by_a_sign():
    results = made_results()
    found = tuple(replace(e, verdict="different") for e in results.estimates)
    results = replace(results, estimates=found)
    source = latex_table(effects_map(Outline.of(results)), results.signature, "effects")
    count = {s: sum(e.status == s for e in found) for s in ("exploratory", "confirmatory")}
    body, _, note = source.partition(r"\bottomrule")
    assert body.count(r"\textsuperscript{e*}") == count["exploratory"]
    assert body.count(r"\textbf{") == count["confirmatory"]
    assert not re.search(r"\\textbf\{[^}]*\}\\textsuperscript", body)
    # italics are the groups' alone
    assert body.count(r"\textit{") == len(effects_map(Outline.of(results)).blocks)
    assert (
        r"\textsuperscript{e} Exploratory; the rest is registered; \textsuperscript{e*} so, and different"
        in note
    )
    assert "Italics" not in note
    for status, sign in (("unregistered", "Not preregistered."), ("exploratory", "All exploratory")):
        plain = latex_table(effects_map(Outline.of(all_of(results, status))), "x", "effects")
        assert "textsuperscript{e" not in plain and sign in plain
        assert plain.count(r"\textbf{") == len(found)


def test_latex_rows_have_the_sign_once_and_keep_their_verdict():
    results = made_results()
    results = replace(results, estimates=tuple(replace(e, verdict="different") for e in results.estimates))
    table = effects_table(Outline.of(results), {"conditions", "targets"}, "means", "", fold=False)
    lines = latex_table(table, "x", "means").splitlines()
    apart = [line for line in lines if line.endswith(r"\\") and "exploratory &" in line]
    kept = [line for line in lines if line.endswith(r"\\") and "confirmatory &" in line]
    assert len(apart) == sum(e.family == "targets" for e in results.estimates) and kept
    assert all(
        line.split(" & ")[0].endswith(r"\textsuperscript{e}") and "textbf" not in line for line in apart
    )
    assert all(r"\textbf{" in line and "textsuperscript" not in line for line in kept)


def test_no_correction_spans_families():
    outline = Outline.of(made_results())
    rows = [e for e in (*outline.results.estimates, *outline.results.further) if e.status == "confirmatory"]
    said = confirmatory(outline)
    assert said.startswith(f"Confirmatory effects of this report: {len(rows)}; all others are exploratory.")
    assert "no correction spans families: only the grand effect of vision-text is primary" in said
    one = tuple(
        replace(e, status="confirmatory" if (e.family, e.role) == ("grand", "primary") else "exploratory")
        for e in outline.results.estimates
    )
    alone = confirmatory(Outline.of(replace(outline.results, estimates=one, further=())))
    assert alone == "Confirmatory effects of this report: 1; all others are exploratory."
    assert (
        confirmatory(Outline.of(all_of(outline.results, "exploratory")))
        == "No effect of this report is confirmatory."
    )
    two = confirmatory(Outline.of(made_results(pairs=("a", "b"))))
    assert (
        "only the grand effect of a / vision-text and the grand effect of b / vision-text are primary" in two
    )


def test_a_suite_without_contrasts_has_nothing_to_register(tmp_path):
    folder = write_demo(
        tmp_path, arms=("text",), conditions=("none", "nli"), examples=20, languages=("en", "de")
    )
    assert not any("registered" in warning for warning in effects(read_record(folder)).warnings)
