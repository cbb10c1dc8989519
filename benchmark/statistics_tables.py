"""What the commands about inference print: tables and sentences on stdout, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ..analysis.calibrate import IN_USE, Calibrated
from ..analysis.compare import Difference, RecordComparison
from ..analysis.comparisons import ALL
from ..analysis.map_checks import Checked
from ..analysis.moderation import SMALLEST_FAMILY
from ..analysis.planning import Plan, Planned
from ..analysis.settings import Settings
from ..analysis.wording import count, duration, interval, number, p_value, points, verdict
from .screen import console, folded, print_table

__all__ = [
    "counting",
    "print_calibration",
    "print_comparison",
    "print_crosscheck",
    "print_json",
    "print_power",
]

BAR = 0.06
"""Error rate up to which a test of nominal .05 is accepted (statistics reference, section 3.4)."""


def print_json(value: Any) -> None:
    print(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """Plain data; what JSON cannot say (NaN, infinity) as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def counting(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A bar on stderr where that is a terminal; yields what to call after each."""
    columns = TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _table(*columns: str, words: int = 1) -> Table:
    """The first ``words`` columns hold words, the others numbers."""
    table = folded(*columns)
    for column in table.columns[words:]:
        column.justify = "right"
    return table


def _say(target: Console, text: str) -> None:
    target.print(Text(text), soft_wrap=not target.is_terminal)


def _share(value: float | None) -> str:
    """A rate as ``.053``."""
    return "" if value is None else f"{value:.3f}".removeprefix("0")


def print_power(plan: Plan) -> None:
    target = console()
    first = plan.components.targets[0]
    if plan.source == "pilot":
        _say(
            target,
            f"Planned from the outcomes of {plan.pair}: {count(len(plan.components.targets), 'target')}, "
            f"{count(plan.conditions, 'intermediate condition')}.",
        )
    else:
        tests = f" in {count(len(first.sizes), 'language')} of {first.sizes[0]} examples"
        _say(
            target,
            f"Planned from stated SDs: run {_sd(first.run)}, run and language {_sd(first.run_language)}, "
            f"checkpoint {_sd(plan.components.checkpoint)} points; {count(len(plan.components.targets), 'target')}"
            f"{tests if plan.source == 'stated' else ' of the suite'}, {count(plan.conditions, 'condition')}.",
        )
    _say(
        target,
        f"Smallest effect in points (difference in differences) found with power {plan.power:g} at alpha "
        f"{plan.alpha:g}, tier T2, {plan.df_method} df, by seeds per cell; and seeds that find {plan.effect:g} points.",
    )
    seeds = [row.seeds for row in plan.effects[0].rows]
    table = _table("effect", "alpha", *(f"S = {s}" for s in seeds), f"seeds for {plan.effect:g}")
    for planned in plan.effects:
        of = "" if planned.comparisons == 1 else f" / {planned.comparisons}"
        table.add_row(
            _named(planned),
            f"{plan.alpha:g}{of}",
            *(number(row.mde) for row in planned.rows),
            _needed(planned, plan.effect),
        )
    print_table(table, target)
    if plan.seconds_per_seed is not None:
        costs = ", ".join(f"{s}: {duration(s * plan.seconds_per_seed)}" for s in seeds)
        _say(target, f"Compute time of all cells by seeds: {costs} ({plan.basis}).")
    elif plan.basis:
        _say(target, f"Compute time unknown ({plan.basis}).")
    if any(_needed(planned, plan.effect) == "never" for planned in plan.effects):
        _say(
            target,
            "never: the test examples alone hide it; more examples or languages help, more seeds do not.",
        )
    cells = max(planned.comparisons for planned in plan.effects)
    if cells >= SMALLEST_FAMILY:
        _say(
            target,
            f"alpha / {cells}: the first step of Holm over the map. Its test moderates the run variances of cells like "
            "these, which finds more at few seeds than this row says.",
        )
    if plan.source == "pilot":
        _say(
            target,
            "The pilot's SDs are estimates themselves: plan a seed more than a row says.",
        )


def _needed(planned: Planned, effect: float) -> str:
    if planned.needed is not None:
        return str(planned.needed)
    return "never" if planned.floor >= effect else "> 1000"


def _sd(variance: float) -> str:
    return f"{100.0 * math.sqrt(variance):g}"


def _named(planned: Planned) -> str:
    what = "mean over targets" if planned.target == ALL else planned.target
    over = "one condition" if planned.conditions == 1 else f"mean over {planned.conditions} conditions"
    return f"{what}, {over}"


def print_calibration(rows: Sequence[Calibrated], pair: str, settings: Settings) -> None:
    """The mean over targets (or the only target) first, then error rates by target."""
    target, alpha = console(), settings.alpha
    scopes = list(dict.fromkeys(row.scope for row in rows))
    main = ALL if ALL in scopes else scopes[0]
    datasets, error = rows[0].datasets, rows[0].standard_error
    what = "the mean over targets" if main == ALL else main
    _say(
        target,
        f"{pair}: {datasets} data sets simulated with this suite's design and variance components. Error rate "
        f"of each test for {what} (one condition, two arms) where it promises {alpha:g}, "
        "coverage of its interval and width in points; Monte-Carlo error "
        f"{_share(error)}.",
    )
    if settings.df != "welch":
        _say(target, f"Degrees of freedom of the test in use: {settings.df}, as the suite asks.")
    if settings.tier != "T2":
        _say(target, f"The suite asks for tier {settings.tier}; T2 is simulated: languages stay as they are.")
    table = _table("test", "error rate", "coverage", "width", "too often")
    for row in (row for row in rows if row.scope == main):
        # beyond what chance makes of a rate at the bar
        often = row.error > BAR / 0.05 * alpha + 2.0 * error
        table.add_row(
            row.method,
            _share(row.error),
            _share(row.coverage) or "no interval",
            number(row.width) if row.width is not None else "",
            "yes" if often else "no",
            style="bold" if row.method == IN_USE else None,
        )
    print_table(table, target)
    single = [scope for scope in scopes if scope != main]
    if single:
        _say(target, "Error rates by target:")
        by = {(row.method, row.scope): row for row in rows}
        methods = list(dict.fromkeys(row.method for row in rows))
        table = _table("target", *(method.split()[0].rstrip(",") for method in methods))
        for scope in single:
            found = [by.get((method, scope)) for method in methods]
            table.add_row(scope, *("-" if row is None else _share(row.error) for row in found))
        print_table(table, target)


def print_crosscheck(found: Checked) -> None:
    target = console()
    grand, cell = found.grand, found.checked
    for title, closed, runs, bootstrap, permutation in (
        (f"mean over {grand.cells} cells", grand.closed, grand.runs, grand.bootstrap, grand.permutation),
        (" -> ".join(found.cell), cell.closed, found.cell_runs, cell.bootstrap, cell.permutation),
    ):
        _say(target, f"{found.pair} / {found.contrast}, {title} (points)")
        level = f"{100 * (1 - found.alpha):g} % CI"
        table = _table("method", "estimate", "se", "df", level, "p")
        for name, x in ((f"closed form, {closed.tier}", closed), ("closed form, T1", runs)):
            table.add_row(name, *_numbers(x.value, x.se, x.df, x.low, x.high, x.p))
        b = bootstrap
        table.add_row(
            f"bootstrap, {b.resamples} resamples, T2", *_numbers(b.value, b.se, b.df, b.low, b.high, b.p)
        )
        table.add_row(
            "  its percentiles", "", "", "", interval(100 * b.percentile[0], 100 * b.percentile[1]), ""
        )
        if permutation is None:
            table.add_row("permutation of runs, T1", "not possible", "", "", "", "")
        else:
            how = "all" if permutation.exact else "drawn"
            table.add_row(
                f"permutation of runs, T1, {permutation.arrangements} {how}",
                points(100 * permutation.value),
                "",
                "",
                f"smallest p {p_value(permutation.smallest_p)}",
                p_value(permutation.p),
            )
        print_table(table, target)
    if found.map is not None:
        _print_map(found, target)


def _numbers(value: float, se: float, df: float, low: float, high: float, p: float | None) -> tuple[str, ...]:
    return points(100 * value), number(100 * se), number(df, 1), interval(100 * low, 100 * high), p_value(p)


def _print_map(found: Checked, target: Console) -> None:
    assert found.map is not None
    s = found.map.shrunken
    how = "moderated" if found.map.moderated else "own"
    _say(
        target,
        f"The map, shrunken (secondary; {how} run variances): SD between cells {number(s.tau)}, conditions "
        f"{number(s.sd_conditions)}, targets {number(s.sd_targets)} points",
    )
    table = _table(
        "condition",
        "target",
        "estimate",
        "se",
        "shrunken",
        "sd",
        "P(> 0)",
        f"P(±{s.margin:g})",
        words=2,
    )
    for i, (condition, task) in enumerate(found.map.cells):
        fit = found.map.fits[i]
        table.add_row(
            condition,
            task,
            points(100 * fit.value),
            number(100 * fit.se),
            points(float(s.mean[i])),
            number(float(s.sd[i])),
            _share(float(s.positive[i])),
            _share(float(s.negligible[i])),
        )
    print_table(table, target)


def print_comparison(found: RecordComparison, *, cells: bool) -> None:
    """Means, and every cell where ``cells``."""
    target = console()
    for side, folder, line in zip("AB", found.folders, found.signatures, strict=True):
        _say(target, f"{side}: {folder}\n   {line}")
    if found.changes:
        table = folded("differs", "A", "B")
        for change in found.changes:
            table.add_row(Text(change.what), Text(change.a), Text(change.b))
        print_table(table, target)
    else:
        _say(target, "Signatures, versions and settings are equal.")
    for note in found.notes:
        _say(target, note)
    groups = {
        "Effects (points): B - A of the difference in differences": (
            "effect",
            ("grand", "conditions", "targets"),
        ),
        "Effects by cell of the map": ("effect", ("map",)),
        "Scores, means over targets (points)": ("score", ("means",)),
        "Scores by target": ("score", ("cells",)),
    }
    for title, (what, families) in groups.items():
        chosen = [d for d in found.differences if d.what == what and d.family in families]
        # a suite with one target has no means: its cells are shown in their place
        single = not any(d.family == "means" for d in found.differences) and families == ("cells",)
        if chosen and (cells or single or families not in (("map",), ("cells",))):
            _print_differences(title, chosen, found.alpha, target)
    hidden = sum(d.family in ("map", "cells") for d in found.differences)
    if hidden and not cells:
        _say(target, f"{hidden} single cells are not shown: --cells, --markdown or --json show them.")


def _print_differences(title: str, rows: Sequence[Difference], alpha: float, target: Console) -> None:
    """A table for each contrast or arm: eight columns fit eighty characters."""
    _say(target, f"\n{title}")
    for pair, name in dict.fromkeys((d.pair, d.name) for d in rows):
        first = f"{pair} / {name}"
        level = f"{100 * (1 - alpha):g} % CI"
        table = _table(first, "A", "B", "B - A", level, "adj. p", "verdict")
        table.columns[-1].justify = "left"
        for d in (d for d in rows if (d.pair, d.name) == (pair, name)):
            sign = points if d.what == "effect" else number
            table.add_row(
                Text(_where(d)),
                sign(d.a),
                sign(d.b),
                points(d.value),
                interval(d.low, d.high),
                p_value(d.p_adjusted),
                "same runs" if d.same_runs else verdict(d.verdict),
            )
        print_table(table, target)


def _where(d: Difference) -> str:
    """``mean``, ``nli``, ``-> topic`` or ``nli -> topic``."""
    to = "" if d.target == ALL else f"-> {d.target}"
    # a score always has a condition
    what = "" if d.condition == ALL else d.condition
    return f"{what} {to}".strip() or "mean"
