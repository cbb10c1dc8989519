r"""A sample paper that inputs every table and figure of a report, at the widths of ACL: 16 cm, and columns of 7.7 cm.

In two columns a table is a ``table*`` unless it is listed to fit a column.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import pytest
from demo_xtreme import write_xtreme_demo
from latex import compiled, need_latex
from made_results import made_results, with_ladder
from report_pages import no_figures

from xtremex.analysis.report import rebuild, write_report

TOLERANCE = 1.0
"""Points by which TeX may overfill a line; the eye sees none of it."""

HEAD = r"""\documentclass[11pt,%s]{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,graphicx}
\usepackage[a4paper,textwidth=16cm,textheight=24.7cm]{geometry}
\setlength{\columnsep}{0.6cm}
\begin{document}
\typeout{WIDTHS \the\textwidth\space\the\columnwidth}
Text before the floats.
"""


@pytest.fixture(scope="module")
def nine_targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of the nine targets of XTREME, official averages and layers included, for two pairs of arms."""
    folder = tmp_path_factory.mktemp("nine")
    write_xtreme_demo(folder, seeds=2, examples=100, languages=("en", "de", "zh"))
    with no_figures():
        rebuild(folder)
    return folder


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four arms, ten intermediates, nine targets and forty languages of twenty families: the longest tables and figures."""
    folder = tmp_path_factory.mktemp("full")
    conditions = (
        "anli",
        "qqp",
        "squad",
        "hellaswag",
        "cosmosqa",
        "commonsenseqa",
        "mnli",
        "ccg",
        "panx",
        "all-tasks",
    )
    targets = ("xnli", "pawsx", "udpos", "panx", "xquad", "mlqa", "tydiqa", "bucc2018", "tatoeba")
    arms = ("text", "distilled", "scrambled", "vision")
    results = with_ladder(made_results(arms=arms, conditions=conditions, targets=targets))
    languages = tuple(
        dataclasses.replace(
            x, language=f"{x.language}{k}", name=f"{x.name} {k}", family=f"{x.family} {k % 4}"
        )
        for x in results.languages
        for k in range(7)
    )
    write_report(dataclasses.replace(results, languages=languages), folder)
    return folder


def _paper(folder: Path, work: Path, columns: int, environments: dict[str, str]) -> dict[str, float]:
    """Compile a paper in ``work``; by float, the points by which it leaves the page or the line (0: none)."""
    need_latex()
    parts = [HEAD % ("twocolumn" if columns == 2 else "onecolumn")]
    for table in sorted((folder / "tables").glob("*.tex")):
        float_ = environments[table.stem] if columns == 2 else "table"
        parts.append(
            rf"\typeout{{FLOAT {table.stem}}}\begin{{{float_}}}\centering\input{{{table}}}"
            rf"\caption{{A table.}}\end{{{float_}}}\clearpage"
        )
    # as wide as the text, a long figure is higher than a page: there it takes the height it has
    size = r"width=\linewidth" + (r",height=.9\textheight,keepaspectratio" if columns == 1 else "")
    for figure in sorted((folder / "figures").glob("*.pdf")):
        parts.append(
            rf"\typeout{{FLOAT {figure.stem}.pdf}}\begin{{figure}}\centering"
            rf"\includegraphics[{size}]{{{figure}}}\caption{{A figure.}}\end{{figure}}\clearpage"
        )
    source = work / f"paper{columns}.tex"
    source.write_text("\n".join([*parts, r"\typeout{FLOAT end}\end{document}"]), encoding="utf-8")
    log = compiled(source)
    [widths] = re.findall(r"^WIDTHS ([\d.]+)pt ([\d.]+)pt", log, re.MULTILINE)
    # a TeX point is 1/72.27 inch
    cm = [float(width) / 72.27 * 2.54 for width in widths]
    assert cm == pytest.approx([16.0, 7.7] if columns == 2 else [16.0, 16.0], abs=0.01)
    worst = {}
    for name, told in re.findall(r"^FLOAT (\S+)$(.*?)(?=^FLOAT |\Z)", log, re.MULTILINE | re.DOTALL):
        sizes = re.findall(
            r"Overfull \\hbox \(([\d.]+)pt too wide\)|Float too large for page by ([\d.]+)pt", told
        )
        worst[name] = max((float(wide or tall) for wide, tall in sizes), default=0.0)
    return worst


IN_COLUMN = frozenset(
    {
        *("failures", "grand", "means", "placebo_difference", "power"),
        *("replicability", "retention", "secondary", "trend"),
    }
)
"""Tables that fit a column of 7.7 cm; the others are ``table*``."""


def _environment(table: Path) -> str:
    """By the list above, with the pair's or the part's suffix aside; the file says the same in its first lines."""
    column = table.stem.partition("-")[0] in IN_COLUMN
    assert ("fits a column" in table.read_text(encoding="utf-8")) == column, table.stem
    return "table" if column else "table*"


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("which", ["report_folder", "nine_targets", "full_size"])
def test_no_table_or_figure_leaves_the_page(
    which: str, columns: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(which)
    environments = {table.stem: _environment(table) for table in (folder / "tables").glob("*.tex")}
    stems = list(environments)
    assert len(stems) >= 5 and (which != "full_size" or set(stems) >= IN_COLUMN - {"means"})
    overfull = _paper(folder, tmp_path, columns, environments)
    figures = [f"{figure.stem}.pdf" for figure in (folder / "figures").glob("*.pdf")]
    assert set(overfull) == {*stems, *figures, "end"}
    assert {name: width for name, width in overfull.items() if width > TOLERANCE} == {}


def test_the_paper_sees_what_is_too_wide(report_folder: Path, tmp_path: Path) -> None:
    """The map in one column, and a table twice as high as a page: otherwise silence would mean nothing."""
    folder = tmp_path / "report"
    (folder / "tables").mkdir(parents=True)
    whole = (report_folder / "tables" / "effects.tex").read_text(encoding="utf-8")
    (folder / "tables" / "effects.tex").write_text(whole, encoding="utf-8")
    (folder / "tables" / "high.tex").write_text("\\rule{1cm}{30cm}", encoding="utf-8")
    overfull = _paper(folder, tmp_path, 2, dict.fromkeys(("effects", "high"), "table"))
    assert overfull["effects"] > 5 and overfull["high"] > 100


@pytest.mark.parametrize("size", [10, 11])
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_methods_stay_in_their_lines(report_folder: Path, tmp_path: Path, columns: str, size: int) -> None:
    """In an article as LaTeX sets it up, first with the citations as keys, then as authors and years."""
    need_latex()
    for name in ("methods.tex", "references.bib"):
        shutil.copy(report_folder / name, tmp_path)
    source = tmp_path / "paper.tex"
    source.write_text(
        rf"\documentclass[{size}pt,{columns}]{{article}}\usepackage{{natbib}}"
        r"\begin{document}\typeout{STRETCH \the\emergencystretch}\input{methods}\typeout{STRETCH \the\emergencystretch}"
        r"\bibliographystyle{plainnat}\bibliography{references}\end{document}",
        encoding="utf-8",
    )
    for log in (compiled(source), compiled(source, ("bibtex", "pdflatex", "pdflatex"))):
        wide = [float(x) for x in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
        assert max(wide, default=0.0) <= TOLERANCE
        # the paper keeps its own settings
        before, after = re.findall(r"^STRETCH (\S+)$", log, re.MULTILINE)
        assert before == after
