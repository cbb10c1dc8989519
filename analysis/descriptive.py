"""What is shown beside the effects and belongs to no family: gains, scores, effects by language, retention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .comparisons import ALL, NONE, Comparison
from .estimator import Cell
from .results import Gain, LanguageEffect, Retention, Score
from .study import POINTS, Study, as_tested, in_language, terms_of, unique

__all__ = ["gains", "languages", "retention", "scores"]


def gains(study: Study, pair: str, arm: str) -> list[Gain]:
    design = study.design(pair, {arm: 1.0})
    if not design.cells:
        return []
    rows = [
        (ALL, ALL),
        *((c, ALL) for c in design.conditions),
        *((ALL, t) for t in design.targets),
        *design.cells,
    ]
    found = []
    for condition, target in rows:
        fit = study.fit(terms_of(design.chosen(condition, target), design.grids, {arm: 1.0}))
        found.append(Gain(pair, arm, condition, target, **as_tested(fit)))
    return found


def scores(study: Study, pair: str, arm: str) -> list[Score]:
    found = []
    for retained in (False, True):
        for target, grid in study.targets(pair, retention=retained):
            for condition in (NONE, *study.intermediate):
                cell = grid.get((arm, condition))
                if cell is not None:
                    found.append(_score(pair, arm, condition, target, cell))
    return found


def _score(pair: str, arm: str, condition: str, target: Mapping[str, Any], cell: Cell) -> Score:
    names = list(cell.examples.languages)
    source = target["source_language"]
    by_language = cell.scores.mean(axis=0)
    others = [i for i, code in enumerate(names) if code != source]
    per_seed = cell.scores.mean(axis=1)
    return Score(
        pair=pair,
        arm=arm,
        condition=condition,
        target=target["task"],
        metric=target["metric"],
        mean=float(per_seed.mean()),
        sd=float(per_seed.std(ddof=1)) if len(per_seed) > 1 else None,
        seeds=len(cell.seeds),
        source=float(by_language[names.index(source)]) if source in names else None,
        transfer=float(by_language[others].mean()) if others else None,
        baseline=_baseline(target, names),
        deterministic=cell.deterministic,
    )


def languages(study: Study, comparison: Comparison) -> list[LanguageEffect]:
    """The effect in every language, mean over the targets that have it and over conditions."""
    design = study.design(comparison.pair, comparison.signs)
    found = []
    for code in unique(code for t in design.targets for code in study.about[t]["languages"]):
        chosen = [(c, t) for c, t in design.cells if code in design.languages(t)]
        if not chosen:
            continue
        grids = {t: in_language(design.grids[t], code) for t in unique(t for _, t in chosen)}
        terms = terms_of(chosen, grids, comparison.signs)
        fit = study.fit(terms, study.fixed_tier)
        target = study.about[chosen[0][1]]
        found.append(
            LanguageEffect(
                pair=comparison.pair,
                contrast=comparison.name,
                role=comparison.role,
                language=code,
                name=target.get("language_names", {}).get(code, code),
                family=target.get("language_families", {}).get(code, ""),
                untrained=code in target.get("untrained_languages", ()),
                targets=len(unique(t for _, t in chosen)),
                **as_tested(fit),
            )
        )
    return found


def retention(study: Study, pair: str, arm: str) -> list[Retention]:
    found = []
    for target, grid in study.targets(pair, retention=True):
        task = target["task"]
        for condition in (NONE, *study.intermediate):
            cell = grid.get((arm, condition))
            if cell is None:
                continue
            change = low = high = None
            if condition != NONE and (arm, NONE) in grid:
                terms = terms_of([(condition, task)], {task: grid}, {arm: 1.0})
                fit = study.fit(terms, study.fixed_tier)
                change, low, high = fit.value * POINTS, fit.low * POINTS, fit.high * POINTS
            found.append(
                Retention(
                    pair=pair,
                    arm=arm,
                    condition=condition,
                    target=task,
                    metric=target["metric"],
                    mean=float(cell.scores.mean()),
                    change=change,
                    low=low,
                    high=high,
                    seeds=len(cell.seeds),
                    chance=_baseline(target, cell.examples.languages),
                )
            )
    return found


def _baseline(target: Mapping[str, Any], languages: Sequence[str]) -> float | None:
    """Mean over languages of the best baseline; None where a language has none."""
    per_language = [target.get("baselines", {}).get(code) for code in languages]
    if not per_language or not all(per_language):
        return None
    return float(np.mean([max(rules.values()) for rules in per_language]))
