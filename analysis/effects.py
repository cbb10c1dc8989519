"""From outcomes to effects: ``analyse(folder)`` builds every number of a report (`analysis/results.py`).

Families of tests, per pair and contrast: the grand effect (Holm over pairs for primary contrasts; each placebo
is a family of one), the effects per condition (Holm, max-T beside), per target (Holm), and the condition x
target map (Benjamini-Hochberg on moderated p-values where it has 20 trained cells, Benjamini-Yekutieli
beside). Gains, languages and retention are descriptive or exploratory and belong to no family.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import AnalysisError
from . import descriptive, failures, replication, sensitivity
from .answers import answers, cautions, failure_cautions, registration_cautions
from .comparisons import NONE, declared, derived
from .estimates import correct_primary, estimates, with_verdict
from .layers import layer_curves, layer_scores
from .outcomes import Record, read_record
from .pinned import signature
from .preregister import Registered, check, read_registration
from .results import Results
from .study import Study
from .xtreme import benchmark_scores

__all__ = ["analyse", "effects"]

MOST_SHOWN = 4
"""Notes on what was left out that an error repeats."""


def analyse(folder: Path) -> Results:
    """The whole analysis of an outcome folder; see ``outcomes.read_record`` for what it refuses.

    A registered design beside the outcomes (`preregistration.json`) says which effects are confirmatory.
    """
    return effects(read_record(folder), read_registration(folder))


def effects(record: Record, registered: Registered | None = None) -> Results:
    """Every number of a report. Deterministic: the simulation of max-T has a fixed seed.

    ``AnalysisError`` where no arm has a gain.
    """
    study = Study(record)
    # by the fields of `Results`; a suite of one arm has no effect per language
    found: dict[str, list[Any]] = defaultdict(list, languages=[])
    scales: list[str] = []
    shared: list[str] = []
    for pair in record.suite["pairs"]:
        for comparison in declared(pair):
            made = estimates(study, comparison)
            found["estimates"] += made.estimates
            found["correlations"] += [made.correlation] if made.correlation else []
            found["priors"] += [made.prior] if made.prior else []
            found["languages"] += descriptive.languages(study, comparison)
            found["replicability"] += replication.over_targets(made.estimates, study.alpha)
            found["cell_languages"] += replication.languages_of_cells(study, comparison, made.estimates)
            found["leave_out"] += sensitivity.leave_out(study, comparison)
            found["failure_tests"] += failures.failure_tests(study, comparison)
            for name, view in (
                ("generalisation", sensitivity.generalisation),
                ("sensitivity", sensitivity.without_failures),
                ("sensitivity", sensitivity.intention_to_treat),
            ):
                rows, absent = view(study, comparison)
                found[name] += rows
                found["absent"] += absent
            scales += sensitivity.scale_cautions(study, comparison, made.estimates)
            shared += sensitivity.overlap_cautions(study, pair["name"], comparison.name, comparison.signs)
        for comparison in derived(pair):
            made = estimates(study, comparison, whole=False)
            found["further"] += made.estimates
            found["correlations"] += [made.correlation] if made.correlation else []
        for arm in pair["arms"]:
            found["gains"] += descriptive.gains(study, pair["name"], arm)
            if not pair["contrasts"]:
                # the answer is the arm's gain: shared data stand beside it as beside an effect
                shared += sensitivity.overlap_cautions(study, pair["name"], arm, {arm: 1.0})
            found["scores"] += descriptive.scores(study, pair["name"], arm)
            found["retention"] += descriptive.retention(study, pair["name"], arm)
    if not found["estimates"] and not found["gains"]:
        raise AnalysisError(
            "no cell has both an intermediate condition and `none`: there is no gain to estimate",
            f"the suite needs the condition `{NONE}` and at least one other, on the same target"
            + "".join(f"\n{warning}" for warning in record.warnings[:MOST_SHOWN]),
        )
    found["failures"] = failures.counts(study)
    return _results(study, found, registered, [*shared, *scales])


def _results(
    study: Study, found: Mapping[str, list[Any]], registered: Registered | None, said: list[str]
) -> Results:
    """Corrections over pairs, verdicts and status; then the words."""
    suite, primary, record = study.suite, study.settings.primary, study.record
    checked = None if registered is None else check(registered, suite, study.tier, found["failures"])
    rows = {name: list(found[name]) for name in ("estimates", "further", "generalisation")}
    for name in ("estimates", "generalisation"):
        rows[name] = correct_primary(rows[name], primary)
    for name, members in rows.items():
        judged = [with_verdict(e, study.alpha) for e in members]
        if checked is not None:
            # another tier is a view of its own, which nobody registers
            judged = [
                replace(e, status="exploratory" if name == "generalisation" else checked.status(e))
                for e in judged
            ]
        rows[name] = judged
    several = len(suite["pairs"]) > 1
    whole = {name: tuple(members) for name, members in found.items()} | {k: tuple(v) for k, v in rows.items()}
    registration = None if checked is None else checked.registration
    warnings = [
        *registration_cautions(registration, tested=bool(rows["estimates"])),
        *cautions(suite, study.tier, study.fewest),
        *failure_cautions(found["failure_tests"], found["sensitivity"], study.alpha),
        *said,
        *record.warnings,
    ]
    return Results(
        suite=suite,
        answers=tuple(answers(suite, rows["estimates"], found["gains"], registration)),
        warnings=tuple(warnings),
        signature=signature(
            suite,
            study.tier,
            digests=record.digests,
            moderated=bool(found["priors"]),
            registration=registration,
        ),
        benchmark=tuple(benchmark_scores(suite, record.benchmark)),
        layer_scores=tuple(layer_scores(suite, record.views)),
        layer_curves=tuple(layer_curves(suite, record.views)),
        replication=tuple(
            replication.over_pairs([*rows["estimates"], *rows["further"]], study.alpha) if several else ()
        ),
        registration=registration,
        **whole,
    )
