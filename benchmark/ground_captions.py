"""The caption sets that `xtremex ground` takes: built in, a user's folder, and the image-text tasks."""

from __future__ import annotations

from dataclasses import replace
from hashlib import file_digest
from pathlib import Path

from ..errors import DataError, SuiteError, unknown
from ..models.captions import Captions, CaptionSet, OpenMoji
from ..models.captions_folder import read_folder
from ..models.pictures import is_file
from ..models.recipe import GroundingConfig
from ..tasks.catalogue import tasks
from ..tasks.places import Pins, Places
from ..tasks.sources import located, missing

__all__ = ["captions_of"]


def captions_of(spec: str, languages: tuple[str, ...], data: Path | None) -> CaptionSet:
    """The caption set of ``openmoji``, ``folder:PATH`` or ``task:NAME``, in ``languages`` of it (none: the set's own).

    Raises ``SuiteError`` for another specification, ``DataError`` for captions that cannot be used or are not here.
    """
    kind, _, rest = spec.partition(":")
    if spec == "openmoji":
        return OpenMoji(languages or GroundingConfig.languages)
    if kind == "folder" and rest:
        return read_folder(Path(rest).expanduser(), languages)
    if kind == "task" and rest:
        return _of_task(rest, languages, data)
    raise SuiteError(
        f"--captions {spec}: no such caption set",
        "known: openmoji, folder:PATH (images with captions.jsonl), task:NAME (an image-text task)",
    )


def _of_task(name: str, languages: tuple[str, ...], data: Path | None) -> Captions:
    """The test set of an image-text task; such tasks have no other. Pictures are joined over languages by their content."""
    task = tasks().get(name)
    known = [other for other in tasks().names() if tasks().get(other).kind == "image-text"]
    if task.kind != "image-text":
        raise SuiteError(
            f"task `{name}` is of kind `{task.kind}`, and has no pictures", f"known: {', '.join(known)}"
        )
    for language in languages:
        if language not in task.languages:
            raise unknown(f"language of task `{name}`", language, task.languages, "--languages")
    task = replace(task, languages=languages or task.languages)
    places = Places(data, Pins.read(Path("runs") / "fetched.json"))
    absent = missing([task], places)
    if absent:
        raise DataError(
            f"captions of {'; '.join(absent)}",
            "`xtremex fetch` of a suite with that target brings them; or lay a copy below --data DIR",
        )
    task = located(task, places)
    of: dict[str, dict[str, list[str]]] = {}
    contents: dict[str, str] = {}
    where: dict[str, str] = {}
    keys: dict[str, str] = {}
    for language in task.languages:
        for example in task.source.load(task, "test", language):
            if example.image not in keys:
                keys[example.image] = key = _content(example.image, name)
                where[key], contents[key] = example.image, key
            texts = of.setdefault(keys[example.image], {}).setdefault(language, [])
            if example.caption not in texts:
                texts.append(example.caption)
    return Captions(f"task {name}", of, contents, where, task.languages)


def _content(picture: str, task: str) -> str:
    if not is_file(picture):
        return picture  # the name of a drawing
    try:
        with open(picture, "rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError:
        raise DataError(
            f"task `{task}`: no picture {picture}",
            "lay the pictures beside the captions, under the paths they name",
        ) from None
