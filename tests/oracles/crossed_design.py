"""Seeded scores of a balanced 2 x 2 x run x language design, for the estimator's tests and for R.

python tests/oracles/crossed_design.py FOLDER   # one CSV per data set
Rscript tests/oracles/crossed_design.R FOLDER   # prints the table that test_estimator_languages.py holds
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

DESIGNS = {"a": (5, 12, 1), "b": (4, 15, 2), "c": (6, 10, 3), "d": (3, 40, 4)}
"""Name: seeds, languages, seed of the generator."""
CELLS = ((1, 1), (1, 0), (0, 1), (0, 0))
"""(arm, condition) in the order of the contrast + - - +."""


def scores(name: str) -> np.ndarray:
    """(4, S, L) scores with run, language, language x arm x condition and run x language effects."""
    seeds, languages, seed = DESIGNS[name]
    rng = np.random.default_rng(seed)
    arm, condition = np.array(CELLS, dtype=float).T
    level = 0.7 + rng.normal(0, 0.05, languages)
    by_cell = (
        np.outer(arm, -0.02 + rng.normal(0, 0.015, languages))
        + np.outer(condition, 0.01 + rng.normal(0, 0.010, languages))
        + np.outer(arm * condition, 0.015 + rng.normal(0, 0.02, languages))
    )
    run = rng.normal(0, 0.006, (4, seeds, 1))
    return np.round(level + by_cell[:, None] + run + rng.normal(0, 0.005, (4, seeds, languages)), 6)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in DESIGNS:
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["arm", "condition", "run", "language", "score"])
            for (arm, condition), cell in zip(CELLS, scores(name), strict=True):
                for s, row in enumerate(cell):
                    for i, y in enumerate(row):
                        writer.writerow([arm, condition, f"{arm}{condition}{s}", f"l{i}", f"{y:.6f}"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
