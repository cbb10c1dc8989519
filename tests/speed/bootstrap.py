"""Processor seconds of 10,000 bootstrap resamples of one cell of the map: 4 cells x 5 seeds x 40 languages x 2,000 examples.

The package's cross-check (bar: 1 s), its form for F1, the closed form, `scipy.stats.bootstrap` and a plain numpy loop, in
one run. The last two are timed on a share of the job and scaled; they resample examples only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import bootstrap

from xtremex.analysis.bootstrap import hierarchical_bootstrap
from xtremex.analysis.estimator import Cell, Examples, contrast

SECONDS, RESAMPLES, SIGNS = 1.0, 10_000, (1.0, -1.0, -1.0, 1.0)


def timed(name: str, job: Callable[[], float], share: float = 1.0) -> float:
    began = time.process_time()
    se = job()
    seconds = (time.process_time() - began) / share
    note = "" if share == 1 else f"   (measured on {share:.2%})"
    print(f"{name:<52}{seconds:>9.3f} s   SE {100 * se:.4f} points{note}", flush=True)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--languages", type=int, default=40)
    parser.add_argument("--examples", type=int, default=2000)
    options = parser.parse_args()
    languages, n = options.languages, options.examples
    rng = np.random.default_rng(0)
    examples = Examples.regular([f"l{i}" for i in range(languages)], n)
    difficulty = rng.random(languages * n)
    num = [((difficulty + rng.random((5, languages * n))) / 2 < 0.7).astype(np.float64) for _ in SIGNS]
    ones = [np.ones_like(x) for x in num]
    den = [3.0 + (rng.random(x.shape) < 0.5) for x in num]
    d = (np.asarray(SIGNS) @ np.stack([x.mean(axis=0) for x in num])).reshape(languages, n)
    cube = np.stack(num).reshape(20, languages, n)

    def closed() -> float:
        return contrast([Cell.from_counts(examples, x, y) for x, y in zip(num, ones, strict=True)], SIGNS).se

    def loop(resamples: int) -> float:
        found = []
        for _ in range(resamples):
            means = np.empty((20, languages))
            for language in range(languages):
                at = rng.integers(0, n, n)
                for run in range(20):
                    means[run, language] = cube[run, language][at].mean()
            found.append(np.asarray(SIGNS) @ means.mean(axis=1).reshape(4, 5).mean(axis=1))
        return float(np.std(found, ddof=1))

    def scipys(resamples: int, count: int) -> float:
        errors = [
            bootstrap(
                (d[i],), np.mean, n_resamples=resamples, method="percentile", rng=rng, batch=500
            ).standard_error
            for i in range(count)
        ]
        return float(np.sqrt(np.mean(np.asarray(errors) ** 2) / languages))

    def ours(below: list[np.ndarray]) -> float:
        return hierarchical_bootstrap(examples, num, below, SIGNS, resamples=RESAMPLES).se

    closed()
    seconds = timed("hierarchical bootstrap", lambda: ours(ones))
    timed("hierarchical bootstrap, ratios (F1)", lambda: ours(den))
    timed("closed form", closed)
    few = min(4, languages)
    timed(
        "scipy.stats.bootstrap, runs averaged, examples only",
        lambda: scipys(1000, few),
        few / languages * 0.1,
    )
    timed("numpy loop over runs and languages, examples only", lambda: loop(20), 20 / RESAMPLES)
    return 0 if seconds <= SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
