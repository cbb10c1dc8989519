"""Reads an outcome folder (`docs/outcomes.md`): `suite.json` and `outcomes/*.parquet`, checked, as cells.

Files are read one cell at a time and reduced at once, so that memory holds one row of contributions per cell
and target, whatever the number of seeds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import AnalysisError, DataError
from .common_seeds import common_seeds
from .duplicates import MINIMUM, duplicates
from .estimator import DETERMINISTIC, Cell
from .layers import RULES, ViewScores
from .pinned import checked_digest, checked_sizes
from .reduction import Sums, cell_of_runs
from .runs import Lineage, OutcomeFile, Run, read_run, runs_of
from .xtreme import LanguageScores, metrics_read, strangers

__all__ = ["FORMAT", "Gap", "Record", "read_record", "read_suite"]

FORMAT = 1
THREADS = 4
"""Files that are read at once, at most: each holds one cell's runs in memory."""
REQUIRED = ("format", "suite", "pairs", "conditions", "targets", "seeds", "analysis", "runs", "signature")
ENTRIES = {
    "pairs": ("name", "arms", "contrasts"),
    "conditions": ("name", "tasks"),
    "targets": ("task", "metric", "languages", "source_language", "parallel", "view", "views", "retention"),
    "runs": ("pair", "arm", "condition", "task", "seed"),
}
"""What every entry of these lists must have."""


class Gap(NamedTuple):
    """A run that was not scored in every language of its target."""

    pair: str
    arm: str
    condition: str
    target: str
    seed: int
    languages: tuple[str, ...]
    """The languages that it lacks."""


@dataclass(frozen=True)
class Record:
    """Everything that an analysis reads, reduced and checked."""

    suite: dict[str, Any]
    cells: dict[tuple[str, str], dict[tuple[str, str], Cell]]
    """(pair, target) -> (arm, condition) -> cell; all cells of one entry share languages and examples."""
    warnings: tuple[str, ...]
    benchmark: dict[str, dict[tuple[str, str, str], LanguageScores]]
    """target of a benchmark -> (pair, arm, condition) -> the metrics that its averages read."""
    views: ViewScores
    """Scores of the views that are named as a rule for the layer, of targets with sweeps."""
    gaps: tuple[Gap, ...] = ()
    """Which of the analysed runs lack languages; the cells hold what all cells of their pair and target have."""
    digests: dict[str, str] = field(default_factory=dict)
    """File of `outcomes/` -> its SHA-256."""


def read_suite(folder: Path) -> dict[str, Any]:
    """`suite.json` of an outcome folder.

    ``DataError`` when it is missing, unreadable or of another format.
    """
    path = Path(folder) / "suite.json"
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist",
            "name the folder that holds suite.json and outcomes/, or `xtremex run` first",
        ) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path} is not JSON: {error}", "run `xtremex run` again; it rewrites the file"
        ) from None
    if not isinstance(suite, dict) or suite.get("format") != FORMAT:
        found = suite.get("format") if isinstance(suite, dict) else type(suite).__name__
        raise DataError(
            f"{path} has format {found!r}; this version reads {FORMAT}", "use the version that wrote it"
        )
    missing = [key for key in REQUIRED if key not in suite]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}", "see docs/outcomes.md for the keys of suite.json"
        )
    for name, keys in ENTRIES.items():
        entries = suite[name] if isinstance(suite[name], list) else [suite[name]]
        for place, entry in enumerate(entries):
            lacks = [key for key in keys if key not in entry] if isinstance(entry, dict) else list(keys)
            if lacks or not isinstance(suite[name], list):
                raise DataError(
                    f"{path}: {name}[{place}] lacks {', '.join(lacks) or 'a list around it'}",
                    "see docs/outcomes.md for the keys of suite.json; `xtremex run` writes it again from the store",
                )
    return suite


def read_record(folder: Path) -> Record:
    """Read, check and reduce an outcome folder.

    Raises ``DataError`` for unreadable files and for files that are not those of the record, and ``AnalysisError``
    where the outcomes cannot carry an analysis: no lineage for a run, seeds that were not applied, test sets that
    differ between runs, unequal schedules that no exception declares. What is merely missing (cells, seeds,
    languages) is left out and named in ``warnings``.
    """
    folder = Path(folder)
    suite = read_suite(folder)
    warnings: list[str] = []
    files = {path.stem: path for path in sorted((folder / "outcomes").glob("*.parquet"))}
    targets = {target["task"]: target for target in suite["targets"]}
    stray = sorted(set(files) - set(targets))
    if stray:
        raise AnalysisError(
            f"{folder / 'outcomes'} holds {', '.join(stray)}, of which suite.json knows nothing",
            f"targets of this suite: {', '.join(targets)}; move other files away",
        )
    listed = checked_sizes(suite, files.values())
    lineage = _lineage(suite)
    opened = {task: OutcomeFile(files[task]) for task in targets if task in files}
    index = {task: runs_of(file, lineage) for task, file in opened.items()}
    if not any(index.values()):
        raise AnalysisError(f"{folder / 'outcomes'} holds no outcomes", "`xtremex run` first")
    absent = [task for task in targets if not index.get(task)]
    if absent:
        warnings.append(f"No outcomes for {', '.join(absent)}: the analysis leaves out these targets.")
    keep = common_seeds(index, {task: bool(t["retention"]) for task, t in targets.items()}, warnings)
    cells: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    benchmark: dict[str, dict[tuple[str, str, str], LanguageScores]] = {}
    gaps: list[Gap] = []
    digests: dict[str, str] = {}
    kept = {task: [run for run in runs if (task, run) in keep] for task, runs in index.items()}
    for task, found in _in_threads(
        {
            task: partial(
                _cells,
                opened[task],
                targets[task],
                index[task],
                kept[task],
                lineage,
                listed.get(files[task].name),
            )
            for task in index
        },
        size=lambda task: opened[task].rows,
    ):
        for (pair, arm, condition), cell in found.cells.items():
            cells.setdefault((pair, task), {})[arm, condition] = cell
        if found.benchmark:
            benchmark[task] = found.benchmark
        digests[files[task].name] = found.sha256
        warnings += found.warnings
        gaps += found.gaps
    for (pair, task), grid in cells.items():
        cells[pair, task] = _same_languages(grid, pair, targets[task], gaps, warnings)
    _note_missing(suite, cells, warnings)
    warnings += strangers(suite)
    swept = {sweep["task"] for sweep in suite.get("sweeps", ())}
    views: dict[tuple[str, str, str, str], dict[str, dict[int, float]]] = {}
    for task, run in keep:
        if task in swept:
            entry = lineage[task, run.pair, run.arm, run.condition, str(run.seed)]
            by_view = views.setdefault((task, run.pair, run.arm, run.condition), {})
            for view in (rule for rule in RULES if rule in targets[task]["views"]):
                rows = read_run(opened[task], targets[task] | {"view": view}, run, entry)
                scores = Cell.from_counts(rows.examples, rows.num, rows.den, [run.seed]).scores
                by_view.setdefault(view, {})[run.seed] = float(scores.mean())
    return Record(suite, cells, tuple(warnings), benchmark, views, tuple(gaps), digests)


def _lineage(suite: dict[str, Any]) -> Lineage:
    """(task, pair, arm, condition, seed) -> the entry of `runs`."""
    # grounding is listed over all pairs, which may ground differently: shown in the report, not refused
    unequal = [s["stage"] for s in suite.get("schedules", ()) if not s["equal"] and s["stage"] != "grounding"]
    if unequal and not suite.get("exceptions"):
        raise AnalysisError(
            f"the arms' schedules differ in {', '.join(sorted(set(unequal)))}, and no exception declares it",
            "give every arm the same settings, or declare the difference under [[exceptions]] of the suite",
        )
    return {
        (run["task"], run["pair"], run["arm"], run["condition"], str(run["seed"])): run
        for run in suite["runs"]
    }


class _Target(NamedTuple):
    """What one file gives."""

    cells: dict[tuple[str, str, str], Cell]
    benchmark: dict[tuple[str, str, str], LanguageScores]
    warnings: list[str]
    gaps: list[Gap]
    sha256: str


def _in_threads(
    work: dict[str, Callable[[], _Target]], size: Callable[[str], int]
) -> Iterator[tuple[str, _Target]]:
    """The files' results in their own order, read side by side, the largest first: decoding leaves Python free."""
    with ThreadPoolExecutor(max_workers=min(THREADS, os.cpu_count() or 1)) as pool:
        order = sorted(work, key=size, reverse=True)
        futures = {task: pool.submit(work[task]) for task in order}
        try:
            for task in work:
                yield task, futures[task].result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _cells(
    file: OutcomeFile,
    target: dict[str, Any],
    runs: Sequence[Run],
    kept: Sequence[Run],
    lineage: Lineage,
    listed: str | None,
) -> _Target:
    """Every cell of one file; ``kept`` are the runs to analyse, ``listed`` is the digest that the record has of it."""
    minimum = MINIMUM["zero-shot" if any(r.seed == DETERMINISTIC for r in runs) else "trained"]
    grouped: dict[tuple[str, str, str], list[Run]] = {}
    for run in kept:
        grouped.setdefault((run.pair, run.arm, run.condition), []).append(run)
    found = _Target({}, {}, [], [], checked_digest(file.path, listed))
    suspects: list[str] = []
    for (pair, arm, condition), members in grouped.items():
        cell, beside, suspect = _cell(file, target, members, lineage, minimum, found)
        found.cells[pair, arm, condition] = cell
        if beside.scores:
            found.benchmark[pair, arm, condition] = beside
        suspects += [f"{pair} / {arm} / {condition} ({suspect})"] if suspect else []
    if suspects:
        found.warnings.append(
            f"{target['task']}: seeds gave identical outcomes, so that the run variance is not to be trusted, in "
            f"{'; '.join(suspects)}."
        )
    return found


def _cell(
    file: OutcomeFile,
    target: dict[str, Any],
    runs: Sequence[Run],
    lineage: Lineage,
    minimum: int,
    found: _Target,
) -> tuple[Cell, LanguageScores, str]:
    """One cell, what a benchmark reads of it, and the seeds whose equality is excused ("" if none)."""
    runs = sorted(runs, key=lambda run: run.seed)
    name = f"{target['task']}: {runs[0].pair} / {runs[0].arm} / {runs[0].condition}"
    if len({(run.seed == DETERMINISTIC) for run in runs}) > 1:
        raise AnalysisError(
            f"{name} holds a deterministic run (seed -1) beside others", "write one or the other"
        )
    entries = [lineage[target["task"], run.pair, run.arm, run.condition, str(run.seed)] for run in runs]
    metrics = [name for name in metrics_read(target) if f"{name}.num" in file.columns]
    rows = [read_run(file, target, run, entry, metrics) for run, entry in zip(runs, entries, strict=True)]
    shared = [code for code in rows[0].examples.languages if all(code in r.examples.languages for r in rows)]
    if len(shared) < len(target["languages"]):
        for run, row in zip(runs, rows, strict=True):
            lacking = tuple(code for code in target["languages"] if code not in row.examples.languages)
            place = (run.pair, run.arm, run.condition, target["task"], run.seed)
            if lacking:
                found.gaps.append(Gap(*place, lacking))
    if not shared:
        raise AnalysisError(
            f"{name}: its runs have no language in common",
            "score every run in the same languages; `xtremex run` does, and writes the file again",
        )
    if any(len(r.examples.languages) > len(shared) for r in rows):
        rows = [r.subset(shared) for r in rows]
    for run, row in zip(runs, rows, strict=True):
        if row.examples is not rows[0].examples and not row.examples.same_as(rows[0].examples):
            raise AnalysisError(
                f"{name}: seed {run.seed} was scored on other examples than seed {runs[0].seed}",
                "evaluate every run on the same test set",
            )
    sums = Sums(rows[0].examples)
    collapsed = {
        run.seed
        for run, entry in zip(runs, entries, strict=True)
        if entry.get("collapsed") or entry.get("intermediate_collapsed")
    }
    suspect = duplicates(name, runs, rows, sums, small=len(rows[0].num) < minimum, collapsed=collapsed)
    seeds = tuple(run.seed for run in runs)
    try:
        cell = cell_of_runs(sums, [r.num for r in rows], [r.den for r in rows], seeds)
        scores = {metric: np.stack([sums.scores(*r.beside[metric]) for r in rows]) for metric in metrics}
    except AnalysisError as error:
        raise AnalysisError(f"{name}: {error.message}", error.hint) from None
    return cell, LanguageScores(rows[0].examples.languages, seeds, scores), suspect


def _same_languages(
    grid: dict[tuple[str, str], Cell],
    pair: str,
    target: dict[str, Any],
    gaps: Sequence[Gap],
    warnings: list[str],
) -> dict[tuple[str, str], Cell]:
    """All cells of a pair on a target, on the languages that all have and on one test set object."""
    shared = [
        code for code in target["languages"] if all(code in c.examples.languages for c in grid.values())
    ]
    if not shared:
        raise AnalysisError(
            f"{pair} / {target['task']}: no language was scored in all cells; {_lacking(gaps, pair, target)}",
            "score every cell in the same languages; `xtremex run` does, and writes the file again",
        )
    missing = [code for code in target["languages"] if code not in shared]
    if missing:
        warnings.append(
            f"{pair} / {target['task']}: left out {', '.join(missing)} in all cells, as "
            f"{_lacking(gaps, pair, target)}; {len(shared)} of {len(target['languages'])} languages remain."
        )
    first = next(iter(grid.values()))
    same = first.examples.languages == tuple(shared)
    examples = first.examples if same else first.examples.subset(shared)[0]
    result = {}
    for key, cell in grid.items():
        part = cell.subset(shared) if cell.examples.languages != tuple(shared) else cell
        if part.examples is not examples and not part.examples.same_as(examples):
            raise AnalysisError(
                f"{pair} / {target['task']}: {' / '.join(key)} was scored on other examples than "
                f"{' / '.join(next(iter(grid)))}",
                "evaluate every run on the same test set",
            )
        result[key] = replace(part, examples=examples)
    return result


def _lacking(gaps: Sequence[Gap], pair: str, target: dict[str, Any], shown: int = 4) -> str:
    """Which runs lack which languages, the first few of them."""
    mine = [gap for gap in gaps if (gap.pair, gap.target) == (pair, target["task"])]
    said = [
        f"{gap.arm}/{gap.condition} seed {gap.seed} lacks {', '.join(gap.languages)}" for gap in mine[:shown]
    ]
    return "; ".join(said) + (f"; and {len(mine) - shown} more runs lack some" if len(mine) > shown else "")


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
                f"{arm}/{c['name']}"
                for arm in arms
                for c in suite["conditions"]
                if (arm, c["name"]) not in grid
            ]
            if lost:
                warnings.append(
                    f"{pair['name']} / {target['task']}: no outcomes for {', '.join(lost)}; "
                    "effects average over the rest."
                )
