"""The grand effect seen otherwise: new languages, without a family of languages, without failed or overlapping runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from .answers import overlap_caution, scale_caution
from .comparisons import Comparison
from .estimates import estimates
from .estimator import Cell
from .fit import FEW_LANGUAGES, Fit
from .overlap import overlaps
from .results import Estimate
from .secondary import ITT, Absent, LeaveOut, Sensitivity
from .study import Design, Study, as_tested, terms_of, unique

__all__ = [
    "generalisation",
    "intention_to_treat",
    "leave_out",
    "overlap_cautions",
    "scale_cautions",
    "without_failures",
]


def generalisation(study: Study, comparison: Comparison) -> tuple[list[Estimate], list[Absent]]:
    """Tier T3 of the grand effect and of each condition (Holm), or why there is none (section 2.1)."""
    design = study.design(comparison.pair, comparison.signs)
    if not design.cells:
        return [], []
    names = unique(code for task in design.targets for code in design.languages(task))
    lonely = [task for task in design.targets if len(design.languages(task)) < 2]
    reason = ""
    if study.tier == "T0":
        reason = "one seed per cell: only tier T0 exists"
    elif study.tier == "T3":
        reason = "the primary analysis is of tier T3"
    elif len(names) < FEW_LANGUAGES:
        reason = f"{len(names)} languages; fewer than {FEW_LANGUAGES} say little about languages in general"
    elif lonely:
        reason = f"{', '.join(lonely)} in one language only"
    if reason:
        return [], [Absent("T3", comparison.pair, comparison.name, reason)]
    return list(estimates(study, comparison, whole=False, tier="T3").estimates), []


def leave_out(study: Study, comparison: Comparison) -> list[LeaveOut]:
    """The grand effect without the training language, without languages outside pre-training, without each family.

    Families only where there are two or more. Empty where nothing would be left, or nothing left out.
    """
    design = study.design(comparison.pair, comparison.signs)
    families: dict[str, list[str]] = {}
    source: list[str] = []
    untrained: list[str] = []
    for task in design.targets:
        about = study.about[task]
        known = about.get("language_families", {})
        for code in design.languages(task):
            families.setdefault(known.get(code, ""), []).append(code)
        source += [code for code in design.languages(task) if code == about.get("source_language")]
        untrained += [code for code in design.languages(task) if code in about.get("untrained_languages", ())]
    families.pop("", None)
    groups: list[tuple[Literal["family", "source", "untrained"], str, tuple[str, ...]]] = [
        ("source", "", tuple(unique(source))),
        ("untrained", "", tuple(unique(untrained))),
    ]
    if len(families) > 1:
        groups.extend(("family", family, tuple(unique(codes))) for family, codes in families.items())
    found = []
    for what, family, codes in groups:
        if not codes:
            continue
        kept = [(c, t) for c, t in design.cells if set(design.languages(t)) - set(codes)]
        if not kept:
            continue
        terms = terms_of(kept, design.grids, comparison.signs, without=codes)
        fit = study.fit(terms, study.fixed_tier)
        found.append(
            LeaveOut(
                comparison.pair,
                comparison.name,
                comparison.role,
                family,
                codes,
                len(unique(t for _, t in kept)),
                what,
                **as_tested(fit),
            )
        )
    return found


def scale_cautions(study: Study, comparison: Comparison, found: Sequence[Estimate]) -> list[str]:
    """Whether the grand effect says the same in points and in log-odds (an interaction depends on its scale)."""
    if not any(e.scale_dependent for e in found if e.family == "grand"):
        return []
    design = study.design(comparison.pair, comparison.signs)
    terms = terms_of(design.cells, design.grids, comparison.signs)
    odds = study.on_logit_scale(terms)
    if odds is None:
        return []
    caution = scale_caution(comparison.pair, comparison.name, study.fit(terms), study.fit(odds), study.alpha)
    return [caution] if caution else []


def overlap_cautions(study: Study, pair: str, name: str, signs: Mapping[str, float]) -> list[str]:
    """How many cells of a contrast, or of one arm's gain, share data, and what the grand mean is without them."""
    design = study.design(pair, signs)
    shared = overlaps(study.suite)
    clean = [cell for cell in design.cells if cell not in shared]
    if len(clean) == len(design.cells):
        return []
    rest = study.fit(terms_of(clean, design.grids, signs)) if clean else None
    what = "effect" if len(signs) > 1 else "gain"
    cells = len(design.cells)
    return [overlap_caution(pair, name, what, cells, cells - len(clean), rest, study.alpha)]


def without_failures(study: Study, comparison: Comparison) -> tuple[list[Sensitivity], list[Absent]]:
    """The grand effect without runs that collapsed, and without runs that were restarted.

    The primary analysis keeps every run. A failed run takes its seed out of the arm and condition on all
    targets, because targets share checkpoints. Run variances are recomputed; the variance over examples is
    that of all runs.
    """
    design = study.design(comparison.pair, comparison.signs)
    found: list[Sensitivity] = []
    absent: list[Absent] = []
    known: set[tuple[str, str, int]] = set()
    if not design.cells:
        return found, absent
    targets = set(design.targets)
    runs = [r for r in study.suite["runs"] if r["pair"] == comparison.pair and r["task"] in targets]
    for what, keys in (
        ("without-collapsed", ("collapsed", "intermediate_collapsed")),
        ("without-restarted", ("attempt", "intermediate_attempt", "collapsed", "intermediate_collapsed")),
    ):
        failed = {
            (run["arm"], run["condition"], int(run["seed"]))
            for run in runs
            if any(run.get(key) for key in keys)
        }
        failed = {key for key in failed if key[0] in comparison.signs}
        if not failed or failed == known:
            continue
        known = failed
        fits = [study.fit(terms_of(design.cells, design.grids, comparison.signs))]
        thinned = _without(design, failed)
        if thinned is None or study.tier == "T0":
            reason = f"{len(failed)} failed: fewer than two runs would be left in a cell"
            absent.append(Absent(what, comparison.pair, comparison.name, reason))
            continue
        fits.append(study.fit(terms_of(design.cells, thinned.grids, comparison.signs)))
        found.append(_beside(study, comparison, what, len(failed), *fits))
    return found, absent


def intention_to_treat(study: Study, comparison: Comparison) -> tuple[list[Sensitivity], list[Absent]]:
    """The grand effect with the first attempts of restarted target stages, as far as the record allows (section 2.8).

    A run that collapsed at its last attempt is kept by the primary analysis. One that was restarted and recovered had
    a first attempt that ended at the baseline of its dev set (or in NaN), which is what made it a failure; its
    outcomes on the test set are not stored, so that it scores the best baseline of each test language here. Run
    variances are recomputed; the variance over examples is that of all runs. A restarted intermediate stage cannot be
    imputed: what its targets would have made of the first attempt was never seen. ``absent`` says so.
    """
    design = study.design(comparison.pair, comparison.signs)
    targets = set(design.targets)
    restarted: dict[tuple[str, str, str], list[int]] = {}
    before: set[tuple[str, str, int]] = set()
    for run in study.suite["runs"]:
        if run["pair"] != comparison.pair or run["arm"] not in comparison.signs or run["task"] not in targets:
            continue
        arm, condition, seed = run["arm"], run["condition"], int(run["seed"])
        if run.get("attempt") and not run.get("collapsed"):
            restarted.setdefault((run["task"], arm, condition), []).append(seed)
        if run.get("intermediate_attempt") and not run.get("intermediate_collapsed"):
            before.add((arm, condition, seed))
    reasons = []
    if before:
        reasons.append(
            f"{len(before)} intermediate training{'s were' if len(before) > 1 else ' was'} started again, and what "
            "the targets would have made of a first attempt is not known"
        )
    bare = sorted({task for task, _, _ in restarted if _floor(study, task, design) is None})
    if bare:
        reasons.append(f"no baseline is recorded of {', '.join(bare)}")
    absent = [Absent(ITT, comparison.pair, comparison.name, reason) for reason in reasons]
    if not restarted or bare:
        return [], absent
    grids = {task: dict(grid) for task, grid in design.grids.items()}
    imputed = 0
    for (task, arm, condition), seeds in restarted.items():
        cell = grids[task].get((arm, condition))
        at = [] if cell is None else [i for i, seed in enumerate(cell.seeds) if seed in seeds]
        if cell is not None and at:
            scores = cell.scores.copy()
            scores[at] = _floor(study, task, design)
            grids[task][arm, condition] = replace(cell, scores=scores)
            imputed += len(at)
    if not imputed:
        return [], absent
    fits = [study.fit(terms_of(design.cells, g, comparison.signs)) for g in (design.grids, grids)]
    return [_beside(study, comparison, ITT, imputed, *fits)], absent


def _floor(study: Study, task: str, design: Design) -> np.ndarray | None:
    """(L,) best baseline of each language of a target; None where one has none."""
    rules = study.about[task].get("baselines", {})
    found = [rules.get(code) for code in design.languages(task)]
    return np.array([max(scores.values()) for scores in found if scores]) if all(found) else None


def _beside(
    study: Study, comparison: Comparison, what: str, runs: int, primary: Fit, fit: Fit
) -> Sensitivity:
    shown = [x.p is not None and x.p < study.alpha for x in (primary, fit)]
    return Sensitivity(
        pair=comparison.pair,
        contrast=comparison.name,
        role=comparison.role,
        what=what,
        dropped=runs,
        # the sign of what neither shows is noise
        changed=shown[0] != shown[1] or (all(shown) and (primary.value > 0) != (fit.value > 0)),
        **as_tested(fit),
    )


def _without(design: Design, failed: set[tuple[str, str, int]]) -> Design | None:
    """The design without the runs (arm, condition, seed); None where a trained cell is left with fewer than two."""
    grids: dict[str, Any] = {}
    for task, grid in design.grids.items():
        grids[task] = {}
        for (arm, condition), cell in grid.items():
            kept = [i for i, seed in enumerate(cell.seeds) if (arm, condition, seed) not in failed]
            if len(kept) < len(cell.seeds) and len(kept) < 2:
                return None
            grids[task][arm, condition] = _thinned(cell, kept)
    return Design(design.cells, grids)


def _thinned(cell: Cell, kept: list[int]) -> Cell:
    if len(kept) == len(cell.seeds):
        return cell
    return replace(cell, seeds=tuple(np.array(cell.seeds)[kept].tolist()), scores=cell.scores[kept])
