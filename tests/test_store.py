"""The store: complete or absent, verified on read, never harmed by a second process."""

from __future__ import annotations

import errno
import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pytest

from xtremex.benchmark.store import DamagedArtifact, Store, digest
from xtremex.errors import XtremexError

KEY = digest("a job")


def _write(text: str):
    def write(folder: Path) -> dict[str, Any]:
        (folder / "sub").mkdir()
        (folder / "sub" / "data.txt").write_text(text)
        return {"seconds": 1.0}

    return write


def test_an_artifact_is_there_whole_after_put(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has("train", KEY)
    artifact = store.put("train", KEY, _write("content"))
    assert store.has("train", KEY)
    assert artifact.file("sub/data.txt").read_text() == "content"
    assert artifact.meta == {"seconds": 1.0}
    assert not list((tmp_path / "tmp").iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def broken(folder: Path) -> dict[str, Any]:
        (folder / "half").write_text("half")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        Store(tmp_path).put("train", KEY, broken)
    assert not Store(tmp_path).has("train", KEY)
    assert not list((tmp_path / "tmp").iterdir())


def test_altered_content_is_found_by_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.put("train", KEY, _write("content"))
    (artifact.path / "sub" / "data.txt").write_text("c0ntent")
    with pytest.raises(DamagedArtifact, match="does not match its digest") as caught:
        store.get("train", KEY).file("sub/data.txt")
    assert (caught.value.kind, caught.value.key) == ("train", KEY)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path)
    artifact = store.put("train", KEY, _write("content"))
    (artifact.path / "sub" / "data.txt").unlink()
    with pytest.raises(DamagedArtifact):
        store.get("train", KEY).file("sub/data.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"key": "other", "files": {}, "meta": {}})])
def test_a_damaged_manifest_is_no_artifact(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path)
    store.put("train", KEY, _write("content"))
    (store.folder("train", KEY) / "manifest.json").write_text(text)
    with pytest.raises(DamagedArtifact):
        store.get("train", KEY)


def test_setting_aside_makes_room_and_keeps_the_evidence(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("train", KEY, _write("bad"))
    where = store.set_aside("train", KEY)
    assert where is not None and (where / "sub" / "data.txt").read_text() == "bad"
    assert not store.has("train", KEY)
    assert store.put("train", KEY, _write("good")).file("sub/data.txt").read_text() == "good"


def test_the_first_complete_artifact_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("train", KEY, _write("first"))
    assert store.put("train", KEY, _write("second")).file("sub/data.txt").read_text() == "first"


def test_leftovers_without_a_manifest_are_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.folder("train", KEY).mkdir(parents=True)
    (store.folder("train", KEY) / "junk").write_text("x")
    assert store.put("train", KEY, _write("good")).file("sub/data.txt").read_text() == "good"


def _put_in_child(root: Path, text: str) -> None:
    store = Store(root)
    with store.lock(KEY):
        if not store.has("train", KEY):
            store.put("train", KEY, _write(text))


def test_two_processes_make_one_artifact(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_put_in_child, args=(tmp_path, f"child {i}")) for i in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert Store(tmp_path).get("train", KEY).file("sub/data.txt").read_text().startswith("child ")


def test_a_full_disk_is_told_with_the_way_on(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(XtremexError, match="disk is full") as caught:
        Store(tmp_path).put("train", KEY, full)
    assert "run the same command again" in caught.value.hint


def test_sweeping_removes_what_dead_processes_left(tmp_path: Path) -> None:
    dead = tmp_path / "tmp" / f"{KEY[:16]}-999999999-abc"
    dead.mkdir(parents=True)
    Store(tmp_path).sweep()
    assert not dead.exists()


def test_damage_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DamagedArtifact("broken", "train", KEY)))
    assert (error.message, error.kind, error.key) == ("broken", "train", KEY)
