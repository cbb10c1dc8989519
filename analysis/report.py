"""Write the report: `report.{html,md,json}`, `methods.tex`, `references.bib`, `tables/*.tex`, `figures/*.{pdf,svg}`.

Everything is made in a folder of its own and renamed into place when all of it exists: a build that fails
leaves the earlier report as it was. The same results give the same bytes.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from . import (
    benchmark_tables,
    failure_tables,
    paper_tables,
    score_tables,
    secondary_tables,
    tables,
    task_tables,
)
from .bibliography import bibtex
from .figures import write_figures
from .latex import latex_methods, latex_table, pages
from .outline import Outline
from .page import Page, build
from .power_panel import power
from .render import environment
from .results import Results

__all__ = ["rebuild", "write_report"]

_DIGITS = 10
"""Significant digits of `report.json`: beyond them, machines differ."""

_PARTS = ("tables", "figures")


def rebuild(folder: Path) -> Path:
    """Analyse the outcomes in ``folder`` and write the report there; return the path of `report.html`.

    Needs only `suite.json`, `outcomes/*.parquet` and the core install.

    Raises
    ------
    AnalysisError, DataError, ArtifactError
        As :func:`~.effects.analyse` does; an earlier report stays as it is.
    """
    # reading outcomes imports pyarrow; a report of results at hand does not need it
    from .effects import analyse

    return write_report(analyse(folder), folder)


def write_report(results: Results, folder: Path) -> Path:
    """Write the report of ``results`` into ``folder`` (made where absent); return the path of its page."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    outline = Outline.of(results)
    page, figures = build(outline)
    beside = Path(tempfile.mkdtemp(prefix=".report-", dir=folder))
    try:
        for part in _PARTS:
            (beside / part).mkdir()
        write_figures(figures, beside / "figures")
        for name, source in _latex(outline).items():
            _write(beside / "tables" / f"{name}.tex", source)
        _write(beside / "methods.tex", latex_methods(page.methods, page.signature))
        _write(beside / "references.bib", bibtex(page.references))
        _write(beside / "report.json", json_text(results))
        _write(beside / "report.md", _markdown(page))
        _write(beside / "report.html", _html(page))
        _move(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder / "report.html"


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8", newline="\n")


def _move(beside: Path, folder: Path) -> None:
    """Rename every file into place; drop figures and tables that this build no longer has.

    `report.json` comes last: where it says that it is up to date, everything else is.
    """
    made = {part: sorted(p.name for p in (beside / part).iterdir()) for part in _PARTS}
    for part, names in made.items():
        (folder / part).mkdir(exist_ok=True)
        for name in names:
            os.replace(beside / part / name, folder / part / name)
    for part, names in made.items():
        for old in sorted((folder / part).iterdir()):
            if old.name not in names and _ours(old):
                old.unlink()
    for name in ("methods.tex", "references.bib", "report.md", "report.html", "report.json"):
        os.replace(beside / name, folder / name)


_OURS = {
    "tables": (
        *(
            "conditions",
            "effects",
            "failures",
            "gains",
            "grand",
            "layers",
            "means",
            "placebo_difference",
            "power",
            "replicability",
            "retention",
        ),
        *("scores", "secondary", "trend", "xtreme", "xtreme_groups"),
    ),
    "figures": (
        "dose",
        "effect_map",
        "forest_languages",
        "gains",
        "layers",
        "power",
        "retention",
        "variance",
    ),
}
_SUFFIXES = {"tables": (".tex",), "figures": (".pdf", ".svg")}


def _ours(path: Path) -> bool:
    """Whether a build names its own files so (``gains.tex``, ``gains-PAIR.tex``, ``gains-part2.tex``); others stay."""
    part = path.parent.name
    known = any(path.stem == name or path.stem.startswith(f"{name}-") for name in _OURS[part])
    return known and path.suffix in _SUFFIXES[part] and path.is_file()


_PER_PAIR = (
    tables.effects_map,
    paper_tables.means_paper,
    partial(paper_tables.derived_paper, role="placebo-difference"),
    partial(paper_tables.derived_paper, role="trend"),
    partial(secondary_tables.secondary, role="primary"),
    secondary_tables.replicability,
    tables.gains,
    score_tables.scores,
    score_tables.retention,
    power,
    failure_tables.failures,
    benchmark_tables.benchmark,
    benchmark_tables.benchmark_groups,
    benchmark_tables.layers,
)


def _latex(outline: Outline) -> dict[str, str]:
    """File stem -> source. Answers in one table; the larger ones per pair, in parts that a page holds each."""
    made = {"grand": paper_tables.grand_paper(outline), "conditions": task_tables.conditions_paper(outline)}
    for pair in outline.pairs:
        own = outline.only(pair)
        for make in _PER_PAIR:
            table = make(own)
            for number, part in enumerate(pages(table), 1):
                file = outline.file(table.name, pair)
                made[file if number == 1 else f"{file}-part{number}"] = part
    return {
        file: latex_table(table, outline.results.signature, file) for file, table in made.items() if table
    }


def _markdown(page: Page) -> str:
    return environment("markdown").get_template("report.md.j2").render(page=page)


def _html(page: Page) -> str:
    return environment("html").get_template("report.html.j2").render(page=page)


def _plain(value: Any) -> Any:
    """Floats at ten significant digits; what JSON cannot say (NaN, infinity) as null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.{_DIGITS}g}")
        return short if short else 0.0
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def json_text(results: Results) -> str:
    """`report.json`: the tree of :class:`~.results.Results`, keys sorted."""
    return (
        json.dumps(_plain(results.to_json()), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        + "\n"
    )
