"""The words of the analysis.

The opening sentences, and the cautions a reader must see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .comparisons import ALL
from .estimator import Fit, Tier
from .overlap import DAGGER
from .results import Answer, Estimate, Gain
from .secondary import ITT, FailureTest, Registration, Sensitivity
from .settings import Settings

__all__ = [
    "answers",
    "cautions",
    "failure_cautions",
    "overlap_caution",
    "registration_cautions",
    "scale_caution",
]

ARMS = {
    "vision": "the vision-language arm",
    "text": "the text-only arm",
    "scrambled": "the scrambled-pictures arm",
    "distilled": "the distilled arm (no pictures)",
}
RECOMMENDED_SEEDS = 5
POINTS = 100.0


def answers(
    suite: Mapping[str, Any],
    estimates: Sequence[Estimate],
    gains: Sequence[Gain],
    registration: Registration | None = None,
) -> list[Answer]:
    """Primary contrasts first, then placebos, in the order of the pairs.

    The grand effect, or that of the condition which the suite names as primary; gains where a pair has no
    contrast.
    """
    settings = Settings.of(suite)
    family = "primary" if settings.primary else "grand"
    wanted = settings.primary or ALL
    overall = {(g.pair, g.arm): g for g in gains if g.condition == wanted and g.target == ALL}
    alpha = settings.alpha
    several = len(suite["pairs"]) > 1

    def averaged(rows: Iterable[Estimate | Gain], languages: int = 0) -> str:
        """What a mean goes over: conditions and targets that were analysed, which may be fewer than were planned."""
        seen = list(rows)
        conditions = (
            [settings.primary] if settings.primary else list(dict.fromkeys(row.condition for row in seen))
        )
        targets = {row.target for row in seen if wanted == ALL or row.condition == wanted} - {ALL}
        return _over([c for c in conditions if c != ALL], len(targets), languages)

    found: list[Answer] = []
    for pair in suite["pairs"]:
        name = pair["name"]
        prefix = f"{name}: " if several else ""
        mine = [e for e in estimates if e.pair == name and e.family == family]
        for contrast in pair["contrasts"]:
            wanted_here = [e for e in mine if e.contrast == contrast["name"]]
            for e in wanted_here:
                gain = (overall.get((name, contrast["plus"])), overall.get((name, contrast["minus"])))
                over = averaged(
                    (x for x in estimates if (x.pair, x.contrast) == (name, e.contrast)), e.languages
                )
                lead = _lead(e)
                said = _effect_sentence(e, contrast, gain, alpha, over) + _registered(e, registration)
                sentence = f"{prefix}{lead}. {said}."
                found.append(Answer(sentence, e, e.role, lead))
            if not wanted_here:
                found.append(Answer(prefix + _no_effect_sentence(contrast, wanted), None, contrast["role"]))
        if not mine:
            for arm in pair["arms"]:
                if (name, arm) in overall:
                    over = averaged(g for g in gains if (g.pair, g.arm) == (name, arm))
                    alone = "" if pair["contrasts"] else "; with one arm there is no comparison of arms"
                    sentence = prefix + _gain_sentence(overall[name, arm], alpha, over) + alone + "."
                    found.append(Answer(sentence, None, "primary"))
    return sorted(found, key=lambda answer: answer.role != "primary")


def _effect_sentence(
    e: Estimate,
    contrast: Mapping[str, str],
    gains: tuple[Gain | None, Gain | None],
    alpha: float,
    over: str,
) -> str:
    plus, minus = (ARMS.get(contrast[side], f"the arm `{contrast[side]}`") for side in ("plus", "minus"))
    size, level = f"{abs(e.value):.2f} points", f"{100 * (1 - alpha):g} %"
    adjusted = ""
    if e.correction == "holm" and e.family_size > 1 and e.p_adjusted is not None:
        adjusted = f"; Holm-adjusted over {e.family_size} contrasts {_p(e.p_adjusted)}"
    test = (
        "no test: nothing varied"
        if e.p is None
        else f"t = {e.value / e.se:.2f}, df {e.df:.1f}, {_p(e.p)}{adjusted}; {_POPULATIONS[e.tier]}, tier {e.tier}"
    )
    evidence = f"({level} CI {e.low:.2f} to {e.high:.2f}, {test})"
    first, second = gains
    # an arm's gain is a mean over all of its cells, the effect over those that both arms have
    if first is None or second is None or abs(first.value - second.value - e.value) > 1e-6:
        claim = f"{_TRAINING} differed by {e.value:+.2f} points between {plus} and {minus}"
    elif not e.verdict.startswith("different"):
        # "helped more" is read as a finding, whatever the p-value behind it says
        claim = _changes(plus, first, minus, second, e)
    elif first.value > 0 and second.value > 0:
        more = "more" if e.value > 0 else "less"
        claim = f"{_TRAINING} helped {plus} {size} {more} than {minus}"
    elif first.value < 0 and second.value < 0:
        more = "less" if e.value > 0 else "more"
        claim = f"{_TRAINING} hurt {plus} {size} {more} than {minus}"
    else:
        claim = _changes(plus, first, minus, second, e)
    said = _claim(e)
    return f"{_opened(over, claim)} {evidence}. {said[0].upper()}{said[1:]}; {_seen(e)}"


_TRAINING = "intermediate-task training"
_POPULATIONS = {
    "T0": "for new examples",
    "T1": "for new seeds",
    "T2": "for new seeds and new examples",
    "T3": "for new seeds, examples and languages",
}
"""Tier -> what would be drawn anew if the study were repeated."""


def _over(conditions: Sequence[str], targets: int, languages: int) -> str:
    """``Averaged over 6 intermediate conditions, 6 targets and 16 languages``; one condition is named."""
    several = len(conditions) > 1
    counted = [
        *([f"{len(conditions)} intermediate conditions"] if several else []),
        *(f"{n} {noun}" for n, noun in ((targets, "targets"), (languages, "languages")) if n > 1),
    ]
    averaged = (
        f"averaged over {' and '.join(filter(None, (', '.join(counted[:-1]), counted[-1])))}"
        if counted
        else ""
    )
    after = "" if several else f"after the intermediate condition `{', '.join(conditions)}`"
    return ", ".join(filter(None, (after, averaged)))


def _opened(over: str, claim: str) -> str:
    sentence = f"{over}, {claim}" if over else claim
    return sentence[0].upper() + sentence[1:]


def _registered(e: Estimate, registration: Registration | None) -> str:
    """What a registration says of the effect, at the end of its sentence, as that travels without its page."""
    if registration is None or e.status == "unregistered":
        return ""
    if e.status == "exploratory":
        return "; exploratory, as it was not registered in this form"
    return f"; preregistered ({registration.registered[:10]}, SHA-256 {registration.sha256[:8]})"


def _lead(e: Estimate) -> str:
    """The verdict in a word or two, which the answer opens with."""
    if e.provisional:
        return "No verdict"
    return {
        "different": "Different",
        "equivalent": "Equivalent",
        "different-but-negligible": "Different, but negligible",
        "inconclusive": "Inconclusive",
    }[e.verdict]


def _changes(plus: str, first: Gain, minus: str, second: Gain, e: Estimate) -> str:
    return (
        f"{_TRAINING} changed {plus} by {first.value:+.2f} points and {minus} by "
        f"{second.value:+.2f}, a difference of {e.value:+.2f} points"
    )


def _no_effect_sentence(contrast: Mapping[str, str], wanted: str) -> str:
    plus, minus = (ARMS.get(contrast[side], f"the arm `{contrast[side]}`") for side in ("plus", "minus"))
    after = "" if wanted == ALL else f" after `{wanted}`"
    return (
        f"No answer for {contrast['name']}: the outcomes hold no target that both {plus} and {minus} were scored "
        f"on with and without intermediate training{after}; the table of failed and missing runs says what is not "
        "there."
    )


def _claim(e: Estimate) -> str:
    """The verdict in words, and the margin it was tested against."""
    if e.provisional:
        return "two seeds leave one degree of freedom to the run variance of a cell, which carries no verdict"
    within = f"within ±{e.margin:g} points"
    return {
        "different": "these checkpoints differ, whatever other seeds would give"
        if e.tier == "T0"
        else "the arms differ",
        "equivalent": f"equivalent {within} (two one-sided tests, {_p(e.p_equivalence)})",
        "different-but-negligible": f"the arms differ, but {within} (two one-sided tests, {_p(e.p_equivalence)})",
        "inconclusive": f"neither a difference nor equivalence {within} is shown",
    }[e.verdict]


def _seen(e: Estimate) -> str:
    if e.p is None:
        return f"with {_runs(e.seeds)} there was no noise to detect an effect in"
    return f"with {_runs(e.seeds)} this suite could have detected {e.mde:.2f} points (power .8)"


def _runs(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds" if seeds else "no trained run"


def _gain_sentence(gain: Gain, alpha: float, over: str) -> str:
    arm = ARMS.get(gain.arm, f"the arm `{gain.arm}`")
    test = (
        "no test: nothing varied"
        if gain.p is None
        else f"t = {gain.value / gain.se:.2f}, df {gain.df:.1f}, {_p(gain.p)}"
    )
    return (
        f"{_opened(over, f'{_TRAINING} changed {arm} by {gain.value:+.2f} points')} "
        f"({100 * (1 - alpha):g} % CI {gain.low:.2f} to {gain.high:.2f}, {test}, {_runs(gain.seeds)})"
    )


def _p(p: float | None) -> str:
    """``p = .31``, ``p < .001``; the zero is left out, as the field prints it."""
    if p is None:
        return "p undefined"
    if p < 0.001:
        return "p < .001"
    if p > 0.99:
        return "p > .99"
    return f"p = {p:.3f}".replace("0.", ".") if p < 0.1 else f"p = {p:.2f}".replace("0.", ".", 1)


def cautions(suite: Mapping[str, Any], tier: Tier, seeds: int) -> list[str]:
    """Sentences a reader must see, from the record of the suite alone."""
    found = []
    if tier == "T0":
        found.append(
            "One seed per cell: intervals and p-values are of tier T0 (these checkpoints, new examples) and "
            "say nothing about training the arms again."
        )
    elif 0 < seeds < RECOMMENDED_SEEDS:
        found.append(
            f"{seeds} seeds in the smallest cell, fewer than the recommended {RECOMMENDED_SEEDS}: read every "
            "inconclusive result beside its minimum detectable effect."
        )
    if tier != "T0" and seeds == 2 and Settings.of(suite).df == "welch":
        found.append(
            "Two seeds: a run variance has one degree of freedom per cell, which carries no verdict. Effects stand "
            "as inconclusive with their intervals and p-values; only in a map of 20 cells or more, whose run "
            "variances are moderated, are there verdicts. Train a third seed."
        )
    if Settings.of(suite).df == "pooled":
        found.append(
            "Pooled degrees of freedom assume one run variance for all cells; where one is noisier than the "
            "others the test errs too often."
        )
    restarted = [r for r in suite["runs"] if r.get("attempt", 0) > 0 or r.get("intermediate_attempt", 0) > 0]
    collapsed = [r for r in suite["runs"] if r.get("collapsed") or r.get("intermediate_collapsed")]
    for runs, what in ((restarted, "restarted after a failed attempt"), (collapsed, "collapsed and kept")):
        if runs:
            found.append(f"{len(runs)} of {len(suite['runs'])} runs {what}: {_listed(runs)}.")
    for exception in suite.get("exceptions", ()):
        found.append(
            f"Exception: arm {exception['arm']} used {exception['key']} = {exception['value']} "
            f"({exception.get('reason', 'no reason given')})."
        )
    unequal = sorted({s["stage"] for s in suite.get("schedules", ()) if not s["equal"]})
    if unequal:
        found.append(f"The arms' schedules are not equal in: {', '.join(unequal)}.")
    return found + _pair_caveats(suite)


def _pair_caveats(suite: Mapping[str, Any]) -> list[str]:
    """What the record says against a pair's comparison; arms with the same words share a sentence."""
    arms: dict[tuple[str, str], list[str]] = {}
    for pair in suite["pairs"]:
        for caveat in pair.get("caveats", ()):
            arms.setdefault((pair["name"], caveat["text"]), []).append(caveat["arm"])
    return [
        f"{pair}{' / ' if any(names) else ''}{', '.join(filter(None, names))}: {text}."
        for (pair, text), names in arms.items()
    ]


def scale_caution(pair: str, contrast: str, points: Fit, logits: Fit, alpha: float) -> str:
    """A caution where sign or significance of an effect changes on the logit scale (Loftus 1978), else ""."""
    if points.p is None or logits.p is None:
        return ""
    if (points.value > 0) == (logits.value > 0) and (points.p < alpha) == (logits.p < alpha):
        return ""
    return (
        f"{pair} / {contrast}: scale-dependent interaction. The grand effect is {100 * points.value:+.2f} points "
        f"({_p(points.p)}) but {logits.value:+.3f} on the logit scale ({_p(logits.p)})."
    )


def overlap_caution(
    pair: str, name: str, what: str, cells: int, shared: int, rest: Fit | None, alpha: float
) -> str:
    """Shared data, next to the answer: how many cells, and the mean over the others (``rest``).

    ``name`` is a contrast and ``what`` its "effect", or an arm and its "gain".
    """
    said = (
        f"{pair} / {name}: {shared} of {cells} intermediate × target cells share data ({DAGGER}; listed under "
        "runs and schedules)"
    )
    if rest is None:
        return f"{said}: no cell is free of it."
    value, low, high = (POINTS * x for x in (rest.value, rest.low, rest.high))
    return (
        f"{said}; over the other {cells - shared} the {what} is {value:+.2f} points "
        f"({100 * (1 - alpha):g} % CI {low:.2f} to {high:.2f}, {_p(rest.p)})."
    )


def _listed(runs: Sequence[Mapping[str, Any]], shown: int = 6) -> str:
    names = [
        f"{r['pair']} / {r['arm']} / {r['condition']} / {r['task']} / seed {r['seed']}" for r in runs[:shown]
    ]
    return "; ".join(names) + (f"; and {len(runs) - shown} more" if len(runs) > shown else "")


def failure_cautions(tests: Sequence[FailureTest], views: Sequence[Sensitivity], alpha: float) -> list[str]:
    """Failures that are unequal between arms, and conclusions that rest on failed runs."""
    found = []
    for test in tests:
        if test.p >= alpha:
            continue
        said = ", ".join(f"{side} {test.failed[side]} of {n}" for side, n in test.trainings.items())
        what = (
            f"more {test.stage} stages failed at the first attempt in one arm than in the other"
            if test.test == "imbalance"
            else "intermediate training changes how often the target stage fails, in one arm unlike in the other"
        )
        name = {"imbalance": "Fisher's exact test", "interaction": "Zelen's exact test"}[test.test]
        found.append(f"{test.pair} / {test.contrast}: {what} ({said}; {name}, {_p(test.p)}).")
    for view in (view for view in views if view.changed):
        treated = "put at the baseline" if view.what == ITT else "left out"
        found.append(
            f"{view.pair} / {view.contrast}: the conclusion rests on failed runs. {view.what.capitalize()} "
            f"({view.dropped} {treated}) the grand effect is {view.value:+.2f} points "
            f"({100 * (1 - alpha):g} % CI {view.low:.2f} to {view.high:.2f}, {_p(view.p)})."
        )
    return found


def registration_cautions(registration: Registration | None, *, tested: bool = True) -> list[str]:
    """That nothing was registered, or late, and every deviation; ``tested``: whether there are effects to register."""
    if registration is None:
        if not tested:
            return []
        return ["No design was registered before the scores were read: every p-value is exploratory."]
    found = []
    if registration.late:
        found.append(
            f"The design was registered on {registration.registered}, after outcomes existed: every result is "
            "exploratory."
        )
    return found + [f"Deviation from the registered design: {line}." for line in registration.deviations]
