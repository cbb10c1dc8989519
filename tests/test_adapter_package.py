"""A third party's package: installed with pip, seen through its entry points, and the tutorial made of its files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent / "packages" / "xtremex-tiny"
TUTORIAL = Path(__file__).parents[1] / "docs" / "add-a-backbone.md"
FILES = ("pyproject.toml", "xtremex_tiny/__init__.py", "xtremex_tiny/backbones.toml")

PROBE = """
import json, sys
from xtremex.adapters import adapters
from xtremex.models.catalogue import backbones, get, identity

listed = {"adapters": adapters.names(), "origin": adapters.origin("tiny"), "backbones": list(backbones())}
listed["package"] = get("tiny").package
listed["identity"] = identity(get("tiny"))
listed["early imports"] = [name for name in ("torch", "transformers", "xtremex_tiny") if name in sys.modules]

from xtremex.adapters.contract import check
from xtremex.models.catalogue import load

wide = load(get("tiny-wide"))
listed["info"] = [wide.info.hidden_size, wide.info.licence]
listed["checks"] = {result.name: result.status for result in check(load(get("tiny")))}
print(json.dumps(listed))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which pip installed the package (built from a copy: a build leaves files behind)."""
    source = tmp_path_factory.mktemp("source") / "xtremex-tiny"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)],
        check=True,
        timeout=300,
    )
    return target


def run(code: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_is_listed_and_passes_the_contract(installed):
    listed = json.loads(run(PROBE, installed).splitlines()[-1])
    assert "tiny" in listed["adapters"] and "muse" in listed["adapters"]
    assert listed["origin"] == "xtremex_tiny:TinyEncoder (xtremex-tiny 0.1.0)"
    assert {"tiny", "tiny-wide", "muse"} <= set(listed["backbones"])
    assert listed["package"] == "xtremex-tiny"
    assert "xtremex-tiny 0.1.0" in listed["identity"]["adapter"]
    assert listed["early imports"] == []
    assert listed["info"] == [128, "CC0-1.0"]
    assert len(listed["checks"]) >= 14 and set(listed["checks"].values()) == {"passed"}


def test_two_packages_with_one_backbone_name_are_an_error(installed, tmp_path):
    rival = tmp_path / "rival"
    shutil.copytree(installed / "xtremex_tiny", rival / "xtremex_rival")
    info = rival / "xtremex_rival-2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xtremex-rival\nVersion: 2\n")
    (info / "entry_points.txt").write_text("[xtremex.backbones]\nrival = xtremex_rival\n")
    code = (
        f"import sys; sys.path.append({str(rival)!r})\n"
        "from xtremex.models.catalogue import backbones\n"
        "from xtremex.errors import SuiteError\n"
        "try: backbones()\n"
        "except SuiteError as error: print(error)\n"
    )
    message = run(code, installed)
    assert "`tiny`" in message and "xtremex-tiny" in message and "xtremex-rival" in message


@pytest.mark.parametrize(
    ("entry_point", "expected"),
    [
        ("no_such_package", "no importable package"),
        ("json.decoder", "no importable package"),
        ("empty", "cannot be read"),
    ],
)
def test_a_broken_entry_point_names_itself(tmp_path, entry_point, expected):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").touch()
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[xtremex.backbones]\nbroken = {entry_point}\n")
    code = (
        "from xtremex.models.catalogue import backbones\n"
        "from xtremex.errors import SuiteError\n"
        "try: backbones()\n"
        "except SuiteError as error: print(error)\n"
    )
    message = run(code, tmp_path)
    assert "broken" in message and expected in message


@pytest.mark.parametrize("name", FILES)
def test_the_tutorial_shows_the_files_as_they_are(name):
    blocks = re.findall(r"^```\w+\n(.*?)^```$", TUTORIAL.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert (PACKAGE / name).read_text() in blocks


def test_the_tutorial_package_holds_nothing_else():
    held = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    assert {name for name in held if "__pycache__" not in name} == set(FILES)
