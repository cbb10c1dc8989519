"""A report is rebuilt where only the core is installed: no torch, no transformers, none of the extras."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from demo_outcomes import write_demo
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]


def _core() -> dict[str, Distribution]:
    """The distributions that `pip install .` brings, read from the installed packages' own metadata."""
    found: dict[str, Distribution] = {}
    waiting = ["xtremex"]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # another platform's dependency
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    del found["xtremex"]
    return found


@pytest.fixture(scope="module")
def core_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that holds exactly the core: each distribution is linked from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python3*/site-packages"))
    for core in _core().values():
        for top in {file.parts[0] for file in core.files or () if not file.parts[0].startswith("..")}:
            source = Path(str(core.locate_file(top)))
            if source.exists() and not (site / top).exists() and top != "__pycache__":
                (site / top).symlink_to(source)
    (site / "xtremex").symlink_to(ROOT)
    return folder / "bin" / "python"


def _run(python: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-I", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_the_environment_has_no_torch(core_python: Path) -> None:
    assert "ModuleNotFoundError" in _run(core_python, "-c", "import torch").stderr
    assert "ModuleNotFoundError" in _run(core_python, "-c", "import transformers").stderr
    assert sys.version_info[:2] == tuple(
        json.loads(_run(core_python, "-c", "import sys; print(list(sys.version_info[:2]))").stdout)
    )


def test_a_report_is_rebuilt_by_the_core_install(core_python: Path, tmp_path: Path) -> None:
    write_demo(tmp_path)
    done = _run(core_python, "-m", "xtremex", "report", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "intermediate-task training" in done.stdout


def test_training_without_the_extras_names_the_pip_line(core_python: Path, tmp_path: Path) -> None:
    done = _run(core_python, "-m", "xtremex", "run", "mini", "--out", tmp_path / "runs")
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr and 'pip install "xtremex[mini]"' in done.stderr
    assert "Traceback" not in done.stderr
