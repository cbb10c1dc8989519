"""What the command `plan` prints: tables on stdout."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .cost import RATE, plan_cost
from .environment import workers
from .policy import terms_words
from .progress import Estimates, duration
from .run import Options, missing_data, plan_suite
from .screen import console as _console

if TYPE_CHECKING:
    from .plan import Job, Plan
    from .store import Store

__all__ = ["print_plan"]

ENCODER_BYTES = 15_000_000
"""Disk of one stored encoder before any was measured: changed weights of the mini suite's encoder."""


def print_plan(name: str, options: Options, *, as_json: bool) -> None:
    plan = plan_suite(name, options)
    if as_json:
        print(json.dumps(_as_json(plan, options), indent=1))
        return
    store = options.store
    estimates = Estimates.from_store(store, plan.jobs)
    crew = workers(plan.numerics.device, options.workers)
    missing = plan.missing(store)
    absent = {job.key for job in missing}
    counts = Counter(job.label for job in plan.jobs.values())
    table = Table("job", "number", "finished", "to do", "each", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    first = {job.label: job for job in reversed(plan.jobs.values())}
    for label, number in counts.items():
        todo = sum(job.key in absent for job in plan.jobs.values() if job.label == label)
        table.add_row(
            label,
            str(number),
            str(number - todo),
            str(todo),
            duration(estimates.of(first[label])) if estimates.tells(first[label]) else "?",
        )
    console = _console()
    suite = plan.suite
    arms = sum(len(pair.arms) for pair in suite.pairs)
    console.print(f"{suite.name}: {suite.title}")
    console.print(
        f"{arms} arms x {len(suite.conditions)} conditions x {len(plan.targets)} targets x {len(suite.seeds)} seeds: "
        f"{len(plan.cells)} runs from {len(plan.jobs)} jobs, shared steps counted once",
        highlight=False,
    )
    console.print(table)
    console.print(
        f"to do: {len(missing)} jobs, about {duration(estimates.remaining(missing, crew))} with {crew} workers on "
        f"{plan.numerics.device} in {plan.numerics.precision}, about {_disk(plan, store, missing)} of disk",
        highlight=False,
    )
    _print_cost(plan, console)
    _print_overlaps(plan, console)
    for line in missing_data(plan, options):
        console.print(f"missing here: {line}", style="yellow", highlight=False)
    console.print(
        f"schedules: {len(plan.schedules)} (stage, seed), each the same for all its arms", highlight=False
    )
    _print_policies(plan, console)
    unscored = [task.name for task in suite.targets if task not in plan.targets]
    if unscored:
        console.print(
            f"no arm has an image tower, left out: {', '.join(unscored)}", style="yellow", highlight=False
        )
    for exemption in suite.exceptions:
        console.print(
            f"declared exception: {exemption.arm}, {exemption.key}: {exemption.reason}", highlight=False
        )


def _print_policies(plan: Plan, console: Console) -> None:
    """What the arms of each pair with different backbones are used with."""
    for pair in plan.suite.pairs:
        if len({arm.backbone for arm in pair.arms.values()}) > 1 or plan.terms[pair.name]:
            terms = plan.terms[pair.name]
            console.print(
                f"pair {pair.name}, every arm: {terms_words(terms)}",
                style="yellow" if terms.unsettled else None,
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


def _print_cost(plan: Plan, console: Console) -> None:
    """GPU hours of a suite of large encoders, from declared sizes alone: no data and no network are needed."""
    cost = plan_cost(plan)
    if not cost.flops:
        return
    hours = cost.flops / RATE["cuda"] / 3600
    console.print(
        f"cost of the whole plan: {cost.flops:.1e} operations, about {hours:,.0f} hours on one GPU at "
        f"{RATE['cuda'] / 1e12:.0f} TFLOP/s (declared sizes, estimated tokens: good to a factor of two)",
        highlight=False,
    )
    if cost.unknown:
        console.print(f"of unknown size, not counted: {', '.join(cost.unknown)}", highlight=False)


def _print_overlaps(plan: Plan, console: Console) -> None:
    scored = {task.name for task in plan.targets}
    for overlap in (o for o in plan.suite.contamination if o["target"] in scored):
        console.print(
            f"overlap: {overlap['intermediate']} -> {overlap['target']}: {overlap['note']}",
            style="yellow",
            highlight=False,
        )


def _disk(plan: Plan, store: Store, missing: list[Job]) -> str:
    """Bytes of the encoders still to be stored: all weights of a large one, else the mean of those in the store."""
    sizes = [
        sum(file.stat().st_size for file in store.folder(job.type, job.key).iterdir())
        for job in plan.jobs.values()
        if job.type == "train" and store.has(job.type, job.key)
    ]
    mean = sum(sizes) / len(sizes) if sizes else ENCODER_BYTES
    bytes_ = sum(
        4 * job.backbone.parameters if job.backbone and job.backbone.parameters and not sizes else mean
        for job in missing
        if job.type in ("ground", "train")
    )
    return f"{bytes_ / 1e6:,.0f} MB" if bytes_ < 1e10 else f"{bytes_ / 1e9:,.0f} GB"


def _as_json(plan: Plan, options: Options) -> dict[str, object]:
    """The DAG for other schedulers: run ``xtremex run`` on any part of it; keys are addresses in the store."""
    store = options.store
    return {
        "suite": plan.suite.name,
        "key": plan.key,
        "jobs": [
            {
                "key": job.key,
                "type": job.type,
                "label": job.label,
                "seed": job.seed,
                "needs": list(job.needs),
                "tasks": [task.name for task in job.tasks],
                "finished": store.has(job.type, job.key),
            }
            for job in plan.jobs.values()
        ],
    }
