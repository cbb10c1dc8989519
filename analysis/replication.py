"""In how many targets, in which languages of the cells found, and in which pairs: claims about several tests at once."""

from __future__ import annotations

from collections.abc import Sequence

from .comparisons import ALL, Comparison
from .fit import Fit
from .multiplicity import max_p, partial_conjunction, replicability_count, within_selected
from .results import Estimate
from .secondary import CellLanguage, Replicability, Replication
from .study import Grid, Study, as_tested, in_language, terms_of, unique

__all__ = ["languages_of_cells", "over_pairs", "over_targets"]


def over_targets(found: Sequence[Estimate], alpha: float) -> list[Replicability]:
    """One line for the targets' means and one for every condition of one contrast; two targets or more.

    None where two seeds carry no verdict on a target (``Estimate.provisional``).
    """
    lines = []
    for condition in unique(e.condition for e in found if e.family in ("targets", "map")):
        family = "targets" if condition == ALL else "map"
        if any(e.provisional for e in found if (e.family, e.condition) == (family, condition)):
            continue
        tested = sorted(
            (
                (p, e.value)
                for e in found
                if (e.family, e.condition) == (family, condition) and (p := e.p) is not None
            ),
            key=lambda pair: pair[0],
        )
        if len(tested) < 2:
            continue
        p = [p for p, _ in tested]
        count = replicability_count(p, alpha)
        first = next(e for e in found if e.family == family)
        lines.append(
            Replicability(
                pair=first.pair,
                contrast=first.contrast,
                role=first.role,
                condition=condition,
                targets=len(tested),
                count=count,
                positive=sum(value > 0 for _, value in tested[:count]),
                p=tuple(partial_conjunction(p, u) for u in range(1, len(p) + 1)),
            )
        )
    return lines


def over_pairs(found: Sequence[Estimate], alpha: float) -> list[Replication]:
    """The grand effect and the condition effects of every contrast that two pairs or more have (section 2.5).

    Pairs are fixed and confounded with all else that differs between them: the claim is "in each of these",
    tested by the largest p-value, and only where the effects point the same way. The p-values of conditions are those
    that Holm adjusted within their pair: a claim about one condition was chosen among several.
    """
    wanted = [e for e in found if e.target == ALL and e.family in ("grand", "primary", "conditions")]
    lines = []
    for contrast, condition in dict.fromkeys((e.contrast, e.condition) for e in wanted):
        mine = [e for e in wanted if (e.contrast, e.condition) == (contrast, condition)]
        if len(mine) < 2:
            continue
        p = [e.p_adjusted if e.family == "conditions" else e.p for e in mine]
        known = [x for x in p if x is not None]
        largest = max_p(known) if len(known) == len(p) else None
        agree = len({e.value > 0 for e in mine}) == 1
        lines.append(
            Replication(
                contrast=contrast,
                role=mine[0].role,
                condition=condition,
                pairs=tuple(e.pair for e in mine),
                values=tuple(e.value for e in mine),
                p=largest,
                agree=agree,
                shown=agree
                and largest is not None
                and largest < alpha
                and not any(e.provisional for e in mine),
            )
        )
    return lines


def languages_of_cells(study: Study, comparison: Comparison, found: Sequence[Estimate]) -> list[CellLanguage]:
    """Effects by language in the cells of the map with an adjusted p below alpha (Benjamini & Bogomolov 2014)."""
    design = study.design(comparison.pair, comparison.signs)
    cells = [e for e in found if e.family == "map" and e.p is not None]
    selected = [e.p_adjusted is not None and e.p_adjusted < study.alpha and not e.provisional for e in cells]
    single = _Single(study, comparison)
    fits = [
        [single.fit(e.condition, e.target, code) for code in design.languages(e.target)] if chosen else []
        for e, chosen in zip(cells, selected, strict=True)
    ]
    tested = [[p for fit in family if (p := fit.p) is not None] for family in fits]
    lines = []
    for e, family, adjusted in zip(cells, fits, within_selected(tested, selected), strict=True):
        if adjusted is None:
            continue
        left = iter(adjusted.tolist())
        names = study.about[e.target].get("language_names", {})
        lines += [
            CellLanguage(
                pair=e.pair,
                contrast=e.contrast,
                role=e.role,
                condition=e.condition,
                target=e.target,
                language=code,
                name=names.get(code, code),
                p_adjusted=None if fit.p is None else next(left),
                **as_tested(fit),
            )
            for code, fit in zip(design.languages(e.target), family, strict=True)
        ]
    return lines


class _Single:
    """Estimates of a cell of the map in one language."""

    def __init__(self, study: Study, comparison: Comparison) -> None:
        self._study, self._signs = study, comparison.signs
        self._whole = study.design(comparison.pair, comparison.signs).grids
        self._cut: dict[tuple[str, str], Grid] = {}

    def fit(self, condition: str, task: str, language: str) -> Fit:
        key = (task, language)
        if key not in self._cut:
            self._cut[key] = in_language(self._whole[task], language)
        terms = terms_of([(condition, task)], {task: self._cut[key]}, self._signs)
        return self._study.fit(terms, self._study.fixed_tier)
