"""A suite that has not run yet, as `xtremex power` needs it: targets with test sizes, conditions, the cost of a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..analysis.planning import TargetDesign
from .cost import RATE, SMALL, declared_rows, job_flops, plan_cost
from .plan import Plan
from .progress import Estimates
from .run import Options, plan_suite

__all__ = ["SuiteDesign", "suite_design"]


@dataclass(frozen=True)
class SuiteDesign:
    targets: tuple[TargetDesign, ...]
    conditions: int
    """Without ``none``."""
    seconds_per_seed: float | None
    """Compute seconds of one more seed of every cell; None where no size is known."""
    basis: str
    """What the seconds and the test sizes rest on, in words."""


def suite_design(name: str, examples: int, store: Path) -> SuiteDesign:
    """The design of the suite ``name`` (built in, or a TOML file), with ``examples`` per language where a target's test
    size is not declared. ``store`` is looked into for times of finished jobs. Reads no data and trains nothing.

    Retention targets, in no family of effects, are left out. Raises ``SuiteError`` as `xtremex plan` does.
    """
    plan = plan_suite(name, Options(store))
    targets, assumed = [], []
    for task in plan.targets:
        if task.kind == "image-text":
            continue
        rows = declared_rows(task, "test") // len(task.languages)
        if rows < 2:
            assumed.append(task.name)
        sizes = (rows if rows >= 2 else examples,) * len(task.languages)
        targets.append(TargetDesign(task.name, sizes, task.parallel, not task.train_languages))
    seconds, basis = _seconds(plan, store)
    if assumed:
        basis += f"; {examples} test examples a language assumed for {', '.join(assumed)}"
    conditions = sum(condition != "none" for condition in plan.suite.conditions)
    return SuiteDesign(tuple(targets), max(1, conditions), seconds, basis)


def _seconds(plan: Plan, store: Path) -> tuple[float | None, str]:
    """Mean over the suite's seeds of the compute seconds of all jobs that belong to one."""
    jobs = [job for job in plan.jobs.values() if job.seed >= 0]
    seeds = max(1, len({job.seed for job in jobs}))
    if plan.numerics.device == "cpu" and any(
        job.backbone and job.backbone.parameters >= SMALL for job in jobs
    ):
        flops = sum(job_flops(job) for job in jobs)
        missing = plan_cost(plan).unknown
        left_out = f", without {', '.join(missing)}" if missing else ""
        words = "on one GPU at 100 TFLOP/s, from declared sizes, good to a factor of two" + left_out
        return (flops / RATE["cuda"] / seeds or None), words
    estimates = Estimates.from_store(Options(store).store, plan.jobs)
    return sum(map(estimates.of, jobs)) / seeds, f"on {plan.numerics.device}, as `xtremex plan` estimates it"
