"""Familywise error and power of Holm over a map: ``moderation.py [--families N] [--seeds S] [--tasks T]``.

Run-level scores with the shared baselines and checkpoints of the design, T targets by as many conditions, the variance
over examples taken as known: none, then half of a cell's mean run variance. Columns: the tests with their own variances;
moderated over the whole map as in limma; moderated relative to the level of each target (in use). Of each: familywise error
of Holm under no effect, then its power for an effect of five standard errors in one cell. 10,000 families of 9 x 9 take some
minutes and give errors to .003. Where this was run last: the docstring of ``moderated``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
from scipy.special import stdtr

from xtremex.analysis.moderation import Group, moderate

RUN_SD, CHECKPOINT, EFFECT, ALPHA = 0.5, 0.3, 5.0, 0.05
"""Points; points, in a target whose runs have that SD; standard errors."""
SETTINGS = {
    # SD of the log of a run's SD: over targets, over the cells of one
    "equal": (0.0, 0.0),
    "log-SD .4 over cells": (0.0, 0.4),
    "log-SD .4 over targets and cells": (0.4, 0.4),
    "log-SD 1 over targets, .2 over cells": (1.0, 0.2),
    "run SDs of mini": None,
}
MINI = (1.8, 2.2, 1.1, 2.6, 0.21, 0.25)
"""Points, one run of a target in `mini`: inference, topic, entities, spans, and two without target training."""
UNTRAINED = 2
MINI_SPREAD = 0.3
"""Log-SD over the cells of one target there, less what three seeds make by chance."""


def deviations(
    rng: np.random.Generator, setting: tuple[float, float] | None, tasks: int, seeds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (2, tasks + 1, tasks, S) in points, their true variances (2, tasks + 1, tasks), and which are trained."""
    conditions = tasks
    trained = np.ones((conditions + 1, tasks), dtype=bool)
    if setting is None:
        at = np.arange(tasks) % len(MINI)
        level, within, checkpoint = np.asarray(MINI)[at], MINI_SPREAD, 0.0
        trained[0] = at < len(MINI) - UNTRAINED
    else:
        level, within = RUN_SD * np.exp(rng.normal(0, setting[0], tasks)), setting[1]
        checkpoint = CHECKPOINT / RUN_SD
    sd = level * np.exp(rng.normal(0, within, (2, conditions + 1, tasks))) * trained
    runs = sd[..., None] * rng.normal(size=(*sd.shape, seeds))
    runs[:, 1:] += checkpoint * level[:, None] * rng.normal(size=(2, conditions, 1, seeds))
    variance = sd**2
    variance[:, 1:] += (checkpoint * level) ** 2
    return runs, variance, trained


def tests(
    rng: np.random.Generator, setting: tuple[float, float] | None, share: float, tasks: int, seeds: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Method, p-values without an effect, and with ``EFFECT`` standard errors of effect; both (cells,)."""
    runs, true, trained = deviations(rng, setting, tasks, seeds)

    def spread(x: np.ndarray) -> np.ndarray:
        """(2, conditions + 1, tasks) -> the four training cells of each effect, (4, conditions, tasks)."""
        parts = [
            np.broadcast_to(x[a, c], (tasks, tasks)) for a in (0, 1) for c in (slice(1, None), slice(0, 1))
        ]
        return np.stack(parts)

    mean = runs.mean(axis=3)
    sides = spread(mean)
    standard = spread(true / seeds).sum(axis=0)
    examples = share * standard.mean(axis=0) * np.ones_like(standard)
    se = np.sqrt(standard + examples)
    estimate = sides[0] - sides[1] - sides[2] + sides[3] + rng.normal(size=se.shape) * np.sqrt(examples)
    own = runs.var(axis=3, ddof=1) / seeds
    parts, there = spread(own), spread(np.stack([trained, trained]))
    v_run, scale = parts.sum(axis=0), there.sum(axis=0) / seeds
    welch = v_run**2 / (np.sum(parts**2, axis=0) / (seeds - 1))
    residual = (seeds - 1.0) * there.sum(axis=0)
    variance, dfs, own_dfs = ((x.T).ravel() for x in (v_run / scale, residual, welch))
    groups = [_group(t, own[:, :, t], trained[:, t], seeds) for t in range(tasks)]
    found = {"own": (v_run, welch)}
    for name, of in (("whole map", ()), ("by target", groups)):
        prior = moderate(variance, dfs, of, own_dfs=own_dfs)
        found[name] = (prior.variances.reshape(tasks, tasks).T * scale, prior.dfs.reshape(tasks, tasks).T)
    for name, (v, df) in found.items():
        total = v + examples
        freedom = total**2 / (v**2 / df + examples**2 / 1e5)
        yield (
            name,
            *(2.0 * stdtr(freedom, -abs(estimate + e * se) / np.sqrt(total)).ravel() for e in (0.0, EFFECT)),
        )


def _group(target: int, own: np.ndarray, trained: np.ndarray, seeds: int) -> Group:
    """``own`` (2, conditions + 1): a target's variances of means."""
    conditions = own.shape[1] - 1
    uses = np.zeros((conditions, 2, conditions + 1))
    uses[:, :, 0] = 1.0
    uses[np.arange(conditions), :, 1 + np.arange(conditions)] = 1.0
    kept = np.broadcast_to(trained, own.shape).ravel()
    flat = uses.reshape(conditions, -1)[:, kept]
    members = tuple(range(target * conditions, (target + 1) * conditions))
    return Group(members, flat * own.ravel()[kept], flat / seeds, np.full(int(kept.sum()), seeds - 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=9)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.families} families, {options.tasks} x {options.tasks} cells, S = {options.seeds}")
    # with one effect and no other rejection, Holm is Bonferroni
    bar = ALPHA / options.tasks**2
    for share in (0.0, 0.5):
        for name, setting in SETTINGS.items():
            rng = np.random.default_rng(options.seed)
            wrong: dict[str, int] = {}
            found: dict[str, float] = {}
            for _ in range(options.families):
                for method, null, effect in tests(rng, setting, share, options.tasks, options.seeds):
                    wrong[method] = wrong.get(method, 0) + bool(null.min() < bar)
                    found[method] = found.get(method, 0.0) + float(np.mean(effect < bar))
            n = options.families
            told = ", ".join(f"{m} {wrong[m] / n:.3f} / {found[m] / n:.2f}" for m in wrong)
            print(f"{f'{name}, examples {share:g}':<54}{told}", flush=True)


if __name__ == "__main__":
    main()
