"""``xtremex.json``: what ``save`` records of an encoder, and how much of it a later ``load`` believes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from ..door import build
from ..errors import ArtifactError, SuiteError
from .base import EncoderInfo

__all__ = ["FILE", "read_json", "recorded", "write_info"]

FILE = "xtremex.json"
RECORDED = ("objective", "init_from", "licence", "text_prefix", "max_length_trained", "revision", "sentence")
"""What a saved folder says of itself in ``xtremex.json`` and neither its weights nor its configuration could tell. All else
is read off the folder again, which somebody may have gone on to train or to edit."""


def write_info(folder: Path, info: EncoderInfo, adapter: str) -> None:
    """Write ``xtremex.json``, the last file of a saved folder: its presence means that the folder is complete."""
    content = {"adapter": adapter, "info": dataclasses.asdict(info)}
    (folder / FILE).write_text(json.dumps(content, indent=1))


def recorded(folder: Path, adapter: str, commit: str | None, *more: str) -> dict[str, Any]:
    """Of what ``save`` recorded in ``folder``, the fields ``RECORDED`` and ``more`` that are not None.

    Empty for a checkpoint from elsewhere, and where another adapter saved it: what is said of the vector of a whole stack
    is not true of the transformer inside. A record that names no adapter (of ``ground``, of older versions) is taken. The
    ``commit`` of a hub repository counts in place of a recorded one.

    Raises:
        ArtifactError: an ``xtremex.json`` that is no record of an encoder, or says what this version does not know.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    content = read_json(path)
    if content.get("adapter", adapter) != adapter:
        return {}
    stated = content.get("info")
    if isinstance(stated, dict):  # JSON has null, which a field with a default is left out for
        stated = {name: value for name, value in stated.items() if value is not None}
    try:
        info = build(EncoderInfo, stated, f"{path}: info")
    except SuiteError as error:
        raise ArtifactError(
            error.message,
            "another version of xtremex wrote the folder, or it was edited: install that version, save the encoder again, "
            "or delete the file, and what only it tells is lost",
        ) from error
    found = {name: getattr(info, name) for name in (*RECORDED, *more)} | (
        {"revision": commit} if commit else {}
    )
    return {name: value for name, value in found.items() if value is not None}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; ``ArtifactError`` where it is unreadable or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}", "download the checkpoint again") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} holds no JSON object", "download the checkpoint again")
    return content
