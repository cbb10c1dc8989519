"""The files of the report: complete, the same bytes each time, fit for papers and browsers."""

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
from pathlib import Path

import pytest
from latex import compiled, need_latex
from made_results import made_results
from report_pages import FIGURES, HOSTILE, TABLES, Page, digests

from xtremex.analysis import figures, latex
from xtremex.analysis import report as report_module
from xtremex.analysis.outline import Outline
from xtremex.analysis.panels import plots
from xtremex.analysis.plots import Intervals, Line, Mark
from xtremex.analysis.report import json_text, rebuild, write_report
from xtremex.analysis.results import Results
from xtremex.analysis.tables import Block, Table, Text, figure, row, text
from xtremex.analysis.wording import typeset


def test_all_files_exist_and_nothing_else(report_folder: Path) -> None:
    expected = {"report.html", "report.md", "report.json", "methods.tex", "references.bib"}
    expected |= {f"tables/{name}.tex" for name in TABLES}
    expected |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("pdf", "svg")}
    assert set(digests(report_folder)) == expected
    assert {p.name for p in report_folder.iterdir()} == {
        "report.html",
        "report.md",
        "report.json",
        "methods.tex",
        "references.bib",
        "tables",
        "figures",
    }


@pytest.mark.parametrize("which", ["report_folder", "hostile_folder"])
def test_latex_compiles_in_two_columns(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    need_latex()
    folder = request.getfixturevalue(which)
    files = sorted((folder / "tables").glob("*.tex"))
    assert {f.stem for f in files} >= set(TABLES)
    body = "\n".join(
        rf"\begin{{table*}}\centering\input{{{f}}}\caption{{A caption.}}\end{{table*}}" for f in files
    )
    source = tmp_path / "paper.tex"
    source.write_text(
        "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs}\n\\begin{document}\nText.\n"
        + body
        + "\n\\clearpage\\end{document}\n",
        encoding="utf-8",
    )
    assert "Missing character" not in compiled(source)


def test_latex_tables_carry_test_and_signature(report_folder: Path, report: Results) -> None:
    for name, correction in (("grand", "grand: uncorrected (one test)"), ("effects", "Holm over")):
        source = (report_folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert "MWV-t, tier T2; seeds 3; Welch-Satterthwaite df" in source and correction in source
    for name in TABLES:
        source = (report_folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        # the whole line in a comment, its digest in print
        assert f"% {latex.escape(report.signature)}\n" in source
        short = hashlib.sha256(report.signature.encode()).hexdigest()[:12]
        assert rf"Signature: SHA-256 \texttt{{{short}}}." in source
        assert source.isascii() and r"\toprule" in source and r"\bottomrule" in source
        assert r"\begin{table" not in source


def test_the_digest_of_the_tables_leads_to_the_signature(report_folder: Path, report: Results) -> None:
    short = hashlib.sha256(report.signature.encode()).hexdigest()[:12]
    methods = (report_folder / "methods.tex").read_text(encoding="utf-8").replace(r"\allowbreak{}", "")
    assert latex.escape(report.signature) in methods and rf"\texttt{{{short}}}" in methods
    words = Page((report_folder / "report.html").read_text(encoding="utf-8")).words()
    assert f"Its SHA-256 begins with {short}" in words


def _long(blocks: int, rows: int, columns: int = 10) -> Table:
    cells = ("name", *[Text("+0.1", "[0, 1]")] * (columns - 1))
    body = tuple(Block(f"block {b}", tuple(row(*cells) for _ in range(rows))) for b in range(blocks))
    return Table("long", "A long table", (*text("Name"), *figure(*"x" * (columns - 1))), body)


@pytest.mark.parametrize(
    ("blocks", "rows", "parts"), [(2, 11, 1), (4, 11, 2), (1, 40, 2), (3, 30, 3), (0, 0, 0)]
)
def test_long_tables_come_in_parts(blocks: int, rows: int, parts: int) -> None:
    """Every row once, in order, under its heading; blocks are whole where a page holds them."""
    whole = _long(blocks, rows)
    made = latex.pages(whole)
    assert len(made) == parts
    found = [(b.title, r) for part in made for b in part.blocks for r in b.rows]
    assert found == [(b.title, r) for b in whole.blocks for r in b.rows]
    if rows <= 11:
        assert all(len(b.rows) == rows for part in made for b in part.blocks)


def test_latex_escape() -> None:
    assert latex.escape("a_b & 50 % #1 {x}") == r"a\_b \& 50 \% \#1 \{x\}"
    assert (
        latex.escape("\N{MINUS SIGN}1.2 ± é Å ß") == r"\ensuremath{-}1.2 \ensuremath{\pm} \'{e} \r{A} {\ss}"
    )
    # no glyph in plain pdflatex: named, not dropped; and a row may begin with it after `\\`
    assert latex.escape("漢") == "{[}U+6F22]"
    assert latex.escape("[x]*") == "{[}x]{*}"


def test_same_results_same_bytes(report_folder: Path, report: Results, tmp_path: Path) -> None:
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
    assert digests(tmp_path) == digests(report_folder)


def test_figure_files_hold_vectors_with_truetype_fonts(report_folder: Path) -> None:
    for name in FIGURES:
        pdf = (report_folder / "figures" / f"{name}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF") and b"/Type3" not in pdf and b"CreationDate" not in pdf
        svg = (report_folder / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        assert "<dc:date>" not in svg and "<image" not in svg


def test_hostile_names_are_drawn_as_they_stand(tmp_path: Path) -> None:
    """Letters of a figure are outlines, with the words in a comment before them: no mathematics, no markup."""
    first = plots(Outline.of(made_results(**HOSTILE)))[0]
    [_, svg] = figures.write_figures([first], tmp_path)
    source = svg.read_text(encoding="utf-8")
    drawn = {html.unescape(words) for words in re.findall("<!-- (.*?) -->", source)}
    assert {"$x^2$", "mini-a_b|c", "<img src=x onerror=alert(1)>", *HOSTILE["conditions"]} <= drawn
    assert set(re.findall(r"<([a-zA-Z]+)", source)) >= {"path", "use"}
    assert not re.search("<(script|image|img)", source)


@pytest.mark.parametrize("label", ["German (de)", "A language with a long name (xx)"])
def test_legends_stay_inside_their_figures(label: str) -> None:
    import matplotlib
    from matplotlib.figure import Figure as Canvas

    names = ("vision-text", "scrambled-text (placebo)", "shrunken")
    marks = tuple(Mark(i, float(i), i - 1.0, i + 1.0, "") for i in range(len(names)))
    plot = Intervals("", "", "points", names, ("primary", "placebo", "further"), (Line(label, marks),) * 4)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(figures._SETTINGS)
        canvas = Canvas(figsize=figures._size(plot), layout="constrained")
        axes = canvas.subplots()
        figures._intervals(axes, plot)
        canvas.draw_without_rendering()
        legend = axes.get_legend()
        assert legend is not None
        box = legend.get_window_extent()
        assert canvas.bbox.x0 <= box.x0 and box.x1 <= canvas.bbox.x1 + 1


def test_json_is_the_tree_without_nan(report: Results) -> None:
    first = report.estimates[0]
    odd = dataclasses.replace(first, se=math.nan, high=math.inf, value=1 / 3, low=-0.0)
    tree = json.loads(json_text(dataclasses.replace(report, estimates=(odd, *report.estimates[1:]))))
    assert tree["estimates"][0]["se"] is None and tree["estimates"][0]["high"] is None
    assert tree["estimates"][0]["value"] == 0.3333333333 and str(tree["estimates"][0]["low"]) == "0.0"
    assert set(tree) == {f.name for f in dataclasses.fields(Results)}
    assert [s["fingerprint"] for s in tree["suite"]["schedules"]] == [
        s["fingerprint"] for s in report.suite["schedules"]
    ]
    text = json_text(report)
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def test_failed_build_leaves_the_earlier_report(
    without_figures: None, report: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(report, tmp_path)
    before = digests(tmp_path)

    def fail(page: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_module, "_html", fail)
    with pytest.raises(OSError, match="No space"):
        write_report(made_results(title="Other"), tmp_path)
    assert digests(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".report-")]


def test_rebuild_drops_its_own_stale_files_only(without_figures: None, tmp_path: Path) -> None:
    write_report(made_results(), tmp_path)
    mine = tmp_path / "tables" / "notes.tex"
    mine.write_text("mine", encoding="utf-8")
    (tmp_path / "suite.json").write_text("{}", encoding="utf-8")
    write_report(made_results(arms=("text",)), tmp_path)
    assert {p.name for p in (tmp_path / "tables").iterdir()} == {
        "conditions.tex",
        "failures.tex",
        "gains.tex",
        "scores.tex",
        "notes.tex",
    }
    assert (tmp_path / "suite.json").read_text(encoding="utf-8") == "{}"


def test_rebuild_needs_only_the_outcome_folder(without_figures: None, tmp_path: Path) -> None:
    from demo_outcomes import write_demo

    write_demo(
        tmp_path, seed=3, languages=("en", "de", "fa"), examples=24, conditions=("none", "nli", "tags")
    )
    page = rebuild(tmp_path)
    tree = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    words = Page(page.read_text(encoding="utf-8")).words()
    assert [typeset(a["sentence"]) in words for a in tree["answers"]] == [True, True]
    for warning in tree["warnings"]:
        assert " ".join(typeset(warning).split()) in words
    assert tree["signature"] in words


def test_page_opens_in_chromium_without_a_console_error(report_folder: Path, tmp_path: Path) -> None:
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
            (report_folder / "report.html").as_uri(),
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
    assert sum('tabindex="0"' in mark for mark in marks) == 9
