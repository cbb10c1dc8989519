"""The methods section of a report, written out with the suite's own numbers and citations (`bibliography.py`)."""

from __future__ import annotations

from collections.abc import Iterable

from . import wording as w
from .bibliography import cite
from .outline import NONE, Outline
from .results import Estimate
from .secondary import ITT

__all__ = ["methods", "registration"]


def methods(outline: Outline) -> tuple[str, ...]:
    """The methods section with this suite's own numbers, ready to be adapted for a paper."""
    suite, results = outline.suite, outline.results
    targets = [t for t in suite.get("targets", ()) if t["task"] in outline.targets]
    tongues = sorted({language for t in targets for language in t.get("languages", ())})
    sources = sorted({t.get("source_language", "en") for t in targets}) or ["en"]
    seeds = suite.get("seeds", [])
    runs = suite.get("runs", [])
    out = []
    designs = []
    still = [
        outline.task(t)
        for t in outline.targets
        if any(s.target == t and s.deterministic for s in results.scores)
    ]
    differing = {p["name"]: p.get("differing", ()) for p in suite.get("pairs", ())}
    matched = not any(differing.get(pair) for pair in outline.pairs)
    for pair in outline.pairs:
        arms = ", ".join(outline.arms(pair))
        odd = ", ".join(name.replace("_", " ") for name in differing.get(pair, ()))
        told = [f"arms {arms}"] if arms else []
        told += [f"not matched: they differ in {odd}"] if odd else [] if matched else ["matched"]
        designs.append(f"{pair} ({'; '.join(told)})" if told else pair)
    ancestor = f", {'each' if outline.several else 'all'} from one ancestor" if matched else ""
    out.append(
        f"Design. {w.count(len(outline.pairs), 'matched pair' if matched else 'pair')} of encoders{ancestor}: "
        f"{'; '.join(designs)}. "
        f"Every arm goes through the same schedule, that of intermediate-task training {cite('phang2020')}: one of "
        f"{w.count(len(outline.conditions), 'intermediate condition')} "
        f"({', '.join(outline.conditions) or NONE}) or none, then fine-tuning on each of "
        f"{w.count(len(outline.targets), 'target task')} ({', '.join(map(outline.task, outline.targets))}) "
        "in the source "
        f"language ({', '.join(sources)}{'; nothing is trained for ' + ', '.join(still) if still else ''}), "
        f"then zero-shot scoring on {w.count(len(tongues), 'language')}. "
        f"{w.count(len(seeds), 'seed')} per cell"
        + (f", {w.count(len(runs), 'run')} in all" if runs else "")
        + "; a seed sets heads, data order and dropout of the intermediate and the target stage."
        + (f" Scores are also averaged as the benchmark does {cite('hu2020')}." if results.benchmark else "")
    )
    if results.estimates:
        margins = suite.get("analysis", {})
        tiers = w.tiers(results.estimates)
        out.append(
            "Estimand. gain = score after intermediate training − score without; effect = gain of the first "
            "arm − gain "
            "of the second (a difference in differences), in points, languages weighted equally. Means over "
            "tasks are "
            "taken within a seed before any variance, because one intermediate checkpoint feeds all targets."
        )
        out.append(
            f"Test. MWV-t at tier {tiers}, a multi-way moment variance {cite('cameron2011')} with a t reference: the "
            f"variance is {_variance(results.estimates)}; the reference is Student's t with "
            f"{w.freedom(results.estimates)} df {cite('satterthwaite1946', 'welch1947')} "
            f"({w.span((e.df for e in results.estimates), 1)} here); "
            f"intervals are {outline.level}. {_priors(outline)}{_claim(results.estimates)} "
            "Pre-training and grounding are not replicated by a seed."
        )
        task, aggregate = margins.get("margin_task"), margins.get("margin_aggregate")
        margin = (
            f"±{task:g} points for a task and ±{aggregate:g} for a mean"
            if w.finite(task, aggregate)
            else f"±{w.span((e.margin for e in results.estimates), 2)} points"
        )
        out.append(
            f"Multiplicity and verdicts. Families, per pair and contrast: {w.families(results.estimates)}"
            f"{_corrections(results.estimates)}. Equivalence: two one-sided tests {cite('schuirmann1987')} "
            f"against {margin}. Minimum detectable effect: the effect found with 80 % power at α = "
            f"{outline.alpha:g} "
            "given the variance and df of the estimate; at other numbers of seeds, with the run part of that variance "
            "divided by them and the part of the shared test examples as it is. Effects by language and gains by arm are "
            "exploratory: their "
            "p-values are not adjusted."
        )
        out += [*_beside(outline), *_failed(outline)]
        out.append(_registered(outline))
    if results.retention:
        out.append(
            f"Retention. Image-text retrieval by cosine similarity, as contrastive encoders do it {cite('radford2021')}, "
            "before and after intermediate training, for arms with an image tower; it belongs to no family of effects."
        )
    return tuple(out)


_CLAIMS = {
    "T0": "new examples, for these checkpoints, languages, tasks and encoders.",
    "T1": "new seeds, on these test examples, for these languages, tasks and encoders.",
    "T2": "new seeds and new examples, for these languages, tasks and encoders.",
    "T3": "new seeds, new examples and new languages, for these tasks and encoders.",
}


_VARIANCES = {
    "T0": "that of the test examples (from influence values), for these checkpoints",
    "T1": "the run term (variance over seeds)",
    "T2": "the run term (variance over seeds) plus the term of the shared test examples (from influence values)",
    "T3": "the run term (variance over seeds) plus the terms of the shared test examples (from influence values) "
    "and of the languages",
}


def _variance(rows: Iterable[Estimate]) -> str:
    """What the variance consists of, by tier."""
    tiers = sorted({e.tier for e in rows if e.tier in _VARIANCES})
    if len(tiers) == 1:
        return _VARIANCES[tiers[0]]
    return "; ".join(f"at {tier} {_VARIANCES[tier]}" for tier in tiers)


def _claim(rows: Iterable[Estimate]) -> str:
    """Which population the inference is about."""
    return " ".join(
        f"The claim is about {_CLAIMS[tier]}" for tier in sorted({e.tier for e in rows}) if tier in _CLAIMS
    )


def _priors(outline: Outline) -> str:
    """What a moderated map was moderated with."""
    said = [
        f"{p.pair}, {p.contrast}: prior SD of a run {w.number(p.run_sd)} points on "
        f"{'infinitely many' if p.df is None else w.number(p.df, 1)} df from {p.cells} cells"
        for p in outline.results.priors
    ]
    return (
        "In maps of 20 trained cells or more the run variances are moderated by empirical Bayes "
        f"{cite('smyth2004')} ({'; '.join(said)}); unmoderated p-values stand beside. "
        if said
        else ""
    )


def _corrections(rows: Iterable[Estimate]) -> str:
    """Citations of the corrections in use; empty where nothing is corrected."""
    known = {"holm": "holm1979", "bh": "benjamini1995", "by": "benjamini2001", "max-t": "westfall1993"}
    used = {e.correction for e in rows}
    keys = [key for name, key in known.items() if name in used]
    return " " + cite(*keys) if keys else ""


def _beside(outline: Outline) -> list[str]:
    """What stands beside the primary analysis, where this result has it."""
    r = outline.results
    said = []
    if any(e.p_max_t is not None for e in r.estimates):
        said.append(
            f"step-down max-T {cite('westfall1993')} beside Holm for the conditions, with the correlation that the "
            "design gives them"
        )
    if any(e.p_by is not None for e in r.estimates):
        said.append(
            f"Benjamini-Yekutieli {cite('benjamini2001')} beside Benjamini-Hochberg for the map (any dependence)"
        )
    if any(e.logit is not None for e in r.estimates):
        said.append(
            f"every effect on the logit scale, because an interaction depends on its scale {cite('loftus1978')}"
        )
    if r.replicability:
        said.append(
            "partial conjunctions for “in at least u targets” "
            f"{cite('benjamini2008', 'dror2017')} (Bonferroni combination)"
        )
    if r.replication:
        said.append("the largest p-value over pairs, with equal signs, for a claim about all of them")
    if r.generalisation:
        said.append("tier T3 (new languages) for means over targets")
    if r.leave_out:
        said.append("the grand effect without each family of languages")
    if any(x.what != ITT for x in r.sensitivity):
        said.append("the grand effect without runs that failed")
    if any(x.what == ITT for x in r.sensitivity):
        said.append("intention-to-treat, with restarted target stages at the score of the best baseline")
    if r.cell_languages:
        said.append(
            "languages within the cells found, Benjamini-Hochberg at α × cells found / cells tested "
            f"{cite('benjamini2014')}"
        )
    if any(e.role == "placebo-difference" for e in r.further):
        said.append("the primary arm against the placebo arm")
    if any(e.role == "trend" for e in r.further):
        said.append("the linear trend of the gains over the ladder of arms, in points per step")
    if r.failure_tests:
        said.append(
            f"exact tests of failed trainings {cite('fisher1935')}, also of the interaction {cite('zelen1971')}"
        )
    listed = "; ".join(said)
    return [f"Beside it. {listed[:1].upper()}{listed[1:]}."] if said else []


def _failed(outline: Outline) -> list[str]:
    """What counts as a failed run, how many there were and what was done with them."""
    cells = outline.results.failures
    if not cells:
        return []
    restarted, collapsed, missing = (sum(getattr(cell, name) for cell in cells) for name in _FAILED)
    return [
        "Failed runs. A stage fails when its loss is not a number or its source-language dev score does not beat the "
        "trivial rule; test scores are never looked at. It is run again with another seed, and a run that fails to the "
        f"end is kept. Target stages run again: {restarted}; kept although collapsed: {collapsed}; planned runs "
        f"without outcomes: {missing}."
    ]


_FAILED = ("restarted", "collapsed", "missing")


def _registered(outline: Outline) -> str:
    registration = outline.results.registration
    if registration is None:
        return "Registration. No design was registered before the scores were read."
    when = f"{registration.registered} (SHA-256 {registration.sha256[:12]})"
    if registration.late:
        return f"Registration. Late, on {when}: outcomes existed, and every result is exploratory."
    shown = sum(e.status == "confirmatory" for e in (*outline.results.estimates, *outline.results.further))
    departed = f"; {w.count(len(registration.deviations), 'deviation')}" if registration.deviations else ""
    return (
        f"Registration. The design was registered on {when}, before test scores: "
        f"{registration.hypotheses} hypotheses{departed}. "
        f"Confirmatory effects of this report: {shown}; all others are exploratory."
    )


def registration(outline: Outline) -> tuple[str, ...]:
    """What was registered and where the analysis departs from it; empty where nothing was registered."""
    known = outline.results.registration
    if known is None:
        return ()
    when = (
        ", after outcomes existed: nothing in this report is confirmatory"
        if known.late
        else f", before any test score was read, with {known.hypotheses} hypotheses"
    )
    first = f"The design with SHA-256 {known.sha256} was registered on {known.registered}{when}."
    shown = 'In tables, rows outside it are in italics and say "exploratory".'
    return (
        f"{first} {shown}",
        *(f"Deviation from it: {deviation}." for deviation in known.deviations),
    )
