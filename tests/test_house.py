"""The house: what ships, what imports what, and how quickly it answers."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("adapters", "analysis", "benchmark", "models", "tasks")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_folder_with_code_is_a_listed_package() -> None:
    folders = {
        p.parent.relative_to(ROOT).as_posix() for room in ROOMS for p in (ROOT / room).rglob("__init__.py")
    }
    listed = {
        name.removeprefix("xtremex.").replace(".", "/")
        for name in PYPROJECT["tool"]["setuptools"]["packages"]
    }
    assert folders == listed - {"xtremex"}


def test_rooms_import_each_other_relatively() -> None:
    """`from xtremex.tasks import x` inside the package would import a second copy in an odd checkout."""
    for path in (p for room in ROOMS for p in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in {"xtremex", *ROOMS}, f"{path}: {name}"


def test_no_file_is_longer_than_its_ceiling() -> None:
    long = {
        str(p): n
        for room in ROOMS
        for p in (ROOT / room).rglob("*.py")
        if (n := len(p.read_text().splitlines())) > 400
    }
    assert not long


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_the_package_loads_no_torch() -> None:
    done = _python(
        "import xtremex, sys; assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr


def test_reading_results_and_planning_load_no_torch() -> None:
    done = _python(
        "import sys, xtremex.analysis.report, xtremex.analysis.effects\n"
        "from xtremex.benchmark.run import Options, plan_suite\n"
        "plan_suite('mini', Options(device='cpu', precision='fp32'))\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
    )
    assert done.returncode == 0, done.stderr


def test_help_answers_at_once() -> None:
    """Best of five: the bar is 0.3 s on an idle machine; a busy one gets three tries' worth of luck, not a wider bar."""
    command = [sys.executable, "-m", "xtremex", "--help"]
    times = []
    for _ in range(8):
        started = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - started)
    assert "Usage: " in done.stdout and "run" in done.stdout
    assert min(times) < 0.3, times


@pytest.mark.timeout(300)
def test_the_wheel_ships_exactly_the_tree(tmp_path: Path) -> None:
    """Built from a clean copy: an in-tree build/ would ship deleted modules again."""
    clean = tmp_path / "clean"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(lambda n: (ROOT / n).is_file(), listed.stdout.splitlines()):
        target = clean / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(clean),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PIP_NO_INDEX": "1"}
    )
    if "No module named 'setuptools'" in done.stderr or "BackendUnavailable" in done.stderr:
        pytest.skip("setuptools is not installed in this environment: pip install setuptools wheel")
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("xtremex-*.whl"))) as wheel:
        shipped = {n for n in wheel.namelist() if ".dist-info/" not in n}
    expected = {f"xtremex/{n}" for n in ("__init__.py", "__main__.py", "door.py", "errors.py", "py.typed")}
    for room in ROOMS:
        expected |= {
            f"xtremex/{p.relative_to(clean).as_posix()}" for p in (clean / room).rglob("*") if p.is_file()
        }
    assert shipped == expected
