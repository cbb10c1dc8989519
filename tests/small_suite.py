"""A suite that runs in seconds and has everything: two arms, a mixture, trained and zero-shot targets, retention."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xtremex.benchmark.cli import app

SMALL = """
name = "small"
title = "A suite for tests"
notice = "For tests only."
seeds = [0, 1]
languages = ["en", "de", "fa"]
untrained = ["fa"]
targets = ["mini-inference", "mini-entities", "mini-retrieval", "mini-pictures"]

[[pairs]]
name = "muse"
[pairs.arms]
text = { backbone = "muse", grounding = "text" }
vision = { backbone = "muse", grounding = "vision" }

[conditions]
inference = ["mini-quantity"]

[grounding]
steps = 2
batch_size = 8

[intermediate]
steps = 3
batch_size = 4
encoder_lr = 3e-4
head_lr = 5e-3

[target]
steps = 3
batch_size = 4
encoder_lr = 3e-4
head_lr = 5e-3
"""


def write_small(folder: Path, *, replace: dict[str, str] | None = None, append: str = "") -> Path:
    """The small suite as a file, with some of its text replaced (each text must be there) and some appended."""
    text = SMALL
    for old, new in (replace or {}).items():
        assert old in text, old
        text = text.replace(old, new)
    path = folder / "small.toml"
    path.write_text(text + append, encoding="utf-8")
    return path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What the command line prints, in this process."""
    app([*map(str, arguments)], standalone_mode=False)
    return capsys.readouterr().out


def xtremex(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, offline."""
    return subprocess.run(
        [sys.executable, "-m", "xtremex", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
