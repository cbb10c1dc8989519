"""LaTeX for tests: compile a document and read its log; skip where TeX is absent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

__all__ = ["compiled", "need_latex"]


def need_latex() -> None:
    """Skip the test unless pdflatex and BibTeX are installed."""
    if shutil.which("pdflatex") is None or shutil.which("bibtex") is None:
        pytest.skip("pdflatex is absent: apt-get install texlive-latex-base texlive-latex-recommended")


def compiled(source: Path, steps: tuple[str, ...] = ("pdflatex",)) -> str:
    """Run the steps (``pdflatex``, ``bibtex``) on a document in its folder; the log of the last, its lines unbroken.

    Each step has to end well, BibTeX without a warning, and the PDF has to have content.
    """
    log = ""
    for program in steps:
        quiet = ["-interaction=nonstopmode", "-halt-on-error"] if program == "pdflatex" else []
        done = subprocess.run(
            [program, *quiet, source.stem],
            cwd=source.parent,
            env=os.environ | {"max_print_line": "1000"},
            capture_output=True,
            timeout=200,
            check=False,
        )
        log = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, log[-3000:]
        assert program != "bibtex" or "Warning--" not in log, log
    assert source.with_suffix(".pdf").stat().st_size > 10_000
    return log
