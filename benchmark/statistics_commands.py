"""The commands about inference: `power`, `calibrate`, `crosscheck`, `compare`. They need only the core install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import AnalysisError

__all__ = ["COMMANDS"]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder with suite.json and outcomes/.")]
Pair = Annotated[str | None, typer.Option(help="Pair of encoders; default: the first with outcomes.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(help="Random numbers: the same seed gives the same numbers.")]


def power(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Outcomes of a pilot of two seeds or more.")
    ] = None,
    pair: Pair = None,
    effect: Annotated[float, typer.Option(help="Effect to be found, in points.")] = 1.0,
    seeds: Annotated[str, typer.Option(help="Seeds per cell to show, separated by commas.")] = "3,5,10,20",
    power_: Annotated[float, typer.Option("--power", help="Probability of finding it.")] = 0.8,
    alpha: Annotated[float | None, typer.Option(help="Default: the suite's, or .05.")] = None,
    run_sd: Annotated[
        float | None, typer.Option(help="Without DIR: SD of one run's score on a target, in points.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="With --run-sd: a built-in suite or a TOML file; its targets, conditions, test sizes and cost."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="With --suite: folder whose finished jobs tell times.")] = Path(
        "runs"
    ),
    run_language_sd: Annotated[
        float, typer.Option(help="SD of one run in one language beyond that, in points.")
    ] = 0.6,
    checkpoint_sd: Annotated[
        float, typer.Option(help="SD of an intermediate checkpoint, over all its targets, in points.")
    ] = 0.3,
    score: Annotated[float, typer.Option(help="Accuracy that is expected, a fraction.")] = 0.7,
    targets: Annotated[int, typer.Option(help="Target tasks.")] = 9,
    conditions: Annotated[int, typer.Option(help="Intermediate conditions, `none` not counted.")] = 9,
    languages: Annotated[int, typer.Option(help="Test languages of a target.")] = 15,
    examples: Annotated[
        int, typer.Option(help="Test examples of a language; of a suite, where none are declared.")
    ] = 1000,
    json: Json = False,
) -> None:
    """What an experiment can see with so many seeds, from a pilot's outcomes or from stated SDs."""
    from ..analysis.planning import design_plan, pilot_plan, stated_components
    from .statistics_tables import print_json, print_power

    asked: dict[str, Any] = {"seeds": _numbers(seeds), "effect": effect, "power": power_}
    if (folder is None) == (run_sd is None):
        raise AnalysisError(
            "power needs to know how much runs vary"
            if folder is None
            else f"both {folder} and --run-sd say how much runs vary",
            "`xtremex power DIR` takes it from a pilot's outcomes, `xtremex power --run-sd 0.5` from you (points)",
        )
    if folder is not None and suite is not None:
        raise AnalysisError(
            f"both {folder} and --suite {suite} say what is planned",
            "`xtremex power DIR` plans from a pilot's outcomes, `--suite` a suite that has not run",
        )
    if folder is not None:
        from ..analysis.outcomes import read_record

        plan = pilot_plan(read_record(folder), pair=pair, alpha=alpha, **asked)
    else:
        design = None
        if suite is not None:
            from .power_design import suite_design

            design = suite_design(suite, examples, out)
            asked |= {"source": "suite", "seconds_per_seed": design.seconds_per_seed, "basis": design.basis}
        components = stated_components(
            run_sd=run_sd or 0.0,
            run_language_sd=run_language_sd,
            checkpoint_sd=checkpoint_sd,
            languages=languages,
            examples=examples,
            targets=targets if design is None else design.targets,
            score=score,
        )
        of = conditions if design is None else design.conditions
        plan = design_plan(components, of, alpha=0.05 if alpha is None else alpha, **asked)
    print_json(plan.to_json()) if json else print_power(plan)


def calibrate(
    folder: Folder,
    datasets: Annotated[int, typer.Option(help="Simulated data sets.")] = 200,
    pair: Pair = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Simulate the suite's own design: error rate and coverage of the test in use, beside the field's habits."""
    from ..analysis.calibrate import calibrate_suite
    from ..analysis.outcomes import read_record
    from ..analysis.planning import chosen_pair
    from ..analysis.settings import Settings
    from .statistics_tables import counting, print_calibration, print_json

    record = read_record(folder)
    pair = chosen_pair(record, pair)
    with counting(datasets, "data sets") as done:
        rows = calibrate_suite(record, datasets, seed, pair=pair, progress=done)
    if json:
        print_json({"pair": pair, "datasets": datasets, "seed": seed, "rows": rows})
    else:
        print_calibration(rows, pair, Settings.of(record.suite))


def crosscheck(
    folder: Folder,
    pair: Pair = None,
    contrast: Annotated[str | None, typer.Option(help="Default: the pair's first.")] = None,
    condition: Annotated[str | None, typer.Option(help="With --target: check this cell of the map.")] = None,
    target: Annotated[str | None, typer.Option(help="With --condition: check this cell of the map.")] = None,
    resamples: Annotated[int, typer.Option(help="Resamples of the bootstrap.")] = 10_000,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """The same effects by other roads: hierarchical bootstrap, synchronized permutation, Bayesian shrinkage."""
    from ..analysis.map_checks import check_folder
    from .statistics_tables import print_crosscheck, print_json

    if (condition is None) != (target is None):
        raise AnalysisError("a cell of the map is a condition and a target", "give --condition and --target")
    cell = None if condition is None or target is None else (condition, target)
    found = check_folder(folder, pair=pair, contrast=contrast, cell=cell, resamples=resamples, seed=seed)
    print_json(found) if json else print_crosscheck(found)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A folder with suite.json and outcomes/.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one: a later run, or another suite.")],
    cells: Annotated[bool, typer.Option("--cells", help="Print every cell, not the means alone.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, every cell included.")
    ] = False,
    json: Json = False,
) -> None:
    """What changed between two outcome folders: scores and effects, with intervals, and what was not the same."""
    from ..analysis.compare import compare as compare_folders
    from .statistics_tables import print_comparison, print_json

    found = compare_folders(a, b)
    if json:
        print_json(found.to_json())
    elif markdown:
        from ..analysis.compare_markdown import comparison_markdown

        print(comparison_markdown(found), end="")
    else:
        print_comparison(found, cells=cells)


COMMANDS: tuple[Callable[..., None], ...] = (power, calibrate, crosscheck, compare)


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise AnalysisError(f"--seeds {text}", "whole numbers separated by commas, such as 3,5,10") from None
