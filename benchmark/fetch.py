"""Bring what a suite needs from the hub once, pinned; check it against what is published; say what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from ..adapters.layouts import lacking
from ..errors import ArtifactError, DataError, XtremexError
from ..models.catalogue import Backbone, check_loadable
from ..tasks.base import Task
from ..tasks.filesource import FileSource
from ..tasks.hub import HubFiles, check_readable
from ..tasks.parquet import schema
from ..tasks.places import COMMIT, Pin, Pins, Places
from ..tasks.sources import leaves, located, missing
from .hub_client import HubClient, cached_model, reason
from .plan import scored
from .screen import folded, print_table
from .suite import Suite
from .verify import verify_tasks

__all__ = ["fetch", "hub_models", "missing_models", "suite_tasks"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class _Split(NamedTuple):
    """A hub split that a task reads; of one with ``rows`` only so many first rows are needed."""

    config: str
    name: str
    part: str = ""
    rows: int | None = None


@dataclass(frozen=True)
class _Wanted:
    """A data set repository and what of it the tasks read."""

    repo: str
    revision: str
    splits: tuple[_Split, ...]


def fetch(
    suite: Suite,
    places: Places,
    record: Path,
    console: Console,
    *,
    verify: bool = False,
    offline: bool = False,
    convert: bool = False,
) -> bool:
    """Download data sets and backbones of a suite into the hub's cache and pin their commits in the file ``record``.

    A repository is not fetched for a task whose mirror, in the folder of ``places``, holds all that it reads. The pins
    are written after every repository, so that an interrupted fetch goes on where it stopped; one that fails does not
    stop the others, and is named in the table at the end, with everything else that is not here.

    Args:
        places: where data are; its pins are those of the file.
        record: the file of the pins (``Pins.write``).
        verify: check schema, classes and row counts of every (task, split, language) afterwards.
        offline: make no network call; ``ArtifactError`` lists what is missing.
        convert: where a model repository holds only pickled weights, download them and write safetensors beside them in
            the cache. They are read with torch's restricted unpickler, which builds nothing but tensors. Without it
            such a repository fails.

    Returns:
        Whether everything is here (and, with ``verify``, as published).
    """
    tasks = suite_tasks(suite)
    if offline:
        absent = [*missing(tasks, places), *missing_models(hub_models(suite), tasks, places.pins)]
        if absent:
            raise ArtifactError(
                "not on this machine:\n" + "\n".join(f"  {line}" for line in absent),
                f"xtremex fetch {suite.name}  on a machine with a network, into the same cache (HF_HOME)",
            )
        console.print(f"{suite.name}: everything is here", highlight=False)
        fetched = True
    else:
        fetched, places = _fetch(suite, tasks, places, record, console, convert)
    if not verify:
        return fetched
    return verify_tasks([located(task, places) for task in tasks], console) and fetched


def suite_tasks(suite: Suite) -> list[Task]:
    """Targets that some arm can be scored on, and intermediate tasks, each once."""
    found = {task.name: task for members in suite.conditions.values() for task in members}
    # a target in the suite's languages, with its training data, before the same task as an intermediate one
    targets = {task.name: task for task in suite.targets if scored(task, suite)}
    return list({**found, **targets}.values())


def hub_models(suite: Suite) -> list[Backbone]:
    """The backbones whose checkpoint is a repository of the hub."""
    return [
        backbone
        for backbone in suite.backbones.values()
        if _HUB_ID.fullmatch(backbone.checkpoint) and not Path(backbone.checkpoint).expanduser().is_dir()
    ]


def missing_models(models: Iterable[Backbone], tasks: Iterable[Task], pins: Pins) -> list[str]:
    """A line for every one of ``models``, all of the hub, that cannot be loaded for ``tasks`` from the cache as it is."""
    lines, shown = [], _shown(tasks)
    for backbone in models:
        revision = backbone.revision or "main"
        commit = (
            revision if COMMIT.fullmatch(revision) else pins.models.get(f"{backbone.checkpoint}@{revision}")
        )
        folder = cached_model(backbone.checkpoint, commit) if commit else None
        if backbone.unloadable:
            why = f"cannot be loaded yet ({backbone.unloadable})"
        elif folder is None:
            why = "has not been fetched"
        elif absent := _lacking(backbone, folder, shown):
            why = f"lacks {', '.join(absent)}"
        else:
            continue
        lines.append(f"backbone {backbone.name}: {backbone.checkpoint} {why}")
    return lines


def _shown(tasks: Iterable[Task]) -> bool:
    """Whether pictures are scored, which is when a backbone's own image tower is read."""
    return any(task.kind == "image-text" for task in tasks)


def _lacking(backbone: Backbone, folder: Path, shown: bool) -> list[str]:
    return lacking(backbone.adapter, backbone.options, folder, images=backbone.images and shown)


def _wanted(tasks: Iterable[Task], places: Places) -> list[_Wanted]:
    """Every repository once, with the configurations and splits that the tasks read, where no mirror holds them all."""
    found: dict[tuple[str, str], dict[_Split, None]] = {}
    for task in tasks:
        for leaf in leaves(located(task, places)):
            source = leaf.source
            if (
                not isinstance(source, FileSource)
                or not isinstance(source.files, HubFiles)
                or (source.files.mirror and not source.missing())
            ):
                continue
            files = source.files
            splits = found.setdefault((files.repo, files.revision), {})
            for split, languages in source.languages.items():
                for language in languages:
                    config, names = files.names(split, language)
                    for name, part in names:
                        first = files.first_rows(part)
                        wanted = (
                            _Split(config, name) if first is None else _Split(config, name, str(part), first)
                        )
                        splits[wanted] = None
    return [_Wanted(repo, revision, tuple(splits)) for (repo, revision), splits in found.items()]


def _fetch(
    suite: Suite, tasks: list[Task], places: Places, path: Path, console: Console, convert: bool
) -> tuple[bool, Places]:
    wanted = _wanted(tasks, places)
    models = hub_models(suite)
    table = folded("what", "repository", "commit", "files", "result")
    pins, good = places.pins, True
    refused: set[tuple[str, str]] = set()
    if wanted or models:
        client = HubClient()
        for want in wanted:
            console.print(f"{want.repo} ...", highlight=False)
            try:
                pin = _dataset(client, want, pins)
                pins = Pins.update(
                    path, partial(Pins.with_dataset, repo=want.repo, revision=want.revision, pin=pin)
                )
                number = len(
                    {name for splits in pin.files.values() for names in splits.values() for name in names}
                )
                table.add_row("data", want.repo, pin.commit[:12], str(number), "ok")
            except Exception as error:  # whatever one repository does, the others are tried
                good = False
                refused.add((want.repo, want.revision))
                table.add_row("data", want.repo, "-", "-", _why(error), style="red")
        for backbone in models:
            console.print(f"{backbone.checkpoint} ...", highlight=False)
            revision = backbone.revision or "main"
            try:
                check_loadable(backbone)
                pinned = bool(COMMIT.fullmatch(revision))
                commit = revision if pinned else client.model_commit(backbone.checkpoint, revision)
                folder = client.download_model(
                    backbone.checkpoint, commit, backbone.adapter, backbone.options, converting=convert
                )
                if absent := _lacking(backbone, folder, _shown(tasks)):
                    raise DataError(f"{backbone.checkpoint} at {commit[:12]} has no {', '.join(absent)}")
                if not pinned:
                    pin_model = partial(
                        Pins.with_model, repo=backbone.checkpoint, revision=revision, commit=commit
                    )
                    pins = Pins.update(path, pin_model)
                number = sum(p.is_file() for p in folder.rglob("*"))
                table.add_row("backbone", backbone.checkpoint, commit[:12], str(number), "ok")
            except Exception as error:
                good = False
                table.add_row("backbone", backbone.checkpoint, "-", "-", _why(error), style="red")
    places = Places(places.data, pins)
    for line in _absent(tasks, places, refused):
        good = False
        table.add_row("data", "-", "-", "-", line, style="red")
    print_table(table, console)
    return good, places


def _dataset(client: HubClient, want: _Wanted, pins: Pins) -> Pin:
    """The commit and the files of the splits in use, downloaded. A revision stays at the commit pinned first."""
    known = pins.dataset(want.repo, want.revision)
    commit = known.commit if known else client.dataset_commit(want.repo, want.revision)
    files: dict[str, dict[str, tuple[str, ...]]] = {}
    for config in dict.fromkeys(split.config for split in want.splits):
        splits = [split for split in want.splits if split.config == config]
        pinned = known.files.get(config, {}) if known else {}
        there = {} if all(_pinned(split, pinned) for split in splits) else None
        if there is None:
            there = client.dataset_files(want.repo, config, commit, want.revision)
        for split in splits:
            names = _pinned(split, pinned) or there.get(split.name)
            if not names:
                raise DataError(
                    f"the configuration `{config or 'default'}` has no split `{split.name}`",
                    f"known: {', '.join(there)}",
                )
            check_readable(want.repo, names)
            files.setdefault(config, {})[split.name + split.part] = _downloaded(
                client, want.repo, commit, names, split
            )
    return Pin(commit, files)


def _pinned(split: _Split, pinned: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return pinned.get(split.name + split.part, pinned.get(split.name, ()))


def _downloaded(
    client: HubClient, repo: str, commit: str, names: tuple[str, ...], split: _Split
) -> tuple[str, ...]:
    """The files that are needed, brought into the cache: all, or the first ones up to the rows that a slice reads."""
    rows = 0
    for number, name in enumerate(names, 1):
        path = client.download(repo, name, commit)
        if split.rows is not None and path.suffix == ".parquet":
            rows += schema(path)[1]
            if rows >= split.rows:
                return names[:number]
    return names


def _absent(tasks: Iterable[Task], places: Places, refused: set[tuple[str, str]]) -> list[str]:
    """What is still not here, besides repositories that were ``refused``: files of folders, with how to get them."""
    found: list[str] = []
    for task in tasks:
        for leaf in leaves(located(task, places)):
            files = getattr(leaf.source, "files", None)
            if not (isinstance(files, HubFiles) and (files.repo, files.revision) in refused):
                found += missing([leaf], places)
    return list(dict.fromkeys(found))


def _why(error: Exception) -> str:
    if isinstance(error, XtremexError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return reason(error)
