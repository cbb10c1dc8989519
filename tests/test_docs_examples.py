"""Examples in the documentation, run: Python prints what stands below it, papers compile, command lines parse."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from latex import compiled, need_latex

from xtremex.benchmark.cli import app

ROOT = Path(__file__).resolve().parents[1]
STATISTICS = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", STATISTICS, re.DOTALL)


def _command_lines() -> list[tuple[str, str]]:
    """(page, command line) of every fenced block of shell, comments and continued lines included."""
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            lines = (part.strip() for line in block.splitlines() for part in line.split("&&"))
            found += [(page.name, line) for line in lines if line.startswith("xtremex ")]
    return found


LINES = _command_lines()


def test_examples_are_found() -> None:
    assert len(EXAMPLES) == STATISTICS.count("```python") == 2
    assert {"README.md", "paper.md", "commands.md"} <= {page for page, _ in LINES}


@pytest.mark.parametrize(("code", "shown"), EXAMPLES)
def test_python_prints_what_the_page_shows(code: str, shown: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == shown.split()


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(LINES)])
def test_command_lines_parse(page: str, line: str) -> None:
    """Commands, options and their types exist as written; nothing is run."""
    words = [word for word in shlex.split(line, comments=True)[1:] if word != "..."]
    group = typer.main.get_command(app)
    name, arguments = words[0], words[1:]
    if name.startswith("-"):
        assert name == "--version"
        return
    command = group.commands[name]  # type: ignore[attr-defined]
    command.make_context(name, arguments)  # raises for what it does not know


def test_an_unknown_option_would_be_seen() -> None:
    command = typer.main.get_command(app).commands["report"]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="No such option"):
        command.make_context("report", ["runs/mini", "--fast"])


def test_the_paper_of_the_page_compiles(report_folder: Path, tmp_path: Path) -> None:
    """With citations resolved: as it stands, beside ``runs/``."""
    need_latex()
    shutil.copytree(report_folder, tmp_path / "runs" / "mini")
    [source] = re.findall(r"```latex\n(.*?)```", PAPER, re.DOTALL)
    paper = tmp_path / "paper.tex"
    paper.write_text(source, encoding="utf-8")
    [steps] = re.findall(r"```bash\n(pdflatex .*?)\n```", PAPER)
    programs = [step.split() for step in steps.split(" && ")]
    assert {name for _, name in programs} == {"paper"}
    log = compiled(paper, tuple(program for program, _ in programs))
    assert "Output written" in log and not re.findall(r"(?:Citation|Reference) .* undefined", log)
