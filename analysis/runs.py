"""One file of outcomes (`docs/outcomes.md`): which runs it holds, and the rows of a run as sorted arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import AnalysisError, DataError
from .estimator import Examples

__all__ = ["Layout", "Lineage", "OutcomeFile", "Rows", "Run", "codes", "identity_of", "read_run", "runs_of"]

IDENTITY = ("pair", "arm", "condition", "seed")
KEYS = ("language", "view", "example", "cluster")
Lineage = dict[tuple[str, ...], dict[str, Any]]
"""(task, pair, arm, condition, seed) -> the run's entry in `suite.json`."""


class Run(NamedTuple):
    """One run in a file: who it is, and the row groups that hold it."""

    pair: str
    arm: str
    condition: str
    seed: int
    groups: tuple[int, ...]


class Rows(NamedTuple):
    """One run's rows of the primary view, sorted by language, then example."""

    examples: Examples
    num: np.ndarray
    den: np.ndarray
    beside: dict[str, tuple[np.ndarray, np.ndarray]]
    """Further metrics that were asked for: metric -> (num, den)."""

    def subset(self, languages: Sequence[str]) -> Rows:
        """The rows of some languages."""
        examples, at = self.examples.subset(languages)
        beside = {metric: (num[at], den[at]) for metric, (num, den) in self.beside.items()}
        return Rows(examples, self.num[at], self.den[at], beside)


class Layout(NamedTuple):
    """Which rows of a run stand in a view, in the order of the test set, and that test set."""

    at: np.ndarray | None
    """(N,) positions in the run's row groups; None where these are all rows in their order."""
    examples: Examples
    known: dict[str, tuple[Chunks, np.ndarray]]
    """Denominator -> the chunks that were decoded last, and their values in this order."""


class Chunk(NamedTuple):
    """One column of one row group, as it is stored."""

    rows: int
    codec: str
    stored: pa.Buffer


Chunks = list[Chunk]


class OutcomeFile:
    """An outcome file, open; every failure to read it is a ``DataError`` that names it.

    Columns that are the same in every run (languages, examples, constant denominators) are decoded once: chunks
    of one column that are equal byte for byte hold equal values, and bytes compare much faster than they decode.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path):
            self._source = pa.memory_map(str(path))
            self._parquet = pq.ParquetFile(self._source)
        self.columns: list[str] = self._parquet.schema_arrow.names
        self._place = {name: i for i, name in enumerate(self.columns)}
        self._layouts: dict[tuple[str, ...], tuple[Chunks, Layout]] = {}

    @property
    def rows(self) -> int:
        return self._parquet.metadata.num_rows

    def groups(self) -> list[int]:
        """Row groups that hold rows."""
        metadata = self._parquet.metadata
        return [group for group in range(metadata.num_row_groups) if metadata.row_group(group).num_rows]

    def values(self, group: int, name: str) -> list[Any]:
        """Distinct values of a column in a row group: from its statistics where it is constant, else read."""
        statistics = self._parquet.metadata.row_group(group).column(self._place[name]).statistics
        if statistics is not None and statistics.has_min_max:
            least = statistics.min
            if least == statistics.max:
                return [least]
        return self.read([group], [name]).column(0).unique().to_pylist()

    def read(self, groups: Sequence[int], columns: list[str]) -> pa.Table:
        with _reading(self.path):
            return self._parquet.read_row_groups(list(groups), columns=columns, use_threads=False)

    def chunks(self, groups: Sequence[int], columns: Sequence[str]) -> Chunks:
        """The stored form of some columns of some row groups."""
        found = []
        for group in groups:
            metadata = self._parquet.metadata.row_group(group)
            for name in columns:
                column = metadata.column(self._place[name])
                start = column.data_page_offset
                if column.has_dictionary_page:
                    start = min(start, column.dictionary_page_offset)
                with _reading(self.path):
                    self._source.seek(start)
                    stored = self._source.read_buffer(column.total_compressed_size)
                found.append(Chunk(metadata.num_rows, column.compression, stored))
        return found

    def layout(self, target: dict[str, Any], run: Run) -> Layout:
        """The layout of a run in the target's view; the one before where the run's columns equal it."""
        chunks = self.chunks(run.groups, KEYS)
        key = (target["view"], *target["languages"])
        last = self._layouts.get(key)
        if last is None or not _equal(last[0], chunks):
            last = self._layouts[key] = chunks, _layout(self, target, run)
        return last[1]

    def numbers(self, run: Run, layout: Layout, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of a run as (N,) float64 in the order of its layout; finite, denominators not negative.

        Arrays that runs share are one object, not to be written to.
        """
        found: dict[str, np.ndarray] = {}
        # numerators differ from run to run; denominators often are the size of the example
        stored = {name: self.chunks(run.groups, [name]) for name in columns if name.endswith(".den")}
        for name, chunks in stored.items():
            last = layout.known.get(name)
            if last is not None and _equal(last[0], chunks):
                found[name] = last[1]
        fresh = [name for name in columns if name not in found]
        table = self.read(run.groups, fresh)
        for name in fresh:
            values = _plain(table[name]).astype(np.float64, copy=False)
            found[name] = values if layout.at is None else values[layout.at]
            if not _sound(found[name], name):
                raise DataError(
                    f"{_where(self, run)}: numerators must be finite, denominators finite and >= 0",
                    "see docs/outcomes.md",
                )
            if name in stored:
                layout.known[name] = stored[name], found[name]
        return found


def _equal(one: Chunks, other: Chunks) -> bool:
    return len(one) == len(other) and all(
        a.rows == b.rows and a.codec == b.codec and a.stored.equals(b.stored)
        for a, b in zip(one, other, strict=True)
    )


def _sound(values: np.ndarray, name: str) -> bool:
    if name.endswith(".den") and not values.min(initial=0.0) >= 0:
        return False
    # a sum of finite numbers may overflow, so that only a finite one settles it
    return bool(np.isfinite(values.sum()) or np.all(np.isfinite(values)))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", "remove it, and `xtremex run` writes it again from the store"
        ) from None


def runs_of(file: OutcomeFile, lineage: Lineage) -> list[Run]:
    """The runs of a file; refuses runs without lineage."""
    absent = [name for name in (*IDENTITY, "attempt", *KEYS) if name not in file.columns]
    if absent:
        raise DataError(f"{file.path} lacks the columns {', '.join(absent)}", "see docs/outcomes.md")
    found: dict[tuple[str, str, str, int], list[int]] = {}
    for group in file.groups():
        found.setdefault(identity_of(file, group), []).append(group)
    for pair, arm, condition, seed in found:
        run = lineage.get((file.path.stem, pair, arm, condition, str(seed)))
        if not run or not run.get("job"):
            raise AnalysisError(
                f"{file.path}: no lineage for pair {pair}, arm {arm}, condition {condition}, seed {seed}",
                "every run of the outcomes needs an entry with its job in `runs` of suite.json",
            )
    return [Run(*identity, tuple(groups)) for identity, groups in found.items()]


def identity_of(file: OutcomeFile, group: int) -> tuple[str, str, str, int]:
    """Pair, arm, condition and seed of a row group; ``DataError`` where it mixes runs."""
    identity = []
    for name in IDENTITY:
        values = file.values(group, name)
        if len(values) != 1:
            raise DataError(
                f"{file.path}: row group {group} mixes values of `{name}`: {', '.join(map(str, values))}",
                "write every run as a row group of its own",
            )
        identity.append(values[0])
    return identity[0], identity[1], identity[2], int(identity[3])


def _where(file: OutcomeFile, run: Run) -> str:
    return f"{file.path}: {run.pair} / {run.arm} / {run.condition} / seed {run.seed}"


def read_run(
    file: OutcomeFile, target: dict[str, Any], run: Run, entry: dict[str, Any], beside: Sequence[str] = ()
) -> Rows:
    """The primary view of a run, in the target's metric and in the metrics ``beside`` it."""
    metric = target["metric"]
    metrics = dict.fromkeys([metric, *beside])
    columns = [f"{name}.{part}" for name in metrics for part in ("num", "den")]
    absent = [name for name in ("attempt", *KEYS, *columns) if name not in file.columns]
    if absent:
        raise DataError(
            f"{file.path} lacks the columns {', '.join(absent)}", f"the metric of this target is {metric}"
        )
    attempts = sorted({value for group in run.groups for value in file.values(group, "attempt")})
    if len(attempts) != 1 or int(attempts[0]) != int(entry.get("attempt", 0)):
        raise AnalysisError(
            f"{_where(file, run)} comes from attempt {', '.join(map(str, attempts))}, "
            f"the record says {entry.get('attempt', 0)}",
            "outcomes and suite.json are of different runs; `xtremex run` writes both again",
        )
    layout = file.layout(target, run)
    numbers = file.numbers(run, layout, columns)
    counts = {name: (numbers[f"{name}.num"], numbers[f"{name}.den"]) for name in metrics}
    return Rows(layout.examples, *counts[metric], {name: counts[name] for name in beside})


def _layout(file: OutcomeFile, target: dict[str, Any], run: Run) -> Layout:
    """Read and check the columns that name the rows of a run."""
    where = _where(file, run)
    table = file.read(run.groups, list(KEYS))
    view, _ = codes(table["view"], [target["view"]])
    language, unknown = codes(table["language"], target["languages"])
    if unknown:
        raise AnalysisError(
            f"{where} has languages unknown to suite.json: {', '.join(unknown)}", "list them there"
        )
    at = np.flatnonzero(view == 0)
    language = language[at]
    example = _plain(table["example"])[at]
    key = language * (1 << 32) + example
    if np.any(np.diff(key) < 0):
        order = np.argsort(key, kind="stable")
        at, language, example, key = at[order], language[order], example[order], key[order]
    if len(at) == 0:
        raise DataError(f"{where} has no rows of view {target['view']!r}", "the primary view must be stored")
    if np.any(np.diff(key) == 0):
        raise DataError(f"{where} holds an example twice in one language", "write every example once")
    present, first = np.unique(language, return_index=True)
    offsets = np.append(first, len(at)).astype(np.int64)
    names = tuple(target["languages"][i] for i in present)
    cluster = _plain(table["cluster"])[at]
    examples = Examples(names, offsets, example, cluster, bool(target["parallel"]))
    whole = len(at) == len(table) and bool(np.all(np.diff(at) == 1))
    return Layout(None if whole else at, examples, {})


def _plain(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as it lies in memory; ``to_numpy`` would import pandas first, where it is installed."""
    numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if not numbers or column.null_count or not column.num_chunks:
        return column.to_numpy()
    parts = [np.from_dlpack(chunk) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def codes(column: pa.ChunkedArray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(N,) index of each value in ``names`` (-1 elsewhere), and the values that ``names`` lacks."""
    place = {name: i for i, name in enumerate(names)}
    parts, unknown = [], []
    for chunk in column.chunks:
        coded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        values = coded.dictionary.to_pylist()
        indices = _plain(pa.chunked_array([coded.indices]))
        used = np.zeros(len(values), dtype=bool)
        used[indices] = True
        unknown += [value for value, seen in zip(values, used, strict=True) if seen and value not in place]
        parts.append(np.array([place.get(value, -1) for value in values], dtype=np.int64)[indices])
    return np.concatenate(parts), sorted(set(unknown))
