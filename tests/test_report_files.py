"""The files of the report: complete, the same bytes each time, fit for papers and browsers."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from made_results import made_results
from report_pages import FIGURES, TABLES, Page, digests

from xtremex.analysis import latex
from xtremex.analysis import report as report_module
from xtremex.analysis.report import json_text, rebuild, write_report
from xtremex.analysis.results import Results


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
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is absent: apt-get install texlive-latex-base texlive-latex-recommended")
    folder = request.getfixturevalue(which)
    files = sorted((folder / "tables").glob("*.tex"))
    assert {f.stem for f in files} >= set(TABLES)
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


def test_latex_tables_carry_test_and_signature(report_folder: Path, report: Results) -> None:
    for name in ("grand", "effects"):
        source = (report_folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert "MWV-t, tier T2; seeds 3; Welch-Satterthwaite df" in source and "Holm over" in source
    for name in TABLES:
        source = (report_folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        flat = source.replace(r"\allowbreak{}", "")
        assert latex.escape(report.signature) in flat
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
    assert [a["sentence"] in words for a in tree["answers"]] == [True, True]
    for warning in tree["warnings"]:
        assert " ".join(warning.split()) in words
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
