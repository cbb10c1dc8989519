"""Tables of failed and missing runs: by arm, by cell, and whether arms failed unequally often."""

from __future__ import annotations

from collections.abc import Iterable

from . import wording as w
from .outline import NONE, Outline
from .secondary import FailureCount
from .tables import Block, Table, Text, figure, row, tagged, text, where

__all__ = ["failure_cells", "failure_sentence", "failure_tests", "failures"]


def _cells(outline: Outline) -> list[FailureCount]:
    return [x for x in outline.results.failures if x.pair in outline.pairs]


def failure_sentence(outline: Outline) -> tuple[str, ...]:
    """How many cells are whole."""
    cells = _cells(outline)
    if not cells:
        return ()
    whole = sum(cell.complete for cell in cells)
    if whole == len(cells):
        return (
            f"All {len(cells)} cells are complete: no run failed, none is missing, no language was left out.",
        )
    return (
        f"{whole} of {len(cells)} cells are complete; the others have runs that were started again, collapsed or are "
        "missing, or lack languages. Nothing is averaged away: a missing run or language is counted here.",
    )


def _stage(cells: Iterable[FailureCount], name: str) -> int:
    """Intermediate runs: each feeds all targets of its arm and condition, and counts once."""
    most: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        key = (cell.pair, cell.arm, cell.condition)
        most[key] = max(most.get(key, 0), getattr(cell, name))
    return sum(most.values())


def failures(outline: Outline) -> Table:
    """Counts by arm, before and after intermediate training."""
    blocks = []
    for pair in outline.pairs:
        mine = [x for x in _cells(outline) if x.pair == pair]
        rows = []
        for arm in dict.fromkeys((*outline.arms(pair), *(x.arm for x in mine))):
            for trained, stage in ((False, "none"), (True, "after")):
                cells = [x for x in mine if x.arm == arm and (x.condition != NONE) == trained]
                if cells:
                    rows.append(
                        row(
                            f"{arm}, {stage}",
                            str(sum(x.planned for x in cells)),
                            str(sum(x.analysed for x in cells)),
                            f"{sum(x.restarted for x in cells)} ({sum(x.collapsed for x in cells)})",
                            f"{_stage(cells, 'intermediate_restarted')} ({_stage(cells, 'intermediate_collapsed')})",
                        )
                    )
        blocks.append(Block(where(outline, pair), tuple(rows)))
    return Table(
        "failures",
        "Failed and missing runs by arm, without (none) and after intermediate training",
        (*text("Arm"), *figure("Planned", "Used", "Target", "Interm.")),
        tuple(blocks),
        "Planned and used: runs of the target stage. Target, intermediate: trainings of that stage that were started again "
        "after a failure, and in parentheses those that collapsed at the last attempt and were kept; an intermediate "
        "training counts once, whatever the number of targets.",
        slim=True,
    )


def failure_cells(outline: Outline) -> Table:
    """Every cell that is not complete."""
    blocks = []
    for pair in outline.pairs:
        rows = tuple(
            row(
                x.arm, outline.condition(x.condition), outline.task(x.target),
                str(x.planned), Text(str(x.analysed), strong=x.missing > 0), str(x.restarted), str(x.collapsed),
                str(x.intermediate_restarted), str(x.intermediate_collapsed), _lacking(x),
            )
            for x in _cells(outline)
            if x.pair == pair and not x.complete
        )  # fmt: skip
        blocks.append(Block(where(outline, pair), rows))
    return Table(
        "failure_cells",
        "Every cell that is not complete",
        (
            *text("Arm", "Intermediate", "Target"),
            *figure("Planned", "Used", "Again", "Collapsed", "Interm. again", "Interm. collapsed"),
            *text("Languages it lacks"),
        ),
        tuple(blocks),
        "A language that a run lacks is left out of all cells of its pair and target: scores are compared on the same "
        "languages.",
        fold=True,
    )


def _lacking(cell: FailureCount) -> str:
    """``fa (seeds 1, 2), zh``."""
    seeds = {code: ", ".join(map(str, mine)) for code, mine in cell.missing_seeds.items()}
    said = (
        f"{code} (seed{'s' if ', ' in seeds[code] else ''} {seeds[code]})" if seeds.get(code) else code
        for code in cell.missing_languages
    )
    return ", ".join(said) or "–"


def failure_tests(outline: Outline) -> Table:
    """Exact tests of failures; empty where none failed."""
    blocks = []
    for pair in outline.pairs:
        rows = tuple(
            row(
                tagged(x.contrast, x.role),
                x.stage,
                "arms (Fisher)" if x.test == "imbalance" else "arms × intermediate (Zelen)",
                "; ".join(f"{name} {x.failed[name]}/{x.trainings[name]}" for name in x.failed),
                w.p_value(x.p),
            )
            for x in outline.results.failure_tests
            if x.pair == pair
        )
        blocks.append(Block(where(outline, pair), rows))
    return Table(
        "failure_tests",
        "Did training fail more often in one arm?",
        (*text("Contrast", "Stage", "Compared", "Failed / trainings"), *figure("p")),
        tuple(blocks),
        "Exact tests of failures at the first attempt, two-sided, no df; each alone, not adjusted. Fewer failures may be an "
        "effect of its own.",
    )
