"""Documentation that cannot rot: every command, option, suite key and stage key is written down, links lead somewhere."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path

import pytest
from datasets import ClassLabel, Features, Value
from made_repository import write_repository
from small_suite import xtremex

from xtremex.adapters import adapters
from xtremex.benchmark import suite
from xtremex.benchmark.cli import app
from xtremex.models.catalogue import Entry
from xtremex.tasks.kinds import kind, kinds
from xtremex.tasks.layouts import LAYOUTS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TASKS = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
BACKBONES = (ROOT / "docs" / "add-a-backbone.md").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("cls", [suite.Stage, suite.SuiteFile, suite.Analysis, suite.Policy])
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


def _named_blocks(page: str) -> dict[str, str]:
    """The files that a page gives in full: their name in backquotes, then a block of JSON or TOML."""
    return dict(re.findall(r"`([\w/.]+\.(?:jsonl|toml))`[^`]*?```(?:json|toml)\n(.*?)```", page, re.DOTALL))


def test_the_example_of_a_repository_is_verified_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's files and a repository as it describes it: `fetch --verify` prints the page's table."""
    [example] = re.findall(r"```\n(\[tasks\..*?)```", TASKS, re.DOTALL)
    [targets] = re.findall(r"With `(targets = .*?)` in the suite", TASKS)
    [command] = re.findall(r"```bash\nxtremex (fetch .*?)\n```", TASKS)
    files = _named_blocks(TASKS)
    files["my_tasks.toml"] += example
    files["my_suite.toml"] = re.sub(r"^targets = .*$", targets, files["my_suite.toml"], flags=re.MULTILINE)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    table = tomllib.loads(example)["tasks"]["my-nli"]
    texts = {"premise": Value("string"), "hypothesis": Value("string")}
    features = Features({**texts, "label": ClassLabel(names=table["labels"])})
    splits = {
        split: [
            {"premise": f"{i} cats sleep.", "hypothesis": "Cats sleep.", "label": i % 3} for i in range(rows)
        ]
        for split, rows in (("train", table["rows"]["train"]), ("test", table["rows"]["test"]))
    }
    write_repository(
        tmp_path / "copies" / table["hub"], {code: splits for code in table["codes"].values()}, features
    )
    monkeypatch.setenv("COLUMNS", "200")  # one line per row
    done = xtremex(*command.split(), "--data", "copies", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    [shown] = re.findall(r"```text\n(task .*?)```", TASKS, re.DOTALL)
    printed = [line.split() for line in done.stdout.splitlines()]
    assert printed[-len(shown.splitlines()) :] == [line.split() for line in shown.splitlines()]


def test_every_kind_is_documented_with_its_metrics_and_every_layout() -> None:
    for name in (name for name in kinds.names() if kinds.origin(name).startswith(".tasks.")):
        row = re.search(rf"^\| `{name}` \|(.*)$", TASKS, re.MULTILINE)
        assert row, name
        assert [m for m in kind(name).metrics if f"`{m}`" not in row[1]] == [], name
    assert [name for name in LAYOUTS if f"`{name}`: " not in TASKS] == []


def test_every_key_of_a_backbone_and_every_adapter_is_documented() -> None:
    cells = re.findall(r"^\| (`.*?) \|", BACKBONES, re.MULTILINE)
    named = set(re.findall(r"`([\w-]+)`", " ".join(cells)))
    assert {field.name for field in dataclasses.fields(Entry)} <= named
    for name in (name for name in adapters.names() if adapters.origin(name).startswith(".adapters.")):
        [options] = re.findall(rf"^\| `{name}` \|.*\|(.*)\|$", BACKBONES, re.MULTILINE)
        taken = inspect.signature(adapters.get(name).load).parameters.values()
        further = {p.name for p in taken if p.kind is p.KEYWORD_ONLY and p.name != "revision"}
        assert {option for option in further if f"`{option}`" not in options} == set(), name
