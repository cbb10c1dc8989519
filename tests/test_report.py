"""The report: what it says, that nothing in it can run or leave the page, and that its bytes are reproducible."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_results import LANGUAGES, made_results

from xtremex.analysis import latex, wording
from xtremex.analysis import report as report_module
from xtremex.analysis.outline import Outline
from xtremex.analysis.render import markdown_escape
from xtremex.analysis.report import json_text, rebuild, write_report
from xtremex.analysis.results import Results
from xtremex.analysis.svg import ticks

_FIGURES = ("effect_map", "forest_languages", "gains", "retention", "variance")
_TABLES = ("effects", "gains", "grand", "retention", "scores")
_HOSTILE = {
    "pairs": ("<script>alert(1)</script>&_%", "b"),
    "conditions": ('n<l>i&"_%$#{}~^', "[Türkçe]"),
    "targets": ("mini-a_b|c", "mini-<img src=x onerror=alert(1)>", "$x^2$"),
    "title": "<b>T</b> & _%",
    "notice": "</style><script>alert(2)</script>",
    "warnings": ("<a href='http://evil.example'>x</a> https://evil.example 漢字",),
    "signature": "a_b|c%d&e<script>~^\\{}",
}


class _Page(HTMLParser):
    """Tags, attributes, headings and visible text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.headings: list[int] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self._open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, "tags must nest"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def results() -> Results:
    return made_results()


@pytest.fixture(scope="module")
def built(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    assert write_report(results, folder) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_report(made_results(**_HOSTILE), folder)
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the files of figures/: most of the time of a build goes there."""
    monkeypatch.setattr(report_module, "write_figures", lambda wanted, folder: [])


def test_all_files_exist_and_nothing_else(built: Path) -> None:
    expected = {"report.html", "report.md", "report.json"}
    expected |= {f"tables/{name}.tex" for name in _TABLES}
    expected |= {f"figures/{name}.{kind}" for name in _FIGURES for kind in ("pdf", "svg")}
    assert set(_digests(built)) == expected
    assert {p.name for p in built.iterdir()} == {
        "report.html",
        "report.md",
        "report.json",
        "tables",
        "figures",
    }


def test_page_opens_with_the_answer(built: Path, results: Results) -> None:
    words = _Page((built / "report.html").read_text(encoding="utf-8")).words()
    answer, placebo = (a.sentence for a in results.answers)
    order = [words.index(x) for x in (answer, placebo, results.suite["suite"]["notice"], results.signature)]
    assert order == sorted(order)
    # only the title and the question stand before the answer
    assert words[: order[0]].split("Skip to the figures")[1].strip() == (
        "Mini Does intermediate-task training improve the zero-shot cross-lingual transfer of vision "
        "encoders more "
        "than that of text encoders?"
    )


def test_markdown_opens_with_the_answer(built: Path, results: Results) -> None:
    lines = [line for line in (built / "report.md").read_text(encoding="utf-8").splitlines() if line]
    assert lines[0].startswith("# Does intermediate-task training")
    assert lines[1] == f"**{markdown_escape(results.answers[0].sentence)}**"
    assert lines[2] == f"**{markdown_escape(results.answers[1].sentence)}** (placebo)"


@pytest.mark.parametrize("name", ["report.html", "report.md"])
def test_every_estimate_with_verdict_interval_p_and_mde(built: Path, results: Results, name: str) -> None:
    source = (built / name).read_text(encoding="utf-8")
    outline = Outline.of(results)
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
    for e in results.estimates:
        tail = [wording.points(e.value), wording.interval(e.low, e.high), wording.p_value(e.p)]
        tail += [wording.p_value(e.p_adjusted), wording.verdict(e.verdict), wording.number(e.mde)]
        if name == "report.html":
            tail = [x.replace("<", "&lt;") for x in tail]
        where = [
            "mean" if e.condition == "*" else e.condition,
            "mean" if e.target == "*" else outline.task(e.target),
        ]
        grand = [e.contrast + (" (placebo)" if e.role == "placebo" else "")]
        head = grand if e.family == "grand" else where
        assert any(row[: len(head)] == head and row[len(head) : len(head) + 6] == tail for row in rows), e


def test_notes_name_tier_seeds_df_family_and_correction(built: Path) -> None:
    words = _Page((built / "report.html").read_text(encoding="utf-8")).words()
    for said in (
        "MWV-t, tier T2; seeds 3; Welch-Satterthwaite df 5.0 to 7.0; family and correction: map: "
        "Benjamini-Hochberg over 9 tests",
        "targets: Holm over 3 tests; conditions: Holm over 3 tests",
        "grand: Holm over 1 test",
    ):
        assert said in words


def test_runs_schedules_materials_and_methods_are_told(built: Path, results: Results) -> None:
    words = _Page((built / "report.html").read_text(encoding="utf-8")).words()
    restarted = sum(r["attempt"] for r in results.suite["runs"])
    for said in (
        f"{len(results.suite['runs'])} runs: {restarted} ended at the second attempt (restart rule), 0 "
        "collapsed.",
        "All 9 schedules are equal over the arms",
        "0f0f0f0f0f0f",
        "One run of 48 ended at its second attempt.",
        "muse@grounded-vision",
        "compute time 7 min 0 s",
        "1 matched pair of encoders",
        "zero-shot scoring on 6 languages",
        "±1 points for a task and ±0.5 for a mean",
        "muse: one grounded checkpoint per arm",
        "best baseline 33.3 33.3 33.3",
    ):
        assert said in words, said


def test_unequal_schedules_and_exceptions_are_told(quick: None, tmp_path: Path) -> None:
    r = made_results()
    schedules = [dict(s, equal=False) if i == 0 else s for i, s in enumerate(r.suite["schedules"])]
    declared = [{"arm": "vision", "key": "encoder_lr", "value": 1e-4, "reason": "diverged at 3e-4"}]
    changed = dataclasses.replace(r, suite={**r.suite, "schedules": schedules, "exceptions": declared})
    write_report(changed, tmp_path)
    words = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert "1 of 9 schedules differ between arms, as declared: intermediate:nli (seed 0)." in words
    assert "vision encoder_lr 0.0001 diverged at 3e-4" in words


def test_every_cell_of_the_map_has_its_tooltip(built: Path, results: Results) -> None:
    source = (built / "report.html").read_text(encoding="utf-8")
    titles = [html.unescape(title) for title in re.findall("<title>(.*?)</title>", source)]
    outline = Outline.of(results)
    for e in results.estimates:
        tip = wording.describe(outline, e)
        assert tip in titles
        for part in (wording.interval(e.low, e.high), wording.verdict(e.verdict), "T2", "3 seeds"):
            assert part in tip
    for code, (name, _) in LANGUAGES.items():
        assert any(title.startswith(f"{name} ({code}), vision-text") for title in titles)


def test_page_is_accessible(built: Path) -> None:
    page = _Page((built / "report.html").read_text(encoding="utf-8"))
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    drawings = page.of("svg")
    assert len(drawings) == 8 and all(len(a["aria-label"] or "") > 20 for a in drawings)
    assert len(page.of("caption")) == len(page.of("table")) > 8
    assert all(a.get("scope") in ("col", "row", "rowgroup") for a in page.of("th"))
    marks = [a for a in page.of("g") if "hit" in (a.get("class") or "")]
    assert len(marks) > 80 and all(a["tabindex"] == "0" for a in marks)
    assert page.of("html")[0]["lang"] == "en"
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {(a["href"] or "")[1:] for a in page.of("a")} <= set(ids)


@pytest.mark.parametrize("which", ["built", "hostile"])
def test_page_asks_for_nothing_outside_itself(which: str, request: pytest.FixtureRequest) -> None:
    source = (request.getfixturevalue(which) / "report.html").read_text(encoding="utf-8")
    page = _Page(source)
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


def test_hostile_names_stay_text_in_html(hostile: Path) -> None:
    page = _Page((hostile / "report.html").read_text(encoding="utf-8"))
    assert len(page.of("script")) == 1 and not page.of("img") and not page.of("b")
    words = page.words()
    for said in (
        "<script>alert(1)</script>&_%",
        "<img src=x onerror=alert(1)>",
        "[Türkçe]",
        'n<l>i&"_%$#{}~^',
    ):
        assert said in words


def test_hostile_names_stay_text_in_markdown(hostile: Path) -> None:
    source = (hostile / "report.md").read_text(encoding="utf-8")
    without = re.sub("</?(details|summary)>", "", source)
    assert "<" not in without
    assert "https://" not in source and "http://" not in source
    tables = re.findall(r"(?:^\|.*\n)+", source, re.M)
    assert len(tables) > 8
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("which", ["built", "hostile"])
def test_latex_compiles_in_two_columns(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is absent: apt-get install texlive-latex-base texlive-latex-recommended")
    folder = request.getfixturevalue(which)
    files = sorted((folder / "tables").glob("*.tex"))
    assert {f.stem for f in files} >= set(_TABLES)
    body = "\n".join(
        rf"\begin{{table*}}\centering\input{{{f}}}\caption{{A caption.}}\end{{table*}}" for f in files
    )
    (tmp_path / "paper.tex").write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\nText.\n"
        + body
        + "\n\\clearpage\\end{document}\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=120,
        check=False,
    )
    log = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, log[-3000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
    assert "Missing character" not in log


def test_latex_tables_carry_test_and_signature(built: Path, results: Results) -> None:
    for name in ("grand", "effects"):
        source = (built / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert "MWV-t, tier T2; seeds 3; Welch-Satterthwaite df" in source and "Holm over" in source
    for name in _TABLES:
        source = (built / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        flat = source.replace(r"\allowbreak{}", "")
        assert latex.escape(results.signature) in flat
        assert source.isascii() and r"\toprule" in source and r"\bottomrule" in source
        assert r"\begin{table" not in source


def test_latex_escape() -> None:
    assert latex.escape("a_b & 50 % #1 {x}") == r"a\_b \& 50 \% \#1 \{x\}"
    assert (
        latex.escape("\N{MINUS SIGN}1.2 ± é Å ß") == r"\ensuremath{-}1.2 \ensuremath{\pm} \'{e} \r{A} {\ss}"
    )
    # no glyph in plain pdflatex: named, not dropped; and a row may begin with it after `\\`
    assert latex.escape("漢") == "{[}U+6F22]"
    assert latex.escape("[x]*") == "{[}x]{*}"


def test_same_results_same_bytes(built: Path, results: Results, tmp_path: Path) -> None:
    # another process, so that hash seeds and import order differ too
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom made_results import made_results\n"
        "from xtremex.analysis.report import write_report\nwrite_report(made_results(), Path(sys.argv[2]))\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)], check=True, timeout=300
    )
    assert _digests(tmp_path) == _digests(built)


def test_figure_files_hold_vectors_with_truetype_fonts(built: Path) -> None:
    for name in _FIGURES:
        pdf = (built / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf
        svg = (built / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<dc:date>" not in svg and "<image" not in svg


def test_json_is_the_tree_without_nan(results: Results) -> None:
    first = results.estimates[0]
    odd = dataclasses.replace(first, se=math.nan, high=math.inf, value=1 / 3, low=-0.0)
    tree = json.loads(json_text(dataclasses.replace(results, estimates=(odd, *results.estimates[1:]))))
    assert tree["estimates"][0]["se"] is None and tree["estimates"][0]["high"] is None
    assert tree["estimates"][0]["value"] == 0.3333333333 and str(tree["estimates"][0]["low"]) == "0.0"
    assert set(tree) == {f.name for f in dataclasses.fields(Results)}
    assert [s["fingerprint"] for s in tree["suite"]["schedules"]] == [
        s["fingerprint"] for s in results.suite["schedules"]
    ]
    text = json_text(results)
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def test_one_arm_answers_with_gains(tmp_path: Path) -> None:
    r = made_results(arms=("text",))
    write_report(r, tmp_path)
    words = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert (
        "Does intermediate-task training improve zero-shot cross-lingual transfer? " + r.answers[0].sentence
        in words
    )
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {"gains"}
    assert {p.stem for p in (tmp_path / "tables").iterdir()} == {"gains", "scores"}


def test_missing_pieces_and_numbers_do_not_stop_the_report(quick: None, tmp_path: Path) -> None:
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
    words = _Page((tmp_path / "report.html").read_text(encoding="utf-8")).words()
    assert "nan" not in words.lower() and " inf " not in words
    assert "p = n/a" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The outcomes list no runs." in words and "The outcomes carry no schedule fingerprints." in words
    assert "Retention" not in words and not (tmp_path / "tables" / "retention.tex").exists()


def test_several_pairs_get_files_of_their_own(quick: None, tmp_path: Path) -> None:
    write_report(made_results(pairs=("large", "base/2")), tmp_path)
    names = {p.stem for p in (tmp_path / "tables").iterdir()}
    assert names == set(_TABLES) | {f"{n}-base_2" for n in _TABLES if n != "grand"}
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.headings.count(3) == 2 * len(_FIGURES)
    grand = (tmp_path / "tables" / "grand.tex").read_text(encoding="utf-8")
    assert "textit{large}" in grand and "textit{base/2}" in grand


def test_failed_build_leaves_the_earlier_report(
    quick: None, results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(results, tmp_path)
    before = _digests(tmp_path)

    def fail(page: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module, "_html", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(made_results(title="Other"), tmp_path)
    assert _digests(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".report-")]


def test_rebuild_drops_its_own_stale_files_only(quick: None, tmp_path: Path) -> None:
    write_report(made_results(), tmp_path)
    mine = tmp_path / "tables" / "notes.tex"
    mine.write_text("mine", encoding="utf-8")
    (tmp_path / "suite.json").write_text("{}", encoding="utf-8")
    write_report(made_results(arms=("text",)), tmp_path)
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"gains.tex", "scores.tex", "notes.tex"}
    assert (tmp_path / "suite.json").read_text(encoding="utf-8") == "{}"


def test_rebuild_needs_only_the_outcome_folder(quick: None, tmp_path: Path) -> None:
    from demo_outcomes import write_demo

    write_demo(
        tmp_path, seed=3, languages=("en", "de", "fa"), examples=24, conditions=("none", "nli", "tags")
    )
    page = rebuild(tmp_path)
    tree = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    words = _Page(page.read_text(encoding="utf-8")).words()
    assert [a["sentence"] in words for a in tree["answers"]] == [True, True]
    for warning in tree["warnings"]:
        assert " ".join(warning.split()) in words
    assert tree["signature"] in words


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


def test_ticks_are_round_and_inside() -> None:
    assert ticks(-2.2, 2.2) == [-2, -1, 0, 1, 2]
    for low, high in ((-0.013, 0.4), (3, 97), (-1e-9, 1e-9)):
        found = ticks(low, high)
        assert 2 <= len(found) <= 8 and low <= found[0] and found[-1] <= high


def test_page_opens_in_chromium_without_a_console_error(built: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=2000",
            "--window-size=390,800",
            "--dump-dom",
            (built / "report.html").as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0
    log = done.stderr.decode("utf-8", "replace")
    assert ":CONSOLE" not in log, log
    dom = done.stdout.decode("utf-8", "replace")
    # the script ran: tooltips took the place of the titles, one tab stop per figure
    marks = re.findall('<g [^>]*class="hit[^>]*>', dom)
    assert len(marks) > 80 and all("data-tip=" in mark and "aria-label=" in mark for mark in marks)
    assert sum('tabindex="0"' in mark for mark in marks) == 8
