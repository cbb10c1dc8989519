"""Outcomes for a mixed model in R: a reviewer can fit the crossed design (tier T3) with lme4 and compare.

`lmer.csv` holds one line per run and language, `lmer.R` fits every cell of the condition x target map and prints its
interaction beside the closed form's. Scores alone: test examples are no part of it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import AnalysisError
from .comparisons import NONE
from .estimator import Term, estimate
from .outcomes import Record, read_record

__all__ = ["FORMULA", "write_lmer"]

FORMULA = "score ~ A * C + (1 | run) + (1 | language) + (0 + A | language) + (0 + C | language) + (0 + A:C | language)"
"""With A and C coded +-1/2 the coefficient of ``A:C`` is the difference in differences."""
_COLUMNS = ("pair", "contrast", "condition", "target", "run", "seed", "language", "A", "C", "score")
_CLOSED = ("pair", "contrast", "condition", "target", "estimate", "se", "df", "tier")

_SCRIPT = """\
# Rscript lmer.R: fits {formula}
# to every pair, contrast, condition and target of lmer.csv; needs lme4 and lmerTest.
suppressMessages(library(lmerTest))
scores <- read.csv("lmer.csv", stringsAsFactors = FALSE)
closed <- read.csv("closed.csv", stringsAsFactors = FALSE)
cells <- split(scores, scores[c("pair", "contrast", "condition", "target")], drop = TRUE)
for (cell in cells) {{
  fit <- suppressMessages(suppressWarnings(lmer({formula}, data = cell)))
  row <- coef(summary(fit))["A:C", ]
  ours <- merge(unique(cell[c("pair", "contrast", "condition", "target")]), closed)
  cat(sprintf("%s / %s / %s / %s: lmer %+.5f se %.5f df %.1f%s; closed form %+.5f se %.5f df %.1f (%s)\\n",
              ours$pair, ours$contrast, ours$condition, ours$target, row[["Estimate"]], row[["Std. Error"]],
              row[["df"]], if (isSingular(fit)) " (singular)" else "", ours$estimate, ours$se, ours$df, ours$tier))
}}
"""


def write_lmer(folder: Path, suite: Mapping[str, Any], out: Path) -> None:
    """Write `lmer.csv`, `closed.csv` and `lmer.R` of the outcomes in ``folder`` to ``out``.

    Cells of fewer than two runs, deterministic ones among them, and targets in one language have no such model and are
    left out; ``AnalysisError`` where none is left.
    """
    record = read_record(folder)
    closed = []
    with (out / "lmer.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for where, cells in _maps(record):
            fit = estimate([Term(cells, dict(zip(cells, (1.0, -1.0, -1.0, 1.0), strict=True)))], tier="T3")
            closed.append([*where, repr(fit.value), repr(fit.se), repr(fit.df), fit.tier])
            for (arm, condition), (a, c) in zip(cells, ((1, 1), (1, -1), (-1, 1), (-1, -1)), strict=True):
                cell = cells[arm, condition]
                for seed, row in zip(cell.seeds, cell.scores.tolist(), strict=True):
                    run = f"{arm}/{condition}/{seed}"
                    for language, score in zip(cell.examples.languages, row, strict=True):
                        writer.writerow([*where, run, seed, language, a / 2, c / 2, repr(score)])
    if not closed:
        raise AnalysisError(
            "no cell of the map has two or more runs on both sides and two or more languages",
            "a mixed model needs both; `xtremex export --format csv` writes the scores as they are",
        )
    with (out / "closed.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows([_CLOSED, *closed])
    (out / "lmer.R").write_text(_SCRIPT.format(formula=FORMULA), encoding="utf-8")


def _maps(record: Record) -> Iterator[tuple[tuple[str, str, str, str], dict[tuple[str, str], Any]]]:
    """(pair, contrast, condition, target) and its four cells, plus with and without, minus with and without."""
    for pair in record.suite["pairs"]:
        for contrast in pair["contrasts"]:
            for target in record.suite["targets"]:
                grid = record.cells.get((pair["name"], target["task"]), {})
                for condition in (c["name"] for c in record.suite["conditions"] if c["name"] != NONE):
                    keys = [(contrast[side], c) for side in ("plus", "minus") for c in (condition, NONE)]
                    if target["retention"] or not all(
                        key in grid and len(grid[key].seeds) > 1 for key in keys
                    ):
                        continue
                    if len(grid[keys[0]].examples.languages) > 1:
                        where = (pair["name"], contrast["name"], condition, target["task"])
                        yield where, {key: grid[key] for key in keys}
