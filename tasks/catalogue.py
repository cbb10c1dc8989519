"""The catalogue of tasks: built-in ones, those of installed packages, and those that a user declares in TOML.

An entry point of the group ``xtremex.tasks`` is either ``"module:TASKS"``, a mapping from names to
:class:`Task`, or ``"package"``, whose folder holds a ``tasks.toml`` in the format of ``docs/add-a-task.md``.
Its name is the provider's.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache, cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SuiteError, XtremexError, nearest, unknown
from .base import SPLITS, Task
from .kinds import kind as kind_of
from .kinds import kinds
from .records import check_columns, fill
from .sources import FolderSource

__all__ = ["TaskTable", "load_tasks", "parse_task", "tasks"]

GROUP = "xtremex.tasks"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TOML = "tasks.toml"
ROLES = ("intermediate", "target")
KEYS: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "root": str,
    "files": (str, dict),
    "languages": list,
    "codes": dict,
    "labels": list,
    "columns": dict,
    "aligned": bool,
    "metrics": list,
    "version": str,
    "licence": str,
    "description": str,
    "source_language": str,
    "train_languages": list,
    "parallel": bool,
    "max_length": int,
    "train_set": str,
    "roles": list,
    "options": dict,
}
"""Keys of a ``[tasks.NAME]`` table and what they hold."""
REQUIRED = ("kind", "files", "languages")
LABELLED = ("classification", "tagging")


class TaskTable:
    """Names -> tasks, materialised on first use: the mini suite's, then those of entry points."""

    def __init__(self, builtin: str, group: str) -> None:
        self._points = [EntryPoint("xtremex", builtin, group), *entry_points(group=group)]

    @cached_property
    def _table(self) -> dict[str, tuple[Task, str]]:
        table: dict[str, tuple[Task, str]] = {}
        for point in self._points:
            origin = f"{point.value} ({point.dist.name})" if point.dist else point.value
            for name, task in _provided(point).items():
                if name in table:
                    raise SuiteError(
                        f"two tasks are named `{name}`: one of `{table[name][1]}`, one of `{origin}`",
                        f"uninstall one of the packages, or rename its task (entry-point group `{GROUP}`)",
                    )
                table[name] = task, origin
        return table

    def names(self) -> list[str]:
        return sorted(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def get(self, name: str) -> Task:
        """The task of that name; raises ``UnknownName`` with its neighbours."""
        if name not in self._table:
            raise unknown("task", name, self._table)
        return self._table[name][0]

    def origin(self, name: str) -> str:
        """Where the task comes from: the entry point's value, and the distribution if a third party's."""
        self.get(name)
        return self._table[name][1]


@cache
def tasks() -> TaskTable:
    """The catalogue; nothing is imported before a name is asked for."""
    return TaskTable(f"{__package__}.mini:TASKS", GROUP)


def _provided(point: EntryPoint) -> Mapping[str, Task]:
    module, _, attribute = point.value.partition(":")
    if attribute:
        provided = getattr(import_module(module), attribute)
        if not isinstance(provided, Mapping):
            raise SuiteError(
                f"entry point `{point.name}` of group `{GROUP}`: `{point.value}` is no mapping of tasks",
                f'name a mapping ("module:TASKS"), or a package that holds a `{TOML}` ("package")',
            )
        return provided
    spec = find_spec(module)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        if (Path(folder) / TOML).is_file():
            return load_tasks(Path(folder) / TOML)
    raise SuiteError(
        f"entry point `{point.name}` of group `{GROUP}`: the package `{module}` holds no `{TOML}`",
        f"ship `{TOML}` as package data of `{module}`",
    )


def load_tasks(path: Path) -> dict[str, Task]:
    """The tasks of a TOML file with tables ``[tasks.NAME]``; relative roots start at the file's folder.

    No data are read. Raises ``SuiteError`` naming file and key for anything that is not understood.
    """
    path = Path(path)
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise SuiteError(
            f"{path}: the task file cannot be read ({error.strerror})", "check `task_files` of the suite"
        ) from error
    for key in declared:
        if key != "tasks":
            raise SuiteError(f"{path}: unknown key `{key}`", "a task file holds tables [tasks.NAME]")
    tables = declared.get("tasks")
    if not isinstance(tables, dict) or not tables:
        raise SuiteError(f"{path}: no task is declared", "add a table [tasks.NAME]; see docs/add-a-task.md")
    return {
        name: parse_task(name, table, f"{path}: tasks.{name}", path.parent) for name, table in tables.items()
    }


def parse_task(name: str, mapping: Mapping[str, Any], where: str, base_dir: Path) -> Task:
    """A task from its table; ``where`` names file and table in errors, ``base_dir`` is where a relative root
    starts.

    Raises ``SuiteError`` for unknown or missing keys, values of another type, unknown kinds, metrics,
    columns, options or placeholders, with the nearest valid names.
    """
    if not NAME.fullmatch(name):
        raise SuiteError(
            f"{where}: `{name}` cannot be a task's name",
            "use letters, digits, `.`, `_` and `-`: it becomes a file name",
        )
    _check_keys(mapping, where)
    kind_name = mapping["kind"]
    if kind_name not in kinds.names():
        raise SuiteError(f"{where}: unknown kind `{kind_name}`", nearest(kind_name, kinds.names()))
    try:
        kind = kind_of(kind_name)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{where}: the kind `{kind_name}` needs `{error.name}`, which is not installed",
            'pip install "xtremex[train]"',
        ) from None
    trained = hasattr(kind, "head")
    columns = dict(mapping.get("columns", {}))
    check_columns(kind_name, columns, where)

    source_language = mapping.get("source_language", "en")
    languages = _strings(mapping, "languages", where)
    if source_language in languages:
        languages = (source_language, *(language for language in languages if language != source_language))
    train_languages = _strings(mapping, "train_languages", where, (source_language,) if trained else ())
    if train_languages and not trained:
        raise SuiteError(f"{where}: kind `{kind_name}` trains nothing", "remove `train_languages`")
    train_set = mapping.get("train_set", "")
    files = _files(mapping["files"], trained and not train_set, where)
    labels = _strings(mapping, "labels", where, ())
    if kind_name in LABELLED and not labels:
        raise SuiteError(f"{where}: kind `{kind_name}` needs `labels`", 'labels = ["...", "..."]')
    options = dict(mapping.get("options", {}))
    metrics = _strings(mapping, "metrics", where, kind.metrics)
    for what, given, known in (
        ("metric", metrics, kind.metrics),
        ("option", options, kind.options),
        ("role", _strings(mapping, "roles", where, ()), ROLES),
    ):
        for item in given:
            if item not in known:
                raise SuiteError(f"{where}: kind `{kind_name}` has no {what} `{item}`", nearest(item, known))
    if "max_length" in mapping and mapping["max_length"] < 1:
        raise SuiteError(f"{where}: max_length = {mapping['max_length']}", "a number of tokens, 1 or more")

    # what is read without being listed counts too: dev in the source language, the other side of aligned texts
    dev_languages = train_languages if trained else languages
    if trained or mapping.get("aligned", False):
        dev_languages = tuple(dict.fromkeys((*dev_languages, source_language)))
    test_languages = (*languages, source_language) if mapping.get("aligned", False) else languages
    used = {"train": train_languages, "dev": dev_languages, "test": tuple(dict.fromkeys(test_languages))}
    source = FolderSource(
        root=_root(mapping.get("root", "."), base_dir),
        files=files,
        languages={split: used[split] for split in SPLITS if split in files and used[split]},
        columns=columns,
        codes=_codes(mapping.get("codes", {}), (*languages, *train_languages), where),
        aligned=mapping.get("aligned", False),
    )
    return Task(
        name=name,
        kind=kind_name,
        source=source,
        version=mapping.get("version", "1"),
        licence=mapping.get("licence", "unknown"),
        languages=languages,
        metrics=metrics,
        labels=labels,
        description=mapping.get("description", ""),
        source_language=source_language,
        train_languages=train_languages,
        parallel=mapping.get("parallel", False),
        max_length=mapping.get("max_length", 128),
        train_set=train_set,
        roles=_strings(mapping, "roles", where, _roles(files, trained, train_set)),
        options=options,
    )


def _check_keys(mapping: Mapping[str, Any], where: str) -> None:
    if not isinstance(mapping, Mapping):
        raise SuiteError(f"{where}: a task is a table, not {mapping!r}", "[tasks.NAME]")
    for key, value in mapping.items():
        if key not in KEYS:
            raise SuiteError(f"{where}: unknown key `{key}`", nearest(key, KEYS))
        allowed = KEYS[key]
        if not isinstance(value, allowed) or (isinstance(value, bool) and allowed is not bool):
            names = " or ".join(
                _TOML_TYPES[t] for t in (allowed if isinstance(allowed, tuple) else (allowed,))
            )
            raise SuiteError(f"{where}: `{key}` must be {names}, not {value!r}")
    for key in REQUIRED:
        if key not in mapping:
            raise SuiteError(f"{where}: the key `{key}` is missing", f"needed: {', '.join(REQUIRED)}")


_TOML_TYPES = {str: "a string", dict: "a table", list: "a list", bool: "true or false", int: "an integer"}


def _strings(
    mapping: Mapping[str, Any], key: str, where: str, default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """A list of different, non-empty strings."""
    if key not in mapping and default is not None:
        return tuple(default)
    values = mapping[key]
    if not values and key in ("languages", "metrics"):
        raise SuiteError(f"{where}: `{key}` is empty")
    for position, value in enumerate(values):
        if not isinstance(value, str) or not value:
            raise SuiteError(f"{where}: `{key}` must list strings, not {value!r}")
        if value in values[:position]:
            raise SuiteError(f"{where}: `{key}` lists `{value}` twice")
    return tuple(values)


def _files(declared: str | dict[str, Any], needs_train: bool, where: str) -> dict[str, str]:
    files: dict[str, Any] = {split: declared for split in SPLITS} if isinstance(declared, str) else declared
    for split, pattern in files.items():
        if split not in SPLITS:
            raise SuiteError(f"{where}: unknown split `{split}` in `files`", nearest(split, SPLITS))
        if not isinstance(pattern, str) or not pattern:
            raise SuiteError(f"{where}: files.{split} must be a path, not {pattern!r}")
        try:
            fill(pattern, {"split": split, "language": "", "code": ""})
        except XtremexError as error:
            raise SuiteError(f"{where}: files.{split}: {error.message}", error.hint) from error
    needed = ("train", "dev") if needs_train else ("test",)
    for split in needed:
        if split not in files:
            raise SuiteError(
                f"{where}: `files` names no {split} data",
                'files = { train = "...", dev = "...", test = "{language}.test.jsonl" }'
                + ("; or `train_set`, the task whose training run is shared" if needs_train else ""),
            )
    return dict(files)


def _codes(declared: dict[str, Any], languages: tuple[str, ...], where: str) -> dict[str, str]:
    for language, code in declared.items():
        if language not in languages:
            raise SuiteError(
                f"{where}: `codes` names `{language}`, no language of the task", nearest(language, languages)
            )
        if not isinstance(code, str):
            raise SuiteError(f"{where}: codes.{language} must be a string, not {code!r}")
    return dict(declared)


def _root(declared: str, base_dir: Path) -> Path:
    return Path(base_dir, Path(declared).expanduser())


def _roles(files: Mapping[str, str], trained: bool, train_set: str) -> tuple[str, ...]:
    """What a task can be used as, from the data it has."""
    if not trained or train_set:
        return ("target",)
    return ROLES if "test" in files else ("intermediate",)
