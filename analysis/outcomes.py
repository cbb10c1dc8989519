"""Reads an outcome folder (`docs/outcomes.md`): `suite.json` and `outcomes/*.parquet`, checked, as cells.

Files are read one cell at a time and reduced at once, so that memory holds one row of contributions per cell and
target, whatever the number of seeds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import AnalysisError, DataError
from .estimator import DETERMINISTIC, Cell, Examples

__all__ = ["FORMAT", "Record", "read_record", "read_suite"]

FORMAT = 1
IDENTITY = ("pair", "arm", "condition", "seed")
DUPLICATE_MINIMUM = 200
"""Two seeds that agree on this many outcomes share their training; on fewer they may agree by chance."""
REQUIRED = ("format", "suite", "pairs", "conditions", "targets", "seeds", "analysis", "runs", "signature")


class _Run(NamedTuple):
    """One run in a file: who it is, and the row groups that hold it."""

    pair: str
    arm: str
    condition: str
    seed: int
    groups: tuple[int, ...]


class _Rows(NamedTuple):
    """One run's rows of the primary view, sorted by language, then example."""

    examples: Examples
    num: np.ndarray
    den: np.ndarray


@dataclass(frozen=True)
class Record:
    """Everything that an analysis reads, reduced and checked."""

    suite: dict[str, Any]
    cells: dict[tuple[str, str], dict[tuple[str, str], Cell]]
    """(pair, target) -> (arm, condition) -> cell; all cells of one entry share languages and examples."""
    warnings: tuple[str, ...]


def read_suite(folder: Path) -> dict[str, Any]:
    """`suite.json` of an outcome folder; ``DataError`` when it is missing, unreadable or of another format."""
    path = Path(folder) / "suite.json"
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist", "name the folder that holds suite.json and outcomes/, or `xtremex run` first"
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}", "run `xtremex run` again; it rewrites the file") from None
    if not isinstance(suite, dict) or suite.get("format") != FORMAT:
        found = suite.get("format") if isinstance(suite, dict) else type(suite).__name__
        raise DataError(f"{path} has format {found!r}; this version reads {FORMAT}", "use the version that wrote it")
    missing = [key for key in REQUIRED if key not in suite]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}", "see docs/outcomes.md for the keys of suite.json")
    return suite


def read_record(folder: Path) -> Record:
    """Read, check and reduce an outcome folder.

    Raises ``DataError`` for unreadable files and ``AnalysisError`` where the outcomes cannot carry an analysis:
    no lineage for a run, seeds that were not applied, test sets that differ between runs, unequal schedules that no
    exception declares. What is merely missing (cells, seeds, languages) is left out and named in ``warnings``.
    """
    folder = Path(folder)
    suite = read_suite(folder)
    warnings: list[str] = []
    lineage = _lineage(suite)
    files = {path.stem: path for path in sorted((folder / "outcomes").glob("*.parquet"))}
    targets = {target["task"]: target for target in suite["targets"]}
    stray = sorted(set(files) - set(targets))
    if stray:
        raise AnalysisError(
            f"{folder / 'outcomes'} holds {', '.join(stray)}, of which suite.json knows nothing",
            f"targets of this suite: {', '.join(targets)}; move other files away",
        )
    index = {task: _index(pq.ParquetFile(files[task]), files[task], lineage) for task in targets if task in files}
    if not any(index.values()):
        raise AnalysisError(f"{folder / 'outcomes'} holds no outcomes", "`xtremex run` first")
    absent = [task for task in targets if not index.get(task)]
    if absent:
        warnings.append(f"No outcomes for {', '.join(absent)}: the analysis leaves out these targets.")
    keep = _common_seeds(index, {task: bool(t["retention"]) for task, t in targets.items()}, warnings)
    cells: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for task, runs in index.items():
        file = pq.ParquetFile(files[task])
        grouped: dict[tuple[str, str, str], list[_Run]] = {}
        for run in runs:
            if (task, run) in keep:
                grouped.setdefault((run.pair, run.arm, run.condition), []).append(run)
        for (pair, arm, condition), members in grouped.items():
            cell = _cell(file, files[task], targets[task], members, lineage, warnings)
            cells.setdefault((pair, task), {})[arm, condition] = cell
    for (pair, task), grid in cells.items():
        cells[pair, task] = _same_languages(grid, pair, targets[task], warnings)
    _note_missing(suite, cells, warnings)
    return Record(suite, cells, tuple(warnings))


def _lineage(suite: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
    """(task, pair, arm, condition, seed) -> the entry of `runs`."""
    unequal = [s["stage"] for s in suite.get("schedules", ()) if not s["equal"]]
    if unequal and not suite.get("exceptions"):
        raise AnalysisError(
            f"arms followed different schedules in {', '.join(sorted(set(unequal)))}, and no exception declares it",
            "give every arm the same settings, or declare the difference under [[exceptions]] of the suite",
        )
    return {
        (run["task"], run["pair"], run["arm"], run["condition"], str(run["seed"])): run for run in suite["runs"]
    }


def _index(file: pq.ParquetFile, path: Path, lineage: dict[tuple[str, ...], dict[str, Any]]) -> list[_Run]:
    """The runs of a file, from the statistics of its row groups; refuses runs without lineage."""
    names = file.schema_arrow.names
    absent = [name for name in (*IDENTITY, "attempt", "language", "view", "example", "cluster") if name not in names]
    if absent:
        raise DataError(f"{path} lacks the columns {', '.join(absent)}", "see docs/outcomes.md")
    found: dict[tuple[str, str, str, int], list[int]] = {}
    for group in range(file.metadata.num_row_groups):
        if file.metadata.row_group(group).num_rows == 0:
            continue
        identity = []
        for name in IDENTITY:
            values = _group_values(file, group, name)
            if len(values) != 1:
                raise DataError(
                    f"{path}: row group {group} mixes several values of `{name}`: {', '.join(map(str, values))}",
                    "write every run as a row group of its own",
                )
            identity.append(values[0])
        found.setdefault((identity[0], identity[1], identity[2], int(identity[3])), []).append(group)
    for pair, arm, condition, seed in found:
        run = lineage.get((path.stem, pair, arm, condition, str(seed)))
        if not run or not run.get("job"):
            raise AnalysisError(
                f"{path}: no lineage for pair {pair}, arm {arm}, condition {condition}, seed {seed}",
                "every run of the outcomes needs an entry with its job in `runs` of suite.json",
            )
    return [_Run(*identity, tuple(groups)) for identity, groups in found.items()]


def _group_values(file: pq.ParquetFile, group: int, name: str) -> list[Any]:
    """Distinct values of a column in a row group: from its statistics where it is constant, else read."""
    column = file.schema_arrow.names.index(name)
    statistics = file.metadata.row_group(group).column(column).statistics
    if statistics is not None and statistics.has_min_max and statistics.min == statistics.max:
        return [statistics.min]
    return file.read_row_group(group, columns=[name]).column(0).unique().to_pylist()


def _common_seeds(
    index: dict[str, list[_Run]], retention: dict[str, bool], warnings: list[str]
) -> set[tuple[str, _Run]]:
    """The (task, run) pairs to analyse: seeds that all targets of a cell share; cells of one run beside others go."""
    keep: set[tuple[str, _Run]] = set()
    by_cell: dict[tuple[str, str, str], dict[str, list[_Run]]] = {}
    for task, runs in index.items():
        for run in runs:
            if retention[task] or run.seed == DETERMINISTIC:
                keep.add((task, run))
            else:
                by_cell.setdefault((run.pair, run.arm, run.condition), {}).setdefault(task, []).append(run)
    shared: dict[tuple[str, str, str], set[int]] = {}
    for cell, tasks in by_cell.items():
        seeds = [{run.seed for run in runs} for runs in tasks.values()]
        shared[cell] = reduce(set.intersection, seeds)
        extra = sorted(set.union(*seeds) - shared[cell])
        if extra:
            warnings.append(
                f"{' / '.join(cell)}: seeds {', '.join(map(str, extra))} are missing on some targets and were left out "
                "on all of them."
            )
    most = max((len(seeds) for seeds in shared.values()), default=0)
    for cell, tasks in by_cell.items():
        if most > 1 and len(shared[cell]) < 2:
            warnings.append(
                f"{' / '.join(cell)}: {len(shared[cell])} seed(s) on all targets; the cell was left out (two are needed)."
            )
            continue
        keep.update((task, run) for task, runs in tasks.items() for run in runs if run.seed in shared[cell])
    return keep


def _cell(
    file: pq.ParquetFile,
    path: Path,
    target: dict[str, Any],
    runs: Sequence[_Run],
    lineage: dict[tuple[str, ...], dict[str, Any]],
    warnings: list[str],
) -> Cell:
    runs = sorted(runs, key=lambda run: run.seed)
    name = f"{target['task']}: {runs[0].pair} / {runs[0].arm} / {runs[0].condition}"
    if len({(run.seed == DETERMINISTIC) for run in runs}) > 1:
        raise AnalysisError(f"{name} holds a deterministic run (seed -1) beside others", "write one or the other")
    entries = [lineage[target["task"], run.pair, run.arm, run.condition, str(run.seed)] for run in runs]
    rows = [_rows(file, path, target, run, entry) for run, entry in zip(runs, entries, strict=True)]
    shared = [code for code in rows[0].examples.languages if all(code in r.examples.languages for r in rows)]
    if any(len(r.examples.languages) > len(shared) for r in rows):
        warnings.append(f"{name}: runs differ in their languages; kept {len(shared)} that all of them have.")
        parts = [r.examples.subset(shared) for r in rows]
        rows = [_Rows(e, r.num[at], r.den[at]) for r, (e, at) in zip(rows, parts, strict=True)]
    for run, row in zip(runs, rows, strict=True):
        if not row.examples.same_as(rows[0].examples):
            raise AnalysisError(
                f"{name}: seed {run.seed} was scored on other examples than seed {runs[0].seed}",
                "evaluate every run on the same test set",
            )
    num, den = np.stack([r.num for r in rows]), np.stack([r.den for r in rows])
    _refuse_duplicates(name, runs, num, den, any(entry.get("collapsed") for entry in entries), warnings)
    return Cell.from_counts(rows[0].examples, num, den, [run.seed for run in runs])


def _rows(
    file: pq.ParquetFile, path: Path, target: dict[str, Any], run: _Run, entry: dict[str, Any]
) -> _Rows:
    metric = target["metric"]
    columns = ["attempt", "language", "view", "example", "cluster", f"{metric}.num", f"{metric}.den"]
    absent = [name for name in columns if name not in file.schema_arrow.names]
    if absent:
        raise DataError(f"{path} lacks the columns {', '.join(absent)}", f"the metric of this target is {metric}")
    table = file.read_row_groups(list(run.groups), columns=columns)
    where = f"{path}: {run.pair} / {run.arm} / {run.condition} / seed {run.seed}"
    attempts = np.unique(table["attempt"].to_numpy())
    if len(attempts) != 1 or int(attempts[0]) != int(entry.get("attempt", 0)):
        raise AnalysisError(
            f"{where} comes from attempt {', '.join(map(str, attempts))}, the record says {entry.get('attempt', 0)}",
            "outcomes and suite.json are of different runs; `xtremex run` writes both again",
        )
    view, _ = _codes(table["view"], [target["view"]])
    language, unknown = _codes(table["language"], target["languages"])
    if unknown:
        raise AnalysisError(f"{where} has languages unknown to suite.json: {', '.join(unknown)}", "list them there")
    at = np.flatnonzero(view == 0)
    language = language[at]
    example = table["example"].to_numpy()[at]
    order = np.lexsort((example, language))
    at, language, example = at[order], language[order], example[order]
    if len(at) == 0:
        raise DataError(f"{where} has no rows of view {target['view']!r}", "the primary view must be stored")
    if np.any((np.diff(example) == 0) & (np.diff(language) == 0)):
        raise DataError(f"{where} holds an example twice in one language", "write every example once")
    num, den = (table[f"{metric}.{part}"].to_numpy()[at] for part in ("num", "den"))
    if not (np.all(np.isfinite(num)) and np.all(np.isfinite(den)) and np.all(den >= 0)):
        raise DataError(f"{where}: numerators must be finite, denominators finite and >= 0", "see docs/outcomes.md")
    present, first = np.unique(language, return_index=True)
    offsets = np.append(first, len(at)).astype(np.int64)
    names = tuple(target["languages"][i] for i in present)
    cluster = table["cluster"].to_numpy()[at]
    return _Rows(Examples(names, offsets, example, cluster, bool(target["parallel"])), num, den)


def _codes(column: pa.ChunkedArray, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """(N,) index of each value in ``names`` (-1 elsewhere), and the values that ``names`` lacks."""
    place = {name: i for i, name in enumerate(names)}
    parts, unknown = [], []
    for chunk in column.chunks:
        coded = chunk if isinstance(chunk, pa.DictionaryArray) else chunk.dictionary_encode()
        values = coded.dictionary.to_pylist()
        indices = coded.indices.to_numpy(zero_copy_only=False)
        used = np.zeros(len(values), dtype=bool)
        used[indices] = True
        unknown += [value for value, seen in zip(values, used, strict=True) if seen and value not in place]
        parts.append(np.array([place.get(value, -1) for value in values], dtype=np.int64)[indices])
    return np.concatenate(parts), sorted(set(unknown))


def _refuse_duplicates(
    name: str, runs: Sequence[_Run], num: np.ndarray, den: np.ndarray, collapsed: bool, warnings: list[str]
) -> None:
    """Equal outcomes under two seeds: the seed reached nothing, unless the runs are at a floor, a ceiling, or tiny."""
    for i in range(len(runs)):
        for j in range(i):
            if not (np.array_equal(num[i], num[j]) and np.array_equal(den[i], den[j])):
                continue
            seeds = f"seeds {runs[j].seed} and {runs[i].seed}"
            # all wrong or all right says nothing about the seed, nor does a constant guess
            extreme = not num[i].any() or np.array_equal(num[i], den[i])
            if collapsed or extreme or num.shape[1] < DUPLICATE_MINIMUM:
                warnings.append(f"{name}: {seeds} gave identical outcomes; this cell's run variance is not to be trusted.")
                return
            raise AnalysisError(
                f"{name}: {seeds} gave identical outcomes on {num.shape[1]} examples: seed not applied",
                "check that the seed reaches initialisation, data order and dropout; if nothing is trained here, "
                "store the cell once with seed -1",
            )


def _same_languages(
    grid: dict[tuple[str, str], Cell], pair: str, target: dict[str, Any], warnings: list[str]
) -> dict[tuple[str, str], Cell]:
    """All cells of a pair on a target, on the languages that all have and on one test set object."""
    shared = [code for code in target["languages"] if all(code in c.examples.languages for c in grid.values())]
    if not shared:
        raise AnalysisError(f"{pair} / {target['task']}: no language was scored in all cells", "evaluate again")
    missing = [code for code in target["languages"] if code not in shared]
    if missing:
        warnings.append(
            f"{pair} / {target['task']}: left out {', '.join(missing)}, which some cells lack; "
            f"{len(shared)} languages remain."
        )
    first = next(iter(grid.values()))
    examples = first.examples.subset(shared)[0]
    result = {}
    for key, cell in grid.items():
        part = cell.subset(shared) if cell.examples.languages != tuple(shared) else cell
        if not part.examples.same_as(examples):
            raise AnalysisError(
                f"{pair} / {target['task']}: {' / '.join(key)} was scored on other examples than "
                f"{' / '.join(next(iter(grid)))}",
                "evaluate every run on the same test set",
            )
        result[key] = replace(part, examples=examples)
    return result


def _note_missing(
    suite: dict[str, Any], cells: dict[tuple[str, str], dict[tuple[str, str], Cell]], warnings: list[str]
) -> None:
    for pair in suite["pairs"]:
        for target in suite["targets"]:
            grid = cells.get((pair["name"], target["task"]))
            if grid is None:
                continue
            # a retention target exists only for arms with an image tower
            arms = sorted({arm for arm, _ in grid}) if target["retention"] else list(pair["arms"])
            lost = [
                f"{arm}/{c['name']}" for arm in arms for c in suite["conditions"] if (arm, c["name"]) not in grid
            ]
            if lost:
                warnings.append(
                    f"{pair['name']} / {target['task']}: no outcomes for {', '.join(lost)}; effects average over the rest."
                )
