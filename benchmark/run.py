"""The main path: load the suite, make the plan, execute what is missing, merge the outcomes, write the report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..analysis.headline import is_current as report_is_current
from ..errors import DataError, XtremexError
from ..tasks.places import COMMIT, Pins, Places
from ..tasks.sources import missing
from .collect import is_current, write_outcomes
from .environment import go_offline, numerics, workers
from .executor import execute
from .fetch import missing_models
from .plan import Plan, make_plan
from .progress import Estimates, RunProgress, duration
from .store import DamagedArtifact, Store
from .suite import Suite, builtin_suites, is_hub_id, load_suite

__all__ = ["Options", "missing_data", "plan_suite", "run"]


@dataclass(frozen=True)
class Options:
    """Where and how to run; nothing here but device and precision changes a number."""

    out: Path = Path("runs")
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    """Worker processes; 0 chooses one per core or GPU."""
    data: Path | None = None
    """Where the user's own data and local copies of hub repositories lie."""
    without: tuple[str, ...] = ()
    """Tasks that the suite names and this user leaves out."""
    offline: bool = False
    """Never open a connection, for models neither; what is missing is an error."""

    @property
    def store(self) -> Store:
        return Store(self.out / "store")

    @property
    def pins(self) -> Path:
        """What `xtremex fetch` brought, and at which commits."""
        return self.out / "fetched.json"

    @property
    def places(self) -> Places:
        return Places(self.data, Pins.read(self.pins))

    def folder(self, suite: Suite) -> Path:
        """Where a suite's outcomes and report go."""
        return self.out / suite.name


def plan_suite(name: str, options: Options) -> Plan:
    """Load a suite by name or path and lay out its jobs."""
    suite = load_suite(name, options.places, options.without)
    return make_plan(suite, numerics(options.device, options.precision))


def run(name: str, options: Options, console: Console) -> Path:
    """Run a suite from wherever it stands and return the path of its report.

    Finished jobs are never repeated; with nothing to do only the report's presence is checked. Raises ``XtremexError``
    for everything a user can mend; what was finished before stays valid.
    """
    started = time.monotonic()
    if options.offline:
        go_offline()
    plan = plan_suite(name, options)
    check_present(plan, options)
    store, folder = options.store, options.folder(plan.suite)
    crew = workers(plan.numerics.device, options.workers)
    _make(plan, store, crew, console)
    while not is_current(plan, folder):
        try:
            write_outcomes(plan, store, folder)
        except DamagedArtifact as damage:
            store.set_aside(damage.kind, damage.key)
            console.print(f"{damage.message}; set aside, making it again", style="yellow", highlight=False)
            _make(plan, store, crew, console)
    report = write(folder)
    console.print(f"done in {duration(time.monotonic() - started)}", highlight=False)
    return report


def write(folder: Path) -> Path:
    """The report of an outcomes folder, made again only when it does not belong to the present outcomes."""
    if report_is_current(folder):
        return folder / "report.html"
    from ..analysis.report import rebuild  # matplotlib and scipy take seconds to import

    return rebuild(folder)


def check_present(plan: Plan, options: Options) -> None:
    """Refuse a run whose data are not all on this machine, naming everything that is missing at once."""
    absent = missing_data(plan, options)
    if absent:
        raise DataError(
            f"suite `{plan.suite.name}` needs data that are not on this machine:\n  " + "\n  ".join(absent),
            f"`xtremex fetch {shown(plan.suite)} --out {options.out}` where there is a network; "
            "`--data DIR` for your own files; `--without TASK` to go without",
        )


def shown(suite: Suite) -> str:
    """The suite as one types it: its name where it ships with the package, else its file."""
    return suite.name if builtin_suites().get(suite.name) == suite.path else str(suite.path)


def missing_data(plan: Plan, options: Options) -> list[str]:
    """What the jobs still to be done read and this machine does not have, a line each."""
    todo = plan.missing(options.store)
    tasks = {task.name: task for job in todo for task in job.tasks}
    backbones = {job.backbone.name: job.backbone for job in todo if job.backbone and is_hub_id(job.backbone)}
    if options.offline:
        models = missing_models(backbones.values(), tasks.values(), options.places.pins)
    else:  # a model at a commit can still be downloaded
        models = [
            f"backbone {name}: {backbone.checkpoint} of the hub, at no commit"
            for name, backbone in backbones.items()
            if not COMMIT.fullmatch(backbone.revision or "")
        ]
    readers: dict[str, list[str]] = {}
    for line in missing(list(tasks.values()), options.places):
        task, _, what = line.partition(": ")
        readers.setdefault(what, []).append(task)
    return [*models, *(f"{', '.join(names)}: {what}" for what, names in readers.items())]


def _make(plan: Plan, store: Store, crew: int, console: Console) -> None:
    missing = plan.missing(store)
    cached = len(plan.jobs) - len(missing)
    note = f"{plan.suite.name}: {len(plan.jobs)} jobs, {cached} finished earlier, {len(missing)} to do"
    console.print(
        f"{note} ({crew} workers, {plan.numerics.device}, {plan.numerics.precision})", highlight=False
    )
    if not missing:
        return
    estimates = Estimates.from_store(store, plan.jobs)
    try:
        with RunProgress(missing, estimates, crew, console) as progress:
            execute(plan, store, progress, crew)
    except KeyboardInterrupt:
        done = len(plan.jobs) - len(plan.missing(store))
        raise XtremexError(
            f"stopped by you: {done} of {len(plan.jobs)} jobs are finished and kept",
            "run the same command again to go on from here",
        ) from None
