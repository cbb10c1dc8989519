"""Documentation that cannot rot: every command, option, suite key and stage key is written down, links lead somewhere."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from xtremex.benchmark import suite
from xtremex.benchmark.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _commands() -> dict[str, list[str]]:
    """Command name -> its options, as typer sees them."""
    import typer

    group = typer.main.get_command(app)
    return {
        name: [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        for name, command in group.commands.items()  # type: ignore[attr-defined]
    }


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    commands = _commands()
    assert {"run", "plan", "list", "check", "report"} <= set(commands)
    for name, options in commands.items():
        assert f"## `xtremex {name}" in page, name
        for option in options:
            assert option in page, f"{name} {option}"


@pytest.mark.parametrize("cls", [suite.Stage, suite.SuiteFile, suite.Analysis])
def test_every_key_of_a_suite_is_documented(cls: type) -> None:
    page = (ROOT / "docs" / "suites.md").read_text()
    for field in dataclasses.fields(cls):
        assert re.search(rf"`\[*{field.name}(\.[A-Z]+)?\]*`", page), field.name


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


def test_the_readme_names_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert 'pip install ".[mini]" && xtremex run' in text
    assert 'pip install ".[test]" && pytest' in text
