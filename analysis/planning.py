"""How many seeds? What a design can see, for one target and for the means, from a pilot or from stated components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from ..errors import AnalysisError, unknown
from .calibrate import joint_success
from .comparisons import NONE
from .fit import DegreesOfFreedom
from .outcomes import Record
from .pilot import variance_components
from .power import (
    SEEDS,
    Components,
    PowerRow,
    TargetComponents,
    cost_per_seed,
    planned_test,
    power_table,
    seeds_needed,
)
from .settings import Settings

__all__ = [
    "Plan",
    "Planned",
    "TargetDesign",
    "chosen_pair",
    "design_plan",
    "pilot_plan",
    "stated_components",
]


class TargetDesign(NamedTuple):
    """A target of a suite that has not run."""

    name: str
    sizes: tuple[int, ...]
    """Test examples per language."""
    parallel: bool = False
    fixed_none: bool = False
    """Whether nothing is trained on the target itself."""


@dataclass(frozen=True)
class Planned:
    """One effect of the design."""

    target: str
    """A target, or ``*`` for the mean over them."""
    conditions: int
    """How many intermediate conditions the effect is the mean of."""
    comparisons: int
    """Tests that alpha is divided by (Bonferroni, which Holm's first step is)."""
    rows: tuple[PowerRow, ...]
    needed: int | None
    """Fewest seeds that find ``Plan.effect``; None where a thousand do not."""
    floor: float
    """What the examples alone hide, in points: the detectable effect of ever more seeds."""


@dataclass(frozen=True)
class Plan:
    """Effects in points."""

    source: str
    """``pilot``, ``stated`` or ``suite`` (stated, with a suite's targets)."""
    pair: str | None
    components: Components
    conditions: int
    alpha: float
    power: float
    effect: float
    df_method: DegreesOfFreedom
    seconds_per_seed: float | None
    """Compute seconds of one more seed of every cell; None where unknown."""
    basis: str
    """What these seconds and, of a suite, the test sizes rest on, in words."""
    effects: tuple[Planned, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data; variances of the components on the scale of the score."""
        return asdict(self)


def stated_components(
    *,
    run_sd: float,
    run_language_sd: float = 0.6,
    checkpoint_sd: float = 0.3,
    languages: int = 15,
    examples: int = 1000,
    targets: int | Sequence[TargetDesign] = 9,
    score: float = 0.7,
) -> Components:
    """Components of accuracy around ``score`` (a fraction) from SDs in points; ``targets`` is a number of equal ones, or
    what they are (then ``languages`` and ``examples`` are not used).

    Examples are as hard as the simulations assume: half of the latent difficulty is common to all runs, a tenth to the
    runs of a cell, six tenths of that to the languages of a parallel test set (statistics reference, section 3.1).

    Raises ``AnalysisError`` for negative SDs, an impossible score and designs without targets, languages or examples.
    """
    sds = (run_sd, run_language_sd, checkpoint_sd)
    if not all(0 <= sd < math.inf for sd in sds) or not 0 < score < 1:
        raise AnalysisError(
            f"SDs of {run_sd:g}, {run_language_sd:g} and {checkpoint_sd:g} points around a score of {score:g}",
            "SDs are numbers from 0 on, in points; the score is a fraction between 0 and 1",
        )
    shared, common = joint_success(score, 0.6), joint_success(score, 0.5)
    if not isinstance(targets, int):
        between = joint_success(score, 0.06) - score**2
        made = []
        for design in targets:
            together = (len(design.sizes) - 1) * between if design.parallel else 0.0
            made.append(
                TargetComponents(
                    design.name,
                    design.sizes,
                    (run_sd / 100.0) ** 2,
                    (run_language_sd / 100.0) ** 2,
                    score - shared,
                    shared - common + together,
                    score,
                    score * (1.0 - score),
                    together,
                    design.parallel,
                    design.fixed_none,
                )
            )
        return Components(tuple(made), (checkpoint_sd / 100.0) ** 2)
    return Components.stated(
        sd_run=run_sd / 100.0,
        sd_run_language=run_language_sd / 100.0,
        sd_checkpoint=checkpoint_sd / 100.0,
        run_examples=score - shared,
        cell_examples=shared - common,
        languages=languages,
        examples=examples,
        targets=targets,
    )


def design_plan(
    components: Components,
    conditions: int,
    *,
    seeds: Sequence[int] = SEEDS,
    effect: float = 1.0,
    power: float = 0.8,
    alpha: float = 0.05,
    df: DegreesOfFreedom = "welch",
    seconds_per_seed: float | None = None,
    source: str = "stated",
    pair: str | None = None,
    basis: str = "",
) -> Plan:
    """The grand effect, the mean over targets for one condition, and single cells of the map, alone and in their family.

    Equal targets, as stated components have them, are planned once. Raises ``AnalysisError`` for fewer than two seeds,
    no condition, and a power or alpha that is no probability.
    """
    if not (0 < alpha < power < 1) or not 0 < effect < math.inf or not seeds:
        raise AnalysisError(
            f"power {power:g} at alpha {alpha:g} for an effect of {effect:g} points with seeds {list(seeds)}",
            "alpha below power, both between 0 and 1; an effect above 0; one or more numbers of seeds",
        )

    def planned(target: str, chosen: Components, averaged: int, comparisons: int) -> Planned:
        level = alpha / comparisons
        rows = power_table(
            chosen,
            seeds=seeds,
            effects=(effect,),
            conditions=averaged,
            target=power,
            alpha=level,
            df=df,
            seconds_per_seed=seconds_per_seed,
        )
        needed = seeds_needed(chosen, effect, conditions=averaged, target=power, alpha=level, df=df)
        least = planned_test(chosen, 2, averaged, df, level).floor(power)
        return Planned(target, averaged, comparisons, tuple(rows), needed, 100.0 * least)

    names = [target.name for target in components.targets]
    single = names[:1] if source == "stated" else names
    found = []
    if len(names) > 1:
        found.append(planned("*", components, conditions, 1))
        if conditions > 1:
            found += [planned("*", components, 1, m) for m in (1, conditions)]
    elif conditions > 1:
        found.append(planned(names[0], components, conditions, 1))
    cells = conditions * len(names)
    for comparisons in dict.fromkeys((1, cells)):
        found += [planned(name, components.of(name), 1, comparisons) for name in single]
    return Plan(
        source, pair, components, conditions, alpha, power, effect, df, seconds_per_seed, basis, tuple(found)
    )


def pilot_plan(
    record: Record,
    *,
    pair: str | None = None,
    seeds: Sequence[int] = SEEDS,
    effect: float = 1.0,
    power: float = 0.8,
    alpha: float | None = None,
) -> Plan:
    """The plan of the suite that ``record`` holds, from its own variance components; ``pair`` defaults to the first.

    Alpha and df are the suite's. Raises ``UnknownName`` for a pair that is not there and ``AnalysisError`` where no
    cell has two runs.
    """
    pair = chosen_pair(record, pair)
    settings = Settings.of(record.suite)
    conditions = {c for (p, _), grid in record.cells.items() if p == pair for _, c in grid if c != NONE}
    return design_plan(
        variance_components(record, pair),
        max(1, len(conditions)),
        seeds=seeds,
        effect=effect,
        power=power,
        alpha=settings.alpha if alpha is None else alpha,
        df=settings.df,
        seconds_per_seed=cost_per_seed(record.suite),
        source="pilot",
        pair=pair,
        basis="as this suite took",
    )


def chosen_pair(record: Record, pair: str | None) -> str:
    """The pair that was asked for, or the first with outcomes; ``UnknownName`` where it has none."""
    known = list(dict.fromkeys(p for p, _ in record.cells))
    if pair is None:
        return known[0]
    if pair not in known:
        raise unknown("pair", pair, known)
    return pair
