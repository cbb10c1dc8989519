"""What the report says beside the effects: dose, power, failures, other roads, registration, citations."""

from __future__ import annotations

import dataclasses
import html
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from latex import compiled, need_latex
from made_results import made_results, numbers, with_ladder
from report_pages import Page
from scipy import stats

from xtremex.analysis.bibliography import REFERENCES, bibtex, cite, cited, render
from xtremex.analysis.equivalence import equivalence_p
from xtremex.analysis.language_shrinkage import shrink_languages
from xtremex.analysis.outline import Outline
from xtremex.analysis.outlook import outlook
from xtremex.analysis.power_panel import power
from xtremex.analysis.projection import floor, project, seeds_for_equivalence
from xtremex.analysis.render import environment
from xtremex.analysis.report import write_report
from xtremex.analysis.results import Estimate, LanguageEffect, Results


def grand(results: Results) -> Estimate:
    [found] = [e for e in results.estimates if e.family == "grand" and e.role == "primary"]
    return found


def page_of(results: Results, folder: Path) -> Page:
    return Page(write_report(results, folder).read_text(encoding="utf-8"))


# -- projection ----------------------------------------------------------------------------------------------


def test_projection_is_the_formula_of_the_reference() -> None:
    """V(S) = V_run S0 / S + V_examples, and the noncentral t by scipy.stats, not by the code under test."""
    e = dataclasses.replace(
        grand(made_results()), se=0.8, df=12.0, seeds=3, variance_shares={"run": 0.6, "examples": 0.4}
    )
    run, rest = 0.6 * 0.64, 0.4 * 0.64
    df_run = 12.0 * 0.36
    for x in project(e):
        v = run * 3 / x.seeds
        assert x.se == pytest.approx(math.sqrt(v + rest))
        assert x.df == pytest.approx((v + rest) ** 2 / (v**2 / (df_run * (x.seeds - 1) / 2)))
        critical = stats.t.ppf(0.975, x.df)
        assert stats.nct.sf(critical, x.df, x.mde / x.se) == pytest.approx(0.8, abs=1e-6)
        assert x.estimated == (x.seeds == 3)
    own = next(x for x in project(e) if x.estimated)
    assert (own.se, own.df) == pytest.approx((e.se, e.df))
    found = [x.mde for x in project(e)]
    assert found == sorted(found, reverse=True)
    least = floor(e)
    assert least is not None and found[-1] > least
    assert least == pytest.approx((1.959964 + 0.841621) * math.sqrt(rest), rel=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"se": math.nan},
        {"df": math.inf},
        {"variance_shares": {"run": 0.0, "examples": 1.0}},
        {"variance_shares": {"run": math.nan}},
        {"seeds": 1},
        {"p_unmoderated": 0.2},
    ],
)
def test_nothing_is_projected_without_run_variance(change: dict[str, object]) -> None:
    e = dataclasses.replace(grand(made_results()), **change)
    assert project(e) == () and floor(e) is None


def test_head_of_the_page_says_what_would_change_the_answer(report_folder: Path, report: Results) -> None:
    e = grand(report)
    ahead = {x.seeds: x.mde for x in project(e)}
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    said = f"With 10 seeds instead of 3 this design could see effects of {ahead[10]:.2f} points instead of {ahead[3]:.2f}"
    assert said in words and words.index(said) < words.index(report.signature)
    source = html.unescape((report_folder / "report.html").read_text(encoding="utf-8"))
    assert f"mean over all: with 3 seeds detectable {ahead[3]:.2f} points" in source


def test_seeds_that_would_show_equivalence_are_projected() -> None:
    """The TOST power of that many is .8 by scipy's t, one less is too few, and test examples can forbid it."""
    [e, *_] = [a.estimate for a in made_results().answers if a.estimate is not None and a.role == "primary"]
    e = dataclasses.replace(e, se=0.6, df=8.0, margin=0.5, variance_shares={"run": 0.95, "examples": 0.05})
    count = seeds_for_equivalence(e)
    assert count is not None and count > e.seeds

    def power(seeds: int) -> float:
        run = 0.95 * 0.36 * e.seeds / seeds
        df = (run + 0.05 * 0.36) ** 2 / run**2 * 8.0 * 0.95**2 * (seeds - 1) / (e.seeds - 1)
        room = 0.5 / (run + 0.05 * 0.36) ** 0.5 - stats.t.ppf(0.95, df)
        return float(stats.t.cdf(room, df) - stats.t.cdf(-room, df))

    assert power(count) >= 0.8 > power(count - 1)
    assert (
        seeds_for_equivalence(dataclasses.replace(e, variance_shares={"run": 0.5, "examples": 0.5})) is None
    )
    shares = {"run": 0.95, "examples": 0.05}
    said = told(made_results(), verdict="inconclusive", se=0.6, df=8.0, margin=0.5, variance_shares=shares)
    assert "To show that there is none beyond ±0.50 takes about" in said


def told(results: Results, **change: object) -> str:
    """What would change an answer whose primary estimates are changed so."""
    answers = tuple(
        dataclasses.replace(a, estimate=dataclasses.replace(a.estimate, **change))
        if a.estimate is not None and a.role == "primary"
        else a
        for a in results.answers
    )
    return outlook(Outline.of(dataclasses.replace(results, answers=answers)))


def test_with_one_seed_more_seeds_would_change_it() -> None:
    said = told(made_results(), tier="T0", seeds=1, variance_shares={"run": 0.0, "examples": 1.0})
    assert said.startswith(
        "What would change it: more seeds. One seed says nothing of training the arms again"
    )
    two = told(made_results(), seeds=2)
    assert "a third seed. Two leave each cell's run variance one degree" in two and "instead of 2" in two


def test_every_pair_is_told_by_its_name() -> None:
    results = made_results(pairs=("muse", "labse"))
    changed = [
        dataclasses.replace(a, estimate=dataclasses.replace(a.estimate, se=3 * a.estimate.se))
        if a.estimate is not None and a.estimate.pair == "labse"
        else a
        for a in results.answers
    ]
    said = outlook(Outline.of(dataclasses.replace(results, answers=tuple(changed))))
    one, three = said.split("What would change it (labse): ")
    assert one.startswith("What would change it (muse): ")
    found = [re.search(r"points instead of (\d+\.\d+)", x) for x in (one, three)]
    small, large = (float(x[1]) for x in found if x)
    assert large == pytest.approx(3 * small, abs=0.02)
    assert "(muse)" not in told(made_results())


@pytest.mark.parametrize("tier", ["T1", "T2", "T3"])
def test_a_verdict_is_told_what_could_overturn_it(tier: str) -> None:
    said = told(made_results(), verdict="different", tier=tier)
    assert "% of the variance" not in said and "could see effects" not in said and "margin" not in said
    allowed, fixed = said.split("What was not varied could:")
    assert "new seeds" in allowed and "pre-training and grounding" in fixed and "A second pair" in fixed
    assert ("test examples" in allowed, "test examples" in fixed) == (tier != "T1", tier == "T1")
    assert ("languages" in allowed, "languages" in fixed) == (tier == "T3", tier != "T3")
    assert "A second pair" not in told(made_results(pairs=("a", "b")), verdict="different", tier=tier)


def test_an_equivalence_is_told_the_margin_that_it_needs() -> None:
    change = {"value": -0.12, "se": 0.1, "df": 7.0, "margin": 0.5}
    said = told(made_results(), verdict="equivalent", **change)
    # scipy.stats, rounded down
    needed = 0.12 + stats.t.ppf(0.95, 7.0) * 0.1
    assert (
        f"margin of ±0.50 points; at ±{math.floor(100 * needed) / 100:.2f} or less these data could not tell"
        in said
    )
    assert (
        equivalence_p(-0.12, 0.1, 7.0, needed * 1.001) < 0.05 < equivalence_p(-0.12, 0.1, 7.0, needed * 0.999)
    )
    also = told(made_results(), verdict="different-but-negligible", **change)
    assert "or less it would not be negligible" in also


def test_what_cannot_be_projected_is_told_too() -> None:
    still = told(made_results(), variance_shares={"run": 0.0, "examples": 1.0})
    assert "more test examples. None of the variance comes from training runs" in still
    shares = {"run": 0.25, "examples": 0.3, "languages": 0.45}
    wide = told(made_results(), tier="T3", variance_shares=shares)
    assert (
        "25 % of the variance comes from training runs, 30 % from test examples and 45 % from the choice"
        in wide
    )
    assert "all of the variance comes from training runs" in told(made_results(), tier="T1")
    assert told(made_results(), se=0.0, p=None) == ""


def test_no_limit_is_printed_where_none_was_estimated() -> None:
    """Shares of exactly 1 say that the variance over examples was cut at 0, not that examples hide nothing."""
    results = made_results()
    plain = power(Outline.of(results))
    assert all(float(r.cells[-1].text) > 0 for block in plain.blocks for r in block.rows)
    assert "n/a" not in plain.note
    cut = tuple(
        dataclasses.replace(e, variance_shares={"run": 1.0, "examples": 0.0}) if e.family == "targets" else e
        for e in results.estimates
    )
    changed = power(Outline.of(dataclasses.replace(results, estimates=cut)))
    last = {r.cells[0].text: r.cells[-1].text for block in changed.blocks for r in block.rows}
    assert last["one target"] == "n/a" and float(last["mean over all"]) > 0
    assert "n/a: their part of the variance is estimated to be about 0" in changed.note


# -- languages -----------------------------------------------------------------------------------------------


def language(code: str, value: float, se: float, untrained: bool = False) -> LanguageEffect:
    fields = {**numbers(value, 99.0, 0.5, df=3.0), "se": se}
    return LanguageEffect("p", "vision-text", "primary", code, code, "", untrained, 3, **fields)


def test_shrunken_languages_are_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(5)
    count, spread, own, common = 20, 0.7, 1.0, 0.5
    e = dataclasses.replace(
        grand(made_results()), df=6.0, se=math.sqrt(common**2 + own**2 / count), value=0.0
    )
    se = math.hypot(own, common)
    raw = moved = 0.0
    factors = []
    for _ in range(300):
        truth = rng.normal(0, spread, count)
        seen = truth + rng.normal(0, own, count) + rng.normal(0, common)
        effects = [language(str(i), v, se) for i, v in enumerate(seen)]
        found = shrink_languages(effects, e)
        assert found is not None
        values = np.array([found.values[str(i)] for i in range(count)])
        assert values.mean() == pytest.approx(seen.mean())
        raw += np.mean((seen - seen.mean() - truth + truth.mean()) ** 2)
        moved += np.mean((values - values.mean() - truth + truth.mean()) ** 2)
        factors.append(found.factor)
    # the best factor is spread^2 / (spread^2 + own^2); the best error is that share of the raw one
    best = spread**2 / (spread**2 + own**2)
    assert np.mean(factors) == pytest.approx(best, abs=0.06)
    assert best * 0.9 < moved / raw < 0.5


def test_controls_and_few_languages_are_not_shrunken() -> None:
    e = grand(made_results())
    six = [language(str(i), float(i), 4.0, untrained=i > 3) for i in range(6)]
    assert shrink_languages(six, e) is None
    more = [*six, *(language(x, 1.0, 4.0) for x in "ab")]
    found = shrink_languages(more, e)
    assert found is not None and set(found.values) == {"0", "1", "2", "3", "a", "b"}
    assert shrink_languages(more, None) is None


# -- dose, failures, other roads -----------------------------------------------------------------------------


def test_a_ladder_is_drawn_in_its_order(without_figures: None, tmp_path: Path) -> None:
    results = with_ladder(made_results())
    words = page_of(results, tmp_path).words()
    steps = [words.index(step) for step in ("0: text", "1: scrambled", "2: vision")]
    assert steps == sorted(steps)
    assert "Dose: slope of the gains over the ladder of arms" in words
    assert (tmp_path / "tables" / "trend.tex").exists()
    plain = page_of(made_results(), tmp_path)
    assert "Dose" not in plain.words() and not (tmp_path / "tables" / "trend.tex").exists()


def test_failures_are_counted_once_and_listed(report_folder: Path, report: Results) -> None:
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    cells = report.failures
    whole = sum(x.complete for x in cells)
    assert 0 < whole < len(cells)
    assert f"{whole} of {len(cells)} cells are complete" in words
    vision = [x for x in cells if x.arm == "vision" and x.condition != "none"]
    # the collapsed intermediate run fed three targets, and is one run
    assert sum(x.intermediate_collapsed for x in vision) == 3
    planned, used, again = (sum(getattr(x, n) for x in vision) for n in ("planned", "analysed", "restarted"))
    assert f"vision, after {planned} {used} {again} (0) 0 (1)" in words
    assert "vision 1/27; text 4/27 .350" in words
    incomplete = sum(not x.complete for x in cells)
    body = words.split("Every cell that is not complete")[-1]
    assert (
        len(re.findall(r"\b(?:text|vision|scrambled) (?:no intermediate|nli|tags|mixture) ", body))
        >= incomplete
    )


def test_other_roads_say_whether_the_conclusion_changes(without_figures: None, tmp_path: Path) -> None:
    results = made_results()
    first = next(x for x in results.leave_out if x.role == "primary")
    assert first.p is not None and first.p > 0.05
    told = dataclasses.replace(first, family="Told", p=0.01)
    flipped = dataclasses.replace(first, family="Flipped", value=-first.value)
    changed = dataclasses.replace(results, leave_out=(*results.leave_out, told, flipped))
    words = page_of(changed, tmp_path).words()
    assert re.search(r"no Told \[en, de\] \S+ \[[^]]+\] \.010 \[df 5\.6\] differs", words)
    # a sign that nothing supports is no other conclusion
    assert re.search(r"no Flipped \[en, de\] \S+ \[[^]]+\] \.740 \[df 5\.6\] also n\.s\.", words)
    assert "Not given: T3 (scrambled-text): 6 languages; fewer than 10 say little." in words


def test_imputed_failures_are_named_and_cited_in_the_methods(without_figures: None, tmp_path: Path) -> None:
    results = made_results()
    words = page_of(results, tmp_path / "a").words()
    assert "the grand effect without runs that failed" in words and "ntention-to-treat" not in words
    imputed = tuple(dataclasses.replace(x, what="intention-to-treat") for x in results.sensitivity)
    words = page_of(dataclasses.replace(results, sensitivity=imputed), tmp_path / "b").words()
    assert "intention-to-treat [1 run] +0.40 [−0.90, 1.70] .520 [df 3.4] also n.s." in words
    assert "Intention-to-treat: target stages that were restarted score the best baseline." in words
    assert "intention-to-treat, with restarted target stages at the score of the best baseline" in words
    assert "without runs that failed" not in words


def test_languages_that_a_cell_lacks_are_listed_with_their_seeds(
    without_figures: None, tmp_path: Path
) -> None:
    results = made_results()
    first, *others = results.failures
    lacking = dataclasses.replace(
        first, missing_languages=("fa", "tr", "zh"), missing_seeds={"fa": (1,), "tr": (0, 2)}
    )
    words = page_of(dataclasses.replace(results, failures=(lacking, *others)), tmp_path).words()
    assert "fa (seed 1), tr (seeds 0, 2), zh" in words


# -- registered and exploratory ------------------------------------------------------------------------------


def test_exploratory_rows_differ_in_type_and_in_words(report_folder: Path, report: Results) -> None:
    source = (report_folder / "report.html").read_text(encoding="utf-8")
    rows = re.findall(r'<tr class="[^"]*exploratory[^"]*">(.*?)</tr>', source, re.S)
    apart = [e for e in report.estimates if e.status == "exploratory"]
    assert apart and len(rows) >= len(apart)
    assert source.count("<td>exploratory</td>") >= len(apart)
    assert source.count("<td>confirmatory</td>") >= len(report.estimates) - len(apart)
    assert "tr.exploratory > * { font-style: italic" in source
    assert report.registration is not None and report.registration.sha256 in source
    assert "Deviation from it: seeds: registered 0, 1, 2, 3, analysed 0, 1, 2." in source
    grand_paper = (report_folder / "tables" / "grand.tex").read_text(encoding="utf-8")
    assert r"\textit" not in grand_paper.replace(r"\textit{Intermediate}", "")
    effects = (report_folder / "tables" / "effects.tex").read_text(encoding="utf-8")
    assert r"\textit{" in effects and "xploratory" in effects


def test_without_registration_nothing_is_set_apart(without_figures: None, tmp_path: Path) -> None:
    results = made_results()
    plain = tuple(dataclasses.replace(e, status="unregistered") for e in results.estimates)
    further = tuple(dataclasses.replace(e, status="unregistered") for e in results.further)
    bare = dataclasses.replace(results, estimates=plain, further=further, registration=None)
    source = write_report(bare, tmp_path).read_text(encoding="utf-8")
    assert 'class="exploratory' not in source and "<td>unregistered" not in source
    assert "Registered and exploratory" not in source
    assert "No design was registered before the scores were read." in source


# -- citations -----------------------------------------------------------------------------------------------


def test_citations_in_each_format() -> None:
    words = f"Corrected <b> {cite('holm1979', 'loftus1978')} so."
    shown = environment("html").from_string("{{ x|cited }}").render(x=words)
    assert shown == (
        'Corrected &lt;b&gt; (<a href="#ref-holm1979">Holm, 1979</a>; <a href="#ref-loftus1978">Loftus, 1978</a>) so.'
    )
    marked = environment("markdown").from_string("{{ x|cited }}").render(x=words)
    assert marked == "Corrected &lt;b&gt; [@holm1979; @loftus1978] so."
    # what is no mark of a known entry stays text
    assert render("a \ue000evil\ue001 b", str, lambda keys: "!") == "a \ue000evil\ue001 b"
    with pytest.raises(KeyError):
        cite("nobody1900")
    assert [r.key for r in cited([words])] == ["holm1979", "loftus1978"]


def test_every_citation_has_its_entry_and_the_other_way(report_folder: Path) -> None:
    entries = re.findall(
        r"^@\w+\{(\w+),", (report_folder / "references.bib").read_text(encoding="utf-8"), re.M
    )
    tex = (report_folder / "methods.tex").read_text(encoding="utf-8")
    in_tex = {key for keys in re.findall(r"\\citep\{([^}]+)\}", tex) for key in keys.split(",")}
    markdown = (report_folder / "report.md").read_text(encoding="utf-8")
    page = Page((report_folder / "report.html").read_text(encoding="utf-8"))
    linked = {(a["href"] or "").removeprefix("#ref-") for a in page.of("a") if "#ref-" in (a["href"] or "")}
    listed = {(a.get("id") or "").removeprefix("ref-") for a in page.of("li") if a.get("id")}
    assert entries == sorted(set(entries)) and len(entries) > 10
    assert set(entries) == in_tex == set(re.findall(r"@([a-z]+\d{4})", markdown)) == linked == listed
    assert {"phang2020", "smyth2004", "holm1979", "schuirmann1987"} <= set(entries)


def test_bibliography_and_methods_compile(tmp_path: Path, report_folder: Path) -> None:
    """Every entry of the list, by the style of natbib; all cited in one document with the methods."""
    need_latex()
    (tmp_path / "references.bib").write_text(bibtex(REFERENCES.values()), encoding="utf-8")
    shutil.copy(report_folder / "methods.tex", tmp_path)
    paper = tmp_path / "paper.tex"
    paper.write_text(
        "\\documentclass[twocolumn]{article}\\usepackage{natbib}\\begin{document}\\input{methods}\\nocite{*}"
        "\\bibliographystyle{plainnat}\\bibliography{references}\\end{document}",
        encoding="utf-8",
    )
    assert "undefined" not in compiled(paper, ("pdflatex", "bibtex", "pdflatex", "pdflatex"))
    assert (tmp_path / "paper.bbl").read_text(encoding="utf-8").count(r"\bibitem") == len(REFERENCES)


# -- papers --------------------------------------------------------------------------------------------------


def test_outlines_of_older_results_have_none_of_it(without_figures: None, tmp_path: Path) -> None:
    """Results with the fields of the first reports only."""
    results = made_results()
    names = [f.name for f in dataclasses.fields(Results) if f.default is not dataclasses.MISSING]
    empty = {name: None if name == "registration" else () for name in names}
    old = dataclasses.replace(results, **empty)
    words = page_of(old, tmp_path).words()
    assert "Does it hold elsewhere?" not in words and "Failed and missing runs" not in words
    assert not {"secondary", "failures", "trend"} & {t.stem for t in (tmp_path / "tables").iterdir()}
    assert Outline.of(old).further == {}
