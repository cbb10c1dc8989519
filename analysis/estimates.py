"""The effects of one contrast with their families: grand, conditions, targets, map (statistics reference, 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import AnalysisError
from .comparisons import ALL, NONE, Comparison
from .effect_sizes import superiority
from .equivalence import verdict
from .estimator import Fit, Term
from .families import by_target, design_correlation
from .fit import Tier, scales_disagree
from .moderation import SMALLEST_FAMILY, moderated
from .multiplicity import benjamini_hochberg, benjamini_yekutieli, holm, max_t
from .results import Estimate
from .secondary import Correlation, LogOdds, Prior
from .study import POINTS, Design, Study, as_tested, terms_of

__all__ = ["Found", "correct", "correct_primary", "estimates", "with_verdict"]

LARGEST_DF = 1e12
"""Prior degrees of freedom beyond this are infinite."""


@dataclass(frozen=True)
class Found:
    """The estimates of one contrast; ``map`` has no verdicts yet, as they wait for all corrections."""

    estimates: tuple[Estimate, ...]
    correlation: Correlation | None = None
    prior: Prior | None = None


def estimates(study: Study, comparison: Comparison, *, whole: bool = True, tier: Tier | None = None) -> Found:
    """Every effect of a contrast, corrected within its families but for the primary one (over pairs).

    ``whole=False`` stops after the grand effect and the conditions, as for derived contrasts and other tiers;
    T3 has no max-T.
    """
    design = study.design(comparison.pair, comparison.signs)
    if not design.cells:
        return Found(())
    made = _Maker(study, comparison, design, tier or study.tier)
    primary = study.settings.primary
    # a condition that the suite names as primary is a hypothesis of its own, not one of the conditions'
    single = [c for c in design.conditions if c == primary]
    several = [c for c in design.conditions if c != primary]
    found = made.family("grand", "none", [(ALL, ALL)])
    found += made.family("primary", "none", [(c, ALL) for c in single])
    rows = made.family("conditions", "holm", [(c, ALL) for c in several])
    correlation = None
    if rows and made.tier != "T3":  # which has no design correlation
        rows, correlation = made.jointly(rows)
    found += correct(rows)
    if not whole:
        return Found(tuple(found), correlation)
    found += correct(made.family("targets", "holm", [(ALL, t) for t in design.targets]))
    cells = made.family("map", "bh", design.cells)
    return Found(tuple(found + correct(cells)), correlation, made.prior)


@dataclass
class _Maker:
    study: Study
    comparison: Comparison
    design: Design
    tier: Tier
    prior: Prior | None = None

    def terms(self, condition: str, target: str) -> list[Term]:
        chosen = self.design.chosen(condition, target)
        return terms_of(chosen, self.design.grids, self.comparison.signs)

    def family(self, name: str, correction: str, rows: Sequence[tuple[str, str]]) -> list[Estimate]:
        """Uncorrected estimates of the rows, (condition, target) each; the map moderated where it is large."""
        terms = [self.terms(*row) for row in rows]
        fits = [self.study.fit(t, self.tier) for t in terms]
        # log-odds stand beside the primary tier only
        main = self.tier == self.study.tier
        odds = [self.study.on_logit_scale(t) if main else None for t in terms]
        logits = [None if t is None else self.study.fit(t, self.tier) for t in odds]
        if name == "map":
            fits = self._moderated(fits, rows, terms)
            if self.prior is not None and all(logits):
                logits = _quietly_moderated(
                    [fit for fit in logits if fit is not None], [t for t in odds if t is not None]
                )
        return [
            self._row(*row, fit, logit, name, correction)
            for row, fit, logit in zip(rows, fits, logits, strict=True)
        ]

    def _moderated(
        self, fits: list[Fit], rows: Sequence[tuple[str, str]], terms: Sequence[Sequence[Term]]
    ) -> list[Fit]:
        trained = [fit for fit in fits if fit.df_residual > 0]
        usable = self.tier in ("T1", "T2") and self.study.settings.df == "welch"
        if not usable or len(trained) < SMALLEST_FAMILY or not any(fit.v_run > 0 for fit in trained):
            return fits
        groups = by_target(terms)
        changed, prior = moderated(fits, groups)
        self.prior = Prior(
            pair=self.comparison.pair,
            contrast=self.comparison.name,
            family="map",
            cells=len(trained),
            df=float(prior.prior_df) if prior.prior_df < LARGEST_DF else None,
            run_sd=POINTS * float(np.sqrt(prior.prior_variance)),
            levels=tuple(
                (rows[group.members[0]][1], POINTS * float(np.sqrt(level)))
                for group, level in zip(groups, prior.levels.tolist(), strict=True)
                if np.isfinite(level)
            ),
        )
        return changed

    def jointly(self, rows: list[Estimate]) -> tuple[list[Estimate], Correlation]:
        """The family with max-T p-values beside, and its design correlation."""
        terms = [self.terms(e.condition, e.target) for e in rows]
        matrix = design_correlation(terms, tier=self.tier)
        tested = [i for i, e in enumerate(rows) if e.p is not None]
        t = [rows[i].value / rows[i].se for i in tested]
        dfs = [rows[i].df for i in tested]
        adjusted = [rows[i].p for i in tested]
        if len(tested) > 1:
            adjusted = max_t(t, dfs, matrix[np.ix_(tested, tested)]).tolist()
        found = list(rows)
        for i, p in zip(tested, adjusted, strict=True):
            found[i] = replace(rows[i], p_max_t=p)
        return found, Correlation(
            pair=self.comparison.pair,
            contrast=self.comparison.name,
            family=rows[0].family,
            names=tuple(e.condition for e in rows),
            matrix=tuple(tuple(line) for line in matrix.tolist()),
        )

    def _row(
        self, condition: str, target: str, fit: Fit, logit: Fit | None, family: str, correction: str
    ) -> Estimate:
        margin = self.study.settings.margin(target)
        chosen = self.design.chosen(condition, target)
        test_sets = [
            next(iter(self.design.grids[task].values())).examples
            for task in dict.fromkeys(t for _, t in chosen)
        ]
        run_sd = float(np.sqrt(fit.v_run / fit.run_scale)) if fit.run_scale > 0 and fit.v_run > 0 else None
        return Estimate(
            pair=self.comparison.pair,
            contrast=self.comparison.name,
            role=self.comparison.role,
            condition=condition,
            target=target,
            value=fit.value * POINTS,
            low=fit.low * POINTS,
            high=fit.high * POINTS,
            se=fit.se * POINTS,
            df=fit.df,
            p=fit.p,
            p_adjusted=fit.p,
            family=family,
            family_size=1,
            correction=correction,
            tier=fit.tier,
            seeds=fit.seeds,
            margin=margin,
            p_equivalence=fit.equivalence(margin / POINTS),
            verdict="inconclusive",
            mde=fit.mde * POINTS,
            variance_shares=fit.shares,
            languages=len({code for e in test_sets for code in e.languages}),
            examples=sum(len(e.example) for e in test_sets),
            df_method=fit.df_method,
            p_unmoderated=fit.p_unmoderated,
            logit=None if logit is None else LogOdds(**as_tested(logit, 1.0)),
            scale_dependent=_scale_dependent(fit, logit, self.study.alpha),
            superiority=self._superiority(chosen),
            run_sd=None if run_sd is None else run_sd * POINTS,
            standardised=None if run_sd is None else fit.value / run_sd,
        )

    def _superiority(self, chosen: Sequence[tuple[str, str]]) -> float | None:
        """Mean over conditions: a condition is drawn, then a run of each of its four cells."""
        if self.comparison.arms is None:
            return None
        plus, minus = self.comparison.arms
        by_condition: dict[str, list[str]] = {}
        for condition, task in chosen:
            by_condition.setdefault(condition, []).append(task)

        def runs(arm: str, condition: str, tasks: list[str]) -> np.ndarray:
            # aggregated over targets seed by seed; a deterministic run stands beside every seed
            cells = [self.design.grids[task][arm, condition] for task in tasks]
            return sum((c.scores.mean(axis=1) for c in cells), np.zeros(1)) / len(cells)

        return float(
            np.mean(
                [
                    superiority(*(runs(arm, c, tasks) for arm in (plus, minus) for c in (condition, NONE)))
                    for condition, tasks in by_condition.items()
                ]
            )
        )


def _quietly_moderated(fits: list[Fit], terms: Sequence[Sequence[Term]]) -> list[Fit | None]:
    """Moderated log-odds; as they are where scores at 0 or 1 leave them without variance."""
    try:
        return [*moderated(fits, by_target(terms))[0]]
    except AnalysisError:
        return [*fits]


def _scale_dependent(fit: Fit, logit: Fit | None, alpha: float) -> bool:
    return logit is not None and scales_disagree(fit.value, fit.p, logit, alpha)


def correct(family: Sequence[Estimate]) -> list[Estimate]:
    """Adjust a family by the correction that its members name; undefined p-values stay out of it."""
    tested = [e.p for e in family if e.p is not None]
    is_map = bool(family) and family[0].correction == "bh"
    adjusted = iter((benjamini_hochberg if is_map else holm)(tested).tolist())
    sensitive = iter(benjamini_yekutieli(tested).tolist() if is_map else [None] * len(tested))
    return [
        replace(e, family_size=len(tested), p_adjusted=None, p_by=None)
        if e.p is None
        else replace(e, family_size=len(tested), p_adjusted=next(adjusted), p_by=next(sensitive))
        for e in family
    ]


def correct_primary(found: Sequence[Estimate], primary: str) -> list[Estimate]:
    """Holm over the primary hypotheses: of every pair's primary contrasts the grand effect, or the condition named.

    All other effects of these families are families of one.
    """
    family = "primary" if primary else "grand"
    at = [i for i, e in enumerate(found) if e.family == family and e.role == "primary"]
    corrected = correct([replace(found[i], correction="holm") for i in at])
    result = list(found)
    for i, e in zip(at, corrected, strict=True):
        result[i] = e
    return result


def with_verdict(e: Estimate, alpha: float) -> Estimate:
    """The estimate with the verdict of its adjusted p-value; none where two seeds carry no verdict."""
    if e.provisional:
        return replace(e, verdict="inconclusive")
    p = e.p if e.correction == "none" else e.p_adjusted
    return replace(e, verdict=verdict(p, e.p_equivalence, alpha))
