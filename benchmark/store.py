"""The store: content-addressed folders, written beside and renamed, complete when their manifest is there.

    store/<kind>/<key>/manifest.json     written last; holds the digest and size of every other file
    store/aside/                         artifacts whose digests did not hold, kept for inspection
    store/locks/, store/tmp/             one lock per job in work; unfinished folders

Two processes on one store do no harm: a job is computed under its lock, and the first complete folder stays.
Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import ArtifactError, XtremexError

__all__ = ["Artifact", "DamagedArtifact", "Store", "canonical", "digest", "told"]

MANIFEST = "manifest.json"


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same text for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def told(error: OSError, where: Path) -> XtremexError | None:
    """A full or write-protected disk as an error that says how to go on; None for any other failure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return XtremexError(
            f"{where}: the disk is full",
            "finished steps are kept: free some space and run the same command again to go on",
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return XtremexError(f"{where}: cannot be written: {error}", "choose another folder with --out")
    return None


class DamagedArtifact(ArtifactError):
    """A stored artifact that cannot be trusted; knows its address, so that it can be set aside and made again."""

    def __init__(self, message: str, kind: str, key: str) -> None:
        super().__init__(message, "it is set aside and made again")
        self.kind = kind
        self.key = key

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.kind, self.key)


@dataclass(frozen=True)
class Artifact:
    """A complete folder in the store."""

    kind: str
    key: str
    path: Path
    manifest: dict[str, Any]

    @property
    def meta(self) -> dict[str, Any]:
        """What the job recorded about itself: seconds, attempt, dev scores, fingerprint ..."""
        return self.manifest["meta"]

    def file(self, name: str) -> Path:
        """The path of a file after its digest was verified; ``DamagedArtifact`` when it does not hold."""
        path = self.path / name
        expected = self.manifest["files"].get(name)
        if expected is None:
            raise DamagedArtifact(f"{self.path}: the manifest lists no file `{name}`", self.kind, self.key)
        try:
            actual = file_digest(path)
        except OSError as error:
            raise DamagedArtifact(f"{path}: cannot be read: {error}", self.kind, self.key) from None
        if actual != expected["sha256"]:
            raise DamagedArtifact(f"{path}: the content does not match its digest", self.kind, self.key)
        return path


class Store:
    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, key: str) -> Path:
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artifact is complete (its manifest exists); digests are verified when a file is read."""
        return (self.folder(kind, key) / MANIFEST).is_file()

    def get(self, kind: str, key: str) -> Artifact:
        """The artifact; ``DamagedArtifact`` when it is absent or its manifest is unreadable."""
        path = self.folder(kind, key)
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DamagedArtifact(f"{path}: the manifest cannot be read: {error}", kind, key) from None
        if (
            not isinstance(manifest, dict)
            or manifest.get("key") != key
            or not {"files", "meta"} <= manifest.keys()
        ):
            raise DamagedArtifact(
                f"{path}: the manifest belongs to another artifact or is damaged", kind, key
            )
        return Artifact(kind, key, path, manifest)

    def lock(self, key: str) -> FileLock:
        """The lock under which a job is computed; the system frees it when the process dies."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{key}.lock")

    def put(self, kind: str, key: str, write: Callable[[Path], dict[str, Any]]) -> Artifact:
        """Make an artifact: ``write(folder)`` fills an empty folder and returns the meta data.

        The folder is renamed into place after its manifest; a reader never sees half of it. Where another process was
        faster, its artifact stays and ours is dropped.
        """
        temporary = self.root / "tmp" / f"{key[:16]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            meta = write(temporary)
            listed = {
                path.relative_to(temporary).as_posix(): {
                    "sha256": file_digest(path),
                    "bytes": path.stat().st_size,
                }
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            }
            manifest = {"format": 1, "kind": kind, "key": key, "files": listed, "meta": meta}
            with (temporary / MANIFEST).open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1, sort_keys=True, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            final = self.folder(kind, key)
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if not self.has(kind, key):  # a folder without a manifest: somebody's leftovers
                    self.set_aside(kind, key)
                    temporary.rename(final)
        except OSError as error:
            raise told(error, self.root) or error from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return self.get(kind, key)

    def set_aside(self, kind: str, key: str) -> Path | None:
        """Move a damaged artifact out of the way, so that it is made again; returns where it went."""
        target = self.root / "aside" / f"{kind}-{key[:16]}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.folder(kind, key).rename(target)
        except FileNotFoundError:
            return None
        return target

    def sweep(self) -> None:
        """Remove unfinished folders of processes that no longer live on this machine."""
        for path in (self.root / "tmp").glob("*-*-*"):
            owner = path.name.rsplit("-", 2)[1]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(path, ignore_errors=True)
