"""Where examples come from: a folder of files that a user declares in TOML, or a generator of the mini
suite."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import DataError, MissingDependency, SuiteError
from .base import PairExample, Source, SpanExample, Task
from .files import Record, file_digest, read_records
from .records import fill, mapped, present
from .validation import validate

__all__ = ["FolderSource", "GeneratorSource", "SharedTraining"]

_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class GeneratorSource:
    """Examples made by a function ``function(split, language, seed, **options) -> list[Example]``.

    ``target`` names it as ``"module:function"``; ``version`` is the generator's own version, raised with
    every change of its output; ``packages`` are the distributions whose contents the output is made of.
    """

    target: str
    seed: int = 0
    version: str = "1"
    packages: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: str = "mini"
    """The extra of xtremex that installs ``packages``."""

    def load(self, task: Task, split: str, language: str) -> list[Any]:
        """Examples of one split and language, generated once per process.

        Raises ``DataError`` for an example that contradicts its task, ``MissingDependency`` with the pip line
        when a package is absent, ``SuiteError`` for a target that does not exist.
        """
        self._installed()
        options = json.dumps(dict(self.options), sort_keys=True, ensure_ascii=False)
        examples = list(_generate(self.target, split, language, self.seed, options))
        validate(examples, task, split, language)
        return examples

    def fingerprint(self) -> str:
        """Target, generator version, seed, options and the installed package versions, on one line."""
        packages = ",".join(f"{name}=={number}" for name, number in sorted(self._installed().items()))
        options = json.dumps(dict(self.options), sort_keys=True, ensure_ascii=False)
        return f"generator:{self.target}@{self.version}|seed={self.seed}|{options}|{packages}"

    def _installed(self) -> dict[str, str]:
        found = {}
        for name in self.packages:
            try:
                found[name] = version(name)
            except PackageNotFoundError as error:
                raise MissingDependency(
                    f"the data of `{self.target}` are made of the package `{name}`, which is not installed",
                    f'pip install "xtremex[{self.extra}]"',
                ) from error
        return found


@lru_cache(maxsize=512)
def _generate(target: str, split: str, language: str, seed: int, options: str) -> tuple[Any, ...]:
    module, _, function = target.partition(":")
    try:
        generate = getattr(import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise SuiteError(
            f"no generator `{target}` ({error})", 'a generator is named "module:function" and can be imported'
        ) from error
    return tuple(generate(split, language, seed, **json.loads(options)))


@dataclass(frozen=True)
class SharedTraining:
    """Test data of one task, train and dev data of another (XQuAD and MLQA are both trained on SQuAD 1.1)."""

    own: Source
    training: Source
    trainer: Task

    def load(self, task: Task, split: str, language: str) -> list[Any]:
        if split == "test":
            return self.own.load(task, split, language)
        return self.training.load(self.trainer, split, language)

    def fingerprint(self) -> str:
        return f"{self.own.fingerprint()}|trained on {self.trainer.name}: {self.training.fingerprint()}"


@dataclass(frozen=True)
class FolderSource:
    """Examples in files: one file per split and language (or one for all languages of a split).

    ``files`` maps a split to a path below ``root`` in which ``{split}``, ``{language}`` and ``{code}`` are
    filled in; ``codes`` gives the ``{code}`` of languages whose files use other names. ``columns`` maps a
    field of the kind's example to the column that holds it (``docs/add-a-task.md`` lists the fields).
    """

    root: Path
    files: Mapping[str, str]
    languages: Mapping[str, tuple[str, ...]]
    """Split -> the languages that the task reads there; they make up the fingerprint."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    codes: Mapping[str, str] = field(default_factory=dict)
    aligned: bool = False
    """Retrieval and mining: the translation is the line of the same id in the source language's file."""

    def path(self, split: str, language: str) -> Path:
        """The file of a split and language; ``DataError`` when the task declares none for the split."""
        pattern = self.files.get(split)
        if pattern is None:
            raise DataError(
                f"{self.root}: no file is declared for split `{split}` (only {', '.join(self.files)})",
                f'add `{split} = "..."` to `files` of the task',
            )
        code = self.codes.get(language, language)
        return self.root / fill(pattern, {"split": split, "language": language, "code": code})

    def fingerprint(self) -> str:
        """SHA-256 over the bytes of every file in use, by split and language, and over what maps columns to
        fields.

        Where the folder lies does not enter it: the same data elsewhere are the same data.
        """
        parts = [
            [split, language, file_digest(self.path(split, language))]
            for split in sorted(self.languages)
            for language in self.languages[split]
        ]
        declared = {"columns": dict(self.columns), "aligned": self.aligned, "files": parts}
        return "folder:" + hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()

    def load(self, task: Task, split: str, language: str) -> list[Any]:
        """Read and check the file of ``split`` and ``language``; ``DataError`` names ``file:line``."""
        records = list(read_records(self.path(split, language)))
        ids = self._ids(task, split, language, records)
        translations = self._translations(task, split, language, records) if self.aligned else None
        examples = []
        for row, (record, number) in enumerate(zip(records, ids, strict=True)):
            if translations is not None:
                record = Record(record.where, {**record.fields, "translation": translations[row]})
            examples.append(mapped(task, record, number, self.columns))
        validate(examples, task, split, language, [record.where for record in records])
        if task.kind == "spans" and "cluster" not in self.columns:
            return _clustered(examples)
        if task.kind in ("retrieval", "mining") and not any(
            isinstance(e, PairExample) and e.text is not None and e.translation is not None for e in examples
        ):
            raise DataError(f"{self.path(split, language)}:1: no line holds both a text and its translation")
        return examples

    def _reference(self, task: Task, split: str) -> str | None:
        """The language whose file defines the ids of a parallel split."""
        declared = self.languages.get(split, ())
        if task.source_language in declared:
            return task.source_language
        return declared[0] if declared else None

    def _ids(self, task: Task, split: str, language: str, records: list[Record]) -> list[int]:
        """Integer ids: the file's own where they are integers, else positions in the reference language's
        file."""
        keys = _keys(records, self.columns)
        if not task.parallel:
            return list(range(len(records)))
        if keys is not None and all(isinstance(key, int) for key in keys):
            return keys
        reference = self._reference(task, split)
        if reference is None or reference == language:
            return list(range(len(records)))
        path = self.path(split, reference)
        others = list(read_records(path))
        order = _keys(others, self.columns)
        if keys is None or order is None:
            if len(others) != len(records):
                raise DataError(
                    f"{records[-1].where}: {len(records)} examples, but {len(others)} in {path}: "
                    f"the task says `parallel = true`",
                    "give both files an `id` column, or set parallel = false",
                )
            return list(range(len(records)))
        position = {key: row for row, key in enumerate(order)}
        for record, key in zip(records, keys, strict=True):
            if key not in position:
                raise DataError(
                    f"{record.where}: id `{key}` is not in {path}, and the task says `parallel = true`",
                    "set parallel = false, or use integer ids, which need no reference file",
                )
        return [position[key] for key in keys]

    def _translations(self, task: Task, split: str, language: str, records: list[Record]) -> list[str | None]:
        """The source language's text for each record, joined by id; None where that file lacks it."""
        path = self.path(split, task.source_language)
        others = records if language == task.source_language else list(read_records(path))
        keys, order = _keys(records, self.columns), _keys(others, self.columns)
        if keys is None or order is None:
            raise DataError(
                f"{records[0].where if keys is None else others[0].where}: no id column, and the task says "
                "`aligned = true`",
                "texts are joined over the languages by id: name the column, e.g. columns.id",
            )
        column = self.columns.get("text", "text")
        table = {key: record.fields.get(column) for key, record in zip(order, others, strict=True)}
        return [table.get(key) for key in keys]


def _keys(records: list[Record], columns: Mapping[str, Any]) -> list[Any] | None:
    """The id of every record (int or str), or None when the files have no ids; refuses repeated and partial
    ids."""
    column = columns.get("id", "id")
    if "id" not in columns and not any(column in record.fields for record in records):
        return None
    seen: dict[Any, str] = {}
    for record in records:
        key = present(record, column)
        if isinstance(key, bool) or not isinstance(key, int | str):
            raise DataError(f"{record.where}: the id {key!r} is neither an integer nor a string")
        if isinstance(key, int) and not 0 <= key <= _LARGEST_ID:
            raise DataError(f"{record.where}: the id {key} does not fit 31 bits", "write it as a string")
        if key in seen:
            raise DataError(f"{record.where}: id `{key}` occurs twice (first at {seen[key]})")
        seen[key] = record.where
    return list(seen)


def _clustered(examples: list[SpanExample]) -> list[SpanExample]:
    """Questions on one context get one cluster: the smallest id among them, equal over parallel languages."""
    first: dict[str, int] = {}
    for example in examples:
        first[example.context] = min(first.get(example.context, example.id), example.id)
    return [SpanExample(e.id, e.question, e.context, e.answers, cluster=first[e.context]) for e in examples]
