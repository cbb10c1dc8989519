"""What commands say at the terminal: ways out of failures, and what a user has to keep."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import ModuleType

import pytest
from demo_outcomes import TARGETS, write_demo
from small_suite import write_small

from xtremex.analysis import export as export_module
from xtremex.analysis import report as report_module
from xtremex.benchmark.cli import app
from xtremex.errors import XtremexError


@pytest.mark.parametrize(
    ("module", "arguments", "way"),
    [(report_module, ["report"], "copy the folder"), (export_module, ["export", "--format", "csv"], "--to")],
)
def test_a_write_protected_folder_is_told_with_a_way_out(
    module: ModuleType, arguments: list[str], way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither command has ``--out``, which the store's message names."""
    folder = write_demo(
        tmp_path,
        arms=("text", "vision"),
        conditions=("none", "nli"),
        targets=TARGETS[:2],
        languages=("en", "de"),
    )

    def refuse(**_: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder / ".made"))

    monkeypatch.setattr(module.tempfile, "mkdtemp", refuse)
    with pytest.raises(XtremexError, match=r"cannot be written: Read-only file system") as caught:
        app([arguments[0], str(folder), *arguments[1:]], standalone_mode=False)
    assert way in caught.value.hint and "--out" not in caught.value.hint
    assert not list(folder.glob("report.*"))


def test_a_registration_shows_its_hash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The path alone on stdout, for scripts; the hash, which somebody else should have, beside."""
    arguments = [
        "preregister",
        str(write_small(tmp_path)),
        "--out",
        str(tmp_path / "runs"),
        "--device",
        "cpu",
    ]
    app(arguments, standalone_mode=False)
    first = capsys.readouterr()
    path = tmp_path / "runs" / "small" / "preregistration.json"
    assert first.out == f"{path}\n"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["sha256"] in first.err and content["registered"] in first.err
    assert f"{len(content['hypotheses'])} hypotheses" in first.err and "before test scores" in first.err
    app(arguments, standalone_mode=False)
    assert capsys.readouterr() == first
    path.unlink()
    (path.parent / "report.json").write_text("{}", encoding="utf-8")
    app([*arguments, "--late"], standalone_mode=False)
    assert "nothing is confirmatory" in capsys.readouterr().err
