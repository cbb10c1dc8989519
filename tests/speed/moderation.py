"""Familywise error and power of Holm over a 9 x 9 map: ``moderation.py [--families N] [--seeds S]``.

Run-level scores with the shared baselines and checkpoints of the design, the variance over examples taken as known; run SDs
of .5 points times a lognormal factor of each cell. Columns: the tests with their own variances; moderated variances with
the prior's df and the estimate's own by Welch (in use); with the prior's df and the sum of S - 1 (limma). 10,000 families
take about two minutes and give rates to .002. Where this was run last: the docstring of ``moderated``.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.special import stdtr

from xtremex.analysis.moderation import moderate
from xtremex.analysis.multiplicity import holm

TASKS = CONDITIONS = 9
CHECKPOINT, EFFECT, SHARE = 0.3, 2.5, 0.3
"""Points, points, and the share of cells that the effect is in when power is asked for."""
SETTINGS = {
    # SD over cells of the log of a run's SD; more variance per run and, known, over examples, in points squared
    "equal": (0.0, 0.0, 0.0426),
    "log-SD .2": (0.2, 0.0, 0.0426),
    "log-SD .4": (0.4, 0.0, 0.0426),
    "log-SD .4, runs and checkpoints only": (0.4, 0.0, 0.0),
    "log-SD .4, and run x language and example noise": (0.4, 0.109, 0.0426),
    "log-SD .4, and many examples' noise": (0.4, 0.0, 0.155),
}


def p_values(
    rng: np.random.Generator, seeds: int, spread: float, more: float, examples: float, effects: np.ndarray
) -> dict[str, np.ndarray]:
    """Method -> (9, 9) p-values of one family with these true effects, in points."""
    sd = np.sqrt((0.5 * np.exp(rng.normal(0, spread, (2, CONDITIONS + 1, TASKS, 1)))) ** 2 + more)
    runs = sd * rng.normal(size=(2, CONDITIONS + 1, TASKS, seeds))
    runs[:, 1:] += rng.normal(0, CHECKPOINT, (2, CONDITIONS, 1, seeds))
    mean = runs.mean(axis=3) + rng.normal(size=runs.shape[:3]) * np.sqrt(examples / 4)
    estimate = (mean[0, 1:] - mean[0, 0]) - (mean[1, 1:] - mean[1, 0]) + effects
    own = runs.var(axis=3, ddof=1) / seeds
    parts = np.stack([own[0, 1:], own[1, 1:], *(np.broadcast_to(own[a, 0], effects.shape) for a in (0, 1))])
    v_run = parts.sum(axis=0)
    welch = v_run**2 / (np.sum(parts**2, axis=0) / (seeds - 1))
    residual = 4.0 * (seeds - 1)
    prior = moderate(v_run.ravel(), np.full(v_run.size, residual))
    borrowed = prior.variances.reshape(v_run.shape)
    most = residual * v_run.size

    def test(variance: np.ndarray, df: np.ndarray | float) -> np.ndarray:
        total = variance + examples
        return 2.0 * stdtr(total**2 / (variance**2 / df + examples**2 / 1e5), -abs(estimate) / np.sqrt(total))

    return {
        "own": test(v_run, welch),
        "moderated": test(borrowed, np.minimum(prior.prior_df + welch, most)),
        "limma's df": test(borrowed, min(prior.prior_df + residual, most)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"{options.families} families, S = {options.seeds}: familywise error of Holm, then power at {EFFECT} points"
    )
    for name, setting in SETTINGS.items():
        rng = np.random.default_rng(options.seed)
        wrong: dict[str, int] = {}
        found: dict[str, list[float]] = {}
        for i in range(options.families):
            nothing = np.zeros((CONDITIONS, TASKS))
            for method, p in p_values(rng, options.seeds, *setting, nothing).items():
                wrong[method] = wrong.get(method, 0) + bool(np.any(holm(p.ravel()) < 0.05))
            if i % 10 == 0:
                real = rng.random(nothing.shape) < SHARE
                for method, p in p_values(rng, options.seeds, *setting, EFFECT * real).items():
                    found.setdefault(method, []).extend(holm(p.ravel())[real.ravel()] < 0.05)
        told = ", ".join(f"{m} {wrong[m] / options.families:.3f} / {np.mean(found[m]):.2f}" for m in wrong)
        print(f"{name:<50}{told}", flush=True)


if __name__ == "__main__":
    main()
