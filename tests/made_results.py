"""Hand-made `Results` for tests of the report: every field filled with fixed numbers. Nothing is a result."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from xtremex.analysis.results import (
    Answer,
    Estimate,
    Gain,
    LanguageEffect,
    Results,
    Retention,
    Score,
    Verdict,
)
from xtremex.analysis.secondary import (
    Absent,
    CellLanguage,
    Correlation,
    FailureCount,
    FailureTest,
    LeaveOut,
    LogOdds,
    Prior,
    Registration,
    Replicability,
    Replication,
    Sensitivity,
)

__all__ = ["LANGUAGES", "made_results", "numbers", "with_ladder"]

LANGUAGES = {
    "en": ("English", "Germanic"),
    "de": ("German", "Germanic"),
    "fr": ("French", "Romance"),
    "ru": ("Russian", "Slavic"),
    "tr": ("Turkish", "Turkic"),
    "fa": ("Persian", "Iranian"),
}
_VERDICTS: tuple[Verdict, ...] = ("inconclusive", "different", "equivalent", "different-but-negligible")


def numbers(value: float, half: float, p: float, df: float = 4.2, seeds: int = 3) -> dict[str, Any]:
    """Fields of `Tested`."""
    around = {"low": value - half, "high": value + half, "se": half / 2.5}
    return {"value": value, **around, "df": df, "p": p, "tier": "T2", "seeds": seeds}


def _estimate(
    pair: str, contrast: str, c: str, t: str, value: float, number: int, families: dict[str, int]
) -> Estimate:
    family = (
        "grand" if (c, t) == ("*", "*") else "conditions" if t == "*" else "targets" if c == "*" else "map"
    )
    verdict = "inconclusive" if family == "grand" else _VERDICTS[number % 7 if number % 7 < 4 else 0]
    se = 0.6 + 0.01 * number
    return Estimate(
        pair=pair,
        contrast=contrast,
        role="placebo" if contrast.startswith("scrambled") else "primary",
        condition=c,
        target=t,
        value=value,
        low=value - 2.5 * se,
        high=value + 2.5 * se,
        se=se,
        df=5.0 + number % 3,
        p=0.0004 if verdict.startswith("different") else 0.217,
        p_adjusted=0.012 if verdict.startswith("different") else 0.61,
        family=family,
        family_size=families[family],
        correction="bh" if family == "map" else "holm",
        tier="T2",
        seeds=3,
        margin=0.5 if "*" in (c, t) else 1.0,
        p_equivalence=0.41,
        verdict=verdict,
        mde=3.6 * se,
        variance_shares={"run": 0.35 + 0.01 * (number % 20), "examples": 0.65 - 0.01 * (number % 20)},
        languages=len(LANGUAGES),
        examples=360,
        p_unmoderated=0.31 if family == "map" else None,
        p_by=0.93 if family == "map" else None,
        p_max_t=0.55 if family == "conditions" else None,
        logit=LogOdds(**numbers(value / 20, 0.1, 0.24)),
        scale_dependent=family == "map" and number % 5 == 0,
        superiority=0.58,
        run_sd=0.9,
        standardised=value / 0.9,
        status="confirmatory" if family in ("grand", "conditions") else "exploratory",
    )


def made_results(
    *,
    pairs: Sequence[str] = ("muse",),
    arms: Sequence[str] = ("text", "vision", "scrambled"),
    conditions: Sequence[str] = ("nli", "tags", "mixture"),
    targets: Sequence[str] = ("mini-topic", "mini-entities", "mini-mining"),
    title: str = "Mini",
    notice: str = "Constructed data: shows the method, not the world.",
    warnings: Sequence[str] = ("One run of 48 ended at its second attempt.",),
    signature: str = "xtremex:0.1.0|suite:mini#ab12|seeds:3|T2|holm",
) -> Results:
    """A complete result; without a vision arm there are no contrasts, without a scrambled one no placebo."""
    rng = np.random.default_rng(7)
    contrasts = [f"{arm}-text" for arm in ("vision", "scrambled") if arm in arms and "text" in arms]
    families = {"grand": 1, "conditions": len(conditions), "targets": len(targets)}
    families["map"] = len(conditions) * len(targets)
    estimates, gains, scores, languages, retention, answers = [], [], [], [], [], []
    for pair in pairs:
        for contrast in contrasts:
            for number, (c, t) in enumerate(product((*conditions, "*"), (*targets, "*"))):
                value = round(float(rng.normal(0, 0.5 if "*" in (c, t) else 1.5)), 4)
                estimates.append(_estimate(pair, contrast, c, t, value, number, families))
            grand = estimates[-1]
            answers.append(
                Answer(
                    f"Inconclusive. Intermediate training changed {contrast} by {grand.value:+.2f} points "
                    f"(95 % CI {grand.low:.2f} to {grand.high:.2f}, p = {grand.p}); three seeds could have "
                    f"seen {grand.mde:.1f} points.",
                    grand,
                    grand.role,
                    "Inconclusive",
                )
            )
            for code, (name, group) in LANGUAGES.items():
                value = float(rng.normal(0, 1))
                languages.append(
                    LanguageEffect(
                        pair,
                        contrast,
                        grand.role,
                        code,
                        name,
                        group,
                        code == "fa",
                        len(targets),
                        **numbers(value, 2.0, 0.3),
                    )
                )
        for arm in arms:
            for c, t in product((*conditions, "*"), (*targets, "*")):
                value = float(rng.normal(1, 1))
                gains.append(Gain(pair, arm, c, t, **numbers(value, 2.0, 0.21)))
            for c, t in product(("none", *conditions), targets):
                still = t.endswith("mining") and c == "none"
                level = float(rng.uniform(0.6, 0.8))
                scores.append(
                    Score(
                        pair,
                        arm,
                        c,
                        t,
                        "accuracy",
                        level,
                        None if still else 0.008,
                        1 if still else 3,
                        level + 0.1,
                        level - 0.02,
                        1 / 3,
                        still,
                    )
                )
            if arm != "text":
                for c in ("none", *conditions):
                    change = None if c == "none" else float(rng.normal(-4, 1))
                    around = (None, None) if change is None else (change - 2, change + 2)
                    mean = 0.25 + (change or 0.0) / 100
                    retention.append(
                        Retention(
                            pair,
                            arm,
                            c,
                            "mini-pictures",
                            "recall@1",
                            mean,
                            change,
                            *around,
                            1 if c == "none" else 3,
                            1 / 60,
                        )
                    )
    if not contrasts:
        answers.append(
            Answer(
                "Intermediate training changed the text arm by +0.90 points (one arm: no effect).",
                None,
                "primary",
            )
        )
    return Results(
        suite=_suite(pairs, arms, conditions, targets, contrasts, title, notice, signature),
        answers=tuple(answers),
        estimates=tuple(estimates),
        gains=tuple(gains),
        scores=tuple(scores),
        languages=tuple(languages),
        retention=tuple(retention),
        warnings=tuple(warnings),
        signature=signature,
        **_secondary(pairs, arms, conditions, targets, contrasts, estimates),
    )


def _secondary(
    pairs: Sequence[str],
    arms: Sequence[str],
    conditions: Sequence[str],
    targets: Sequence[str],
    contrasts: Sequence[str],
    estimates: Sequence[Estimate],
) -> dict[str, Any]:
    """What stands beside the effects; every table has a row as long as there is a contrast."""
    found: dict[str, list[Any]] = defaultdict(list)
    for pair, contrast in product(pairs, contrasts):
        mine = [e for e in estimates if (e.pair, e.contrast) == (pair, contrast) and e.target == "*"]
        role = mine[0].role
        shares = {"run": 0.3, "examples": 0.5, "languages": 0.2}
        found["generalisation"] += [
            replace(e, tier="T3", variance_shares=shares, status="exploratory") for e in mine
        ]
        if role == "placebo":
            found["further"] += [
                replace(e, contrast="vision-scrambled", role="placebo-difference") for e in mine
            ]
            found["absent"].append(Absent("T3", pair, contrast, "6 languages; fewer than 10 say little"))
        for group, codes in (("Germanic", ("en", "de")), ("Romance", ("fr",))):
            line = LeaveOut(
                pair, contrast, role, group, codes, len(targets), **numbers(0.21, 1.31, 0.74, df=5.6)
            )
            found["leave_out"].append(line)
        found["cell_languages"] += [
            CellLanguage(
                pair, contrast, role, conditions[0], targets[0], code, name, 0.041, **numbers(2.1, 1.7, 0.02)
            )
            for code, (name, _) in LANGUAGES.items()
        ]
        half = tuple(tuple(1.0 if a == b else 0.5 for b in conditions) for a in conditions)
        found["correlations"].append(Correlation(pair, contrast, "conditions", tuple(conditions), half))
        found["priors"].append(Prior(pair, contrast, "map", 36, 14.9, 0.82))
        found["replicability"] += [
            Replicability(pair, contrast, role, c, len(targets), 1, 1, (0.012, *[0.4] * (len(targets) - 1)))
            for c in ("*", *conditions)
        ]
        found["failure_tests"].append(
            FailureTest(
                pair,
                contrast,
                role,
                "imbalance",
                "target",
                dict(zip(contrast.split("-"), (1, 4), strict=True)),
                dict.fromkeys(contrast.split("-"), 27),
                0.35,
            )
        )
        line = Sensitivity(
            *(pair, contrast, role, "without-collapsed", 1, False), **numbers(0.4, 1.3, 0.52, df=3.4, seeds=2)
        )
        found["sensitivity"].append(line)
    if len(pairs) > 1:
        found["replication"] += [
            Replication(contrast, "primary", "*", tuple(pairs), (0.4,) * len(pairs), 0.61, True, False)
            for contrast in contrasts
        ]
    found["failures"] += [
        FailureCount(
            pair,
            arm,
            c,
            t,
            planned=3,
            analysed=2 if (c, t) == (conditions[0], targets[0]) else 3,
            restarted=int(c == "nli"),
            collapsed=0,
            intermediate_restarted=0,
            intermediate_collapsed=int(c == "mixture"),
            missing_languages=("tr",) if t == targets[-1] else (),
        )
        for pair, arm, c, t in product(pairs, arms, ("none", *conditions), targets)
    ]
    registration = Registration(
        "5f" * 32, "2026-01-01T00:00:00+00:00", False, 4, ("seeds: registered 0, 1, 2, 3, analysed 0, 1, 2",)
    )
    return {name: tuple(rows) for name, rows in found.items()} | {"registration": registration}


def _suite(
    pairs: Sequence[str],
    arms: Sequence[str],
    conditions: Sequence[str],
    targets: Sequence[str],
    contrasts: Sequence[str],
    title: str,
    notice: str,
    signature: str,
) -> dict[str, Any]:
    def target(name: str, retained: bool) -> dict[str, Any]:
        return {
            "task": name,
            "kind": "classification",
            "metric": "accuracy",
            "metrics": ["accuracy"],
            "languages": list(LANGUAGES),
            "source_language": "en",
            "untrained_languages": ["fa"],
            "retention": retained,
            "version": "1",
            "licence": "Apache-2.0",
            "baselines": {"en": {"largest class": 0.33}},
            "examples": {"en": 60},
        }

    return {
        "format": 1,
        "version": "0.1.0",
        "suite": {"name": "mini", "title": title, "notice": notice, "digest": "ab12" * 16},
        "pairs": [
            {
                "name": pair,
                "arms": {arm: f"{pair}@grounded-{arm}" for arm in arms},
                "contrasts": [
                    {
                        "name": name,
                        "plus": name.partition("-")[0],
                        "minus": "text",
                        "role": "placebo" if name.startswith("scrambled") else "primary",
                    }
                    for name in contrasts
                ],
                "note": "one grounded checkpoint per arm",
                "order": list(arms),
                "ladder": [],
            }
            for pair in pairs
        ],
        "backbones": {
            pair: {"adapter": "muse", "revision": "0.2.1", "licence": "Apache-2.0", "family": "muse"}
            for pair in pairs
        },
        "conditions": [
            {
                "name": c,
                "tasks": []
                if c == "none"
                else [f"mini-{x}" for x in conditions if x != "mixture"]
                if c == "mixture"
                else [f"mini-{c}"],
            }
            for c in ("none", *conditions)
        ],
        "intermediate_tasks": [
            {
                "task": f"mini-{c}",
                "kind": "classification",
                "metric": "accuracy",
                "version": "1",
                "revision": "c0ffee" * 6,
                "licence": "Apache-2.0",
                "description": f"Does {c} follow?",
                "train_examples": 300,
            }
            for c in conditions
            if c != "mixture"
        ],
        "stages": {
            "intermediate": {
                "steps": 32,
                "epochs": 0.0,
                "batch_size": 16,
                "encoder_lr": 3e-4,
                "head_lr": 3e-3,
            },
            "target": {"steps": 30, "epochs": 0.0, "batch_size": 12, "encoder_lr": 4e-4, "head_lr": 3e-3},
            "per_task": {},
        },
        "targets": [*(target(t, False) for t in targets), target("mini-pictures", True)],
        "seeds": [0, 1, 2],
        "analysis": {"margin_task": 1.0, "margin_aggregate": 0.5, "alpha": 0.05},
        "schedules": [
            {
                "stage": f"intermediate:{c}",
                "seed": seed,
                "fingerprint": f"{seed}f" * 20,
                "arms": list(arms),
                "equal": True,
            }
            for c in conditions
            for seed in range(3)
        ],
        "exceptions": [],
        "runs": [
            {
                "pair": pair,
                "arm": arm,
                "condition": c,
                "task": t,
                "seed": seed,
                "attempt": int(c == "nli" and seed == 2),
                "collapsed": False,
                "intermediate_attempt": 0,
                "intermediate_collapsed": c == "mixture" and seed == 0,
                "dev": 0.91,
                "best_step": 40,
                "seconds": 3.1,
                "job": "0" * 64,
            }
            for pair in pairs
            for arm in arms
            for c in conditions
            for t in targets
            for seed in range(3)
        ],
        "contamination": [{"intermediate": "nli", "target": targets[0], "note": "same format"}],
        "cost": {"seconds": 420.0, "jobs": 366, "disk_bytes": 123456789},
        "environment": {
            "python": "3.11.7",
            "torch": "2.13.0",
            "device": "cpu",
            "precision": "bf16",
            "threads": 1,
            "commit": None,
        },
        "signature": signature,
    }


def with_ladder(results: Results) -> Results:
    """The same results with a ladder of three of their arms, and a trend per condition."""
    suite = dict(
        results.suite,
        pairs=[dict(pair, ladder=["text", "scrambled", "vision"]) for pair in results.suite["pairs"]],
    )
    trends = tuple(
        replace(e, contrast="trend(text < scrambled < vision)", role="trend", status="exploratory")
        for e in results.further
        if e.contrast == "vision-scrambled"
    )
    return replace(results, suite=suite, further=(*results.further, *trends))
