"""The methods section of a report, written out with the suite's own numbers and citations (`bibliography.py`)."""

from __future__ import annotations

from collections.abc import Iterable

from . import methods_setup
from . import wording as w
from .bibliography import cite
from .outline import NONE, Outline
from .registered import confirmatory
from .results import Estimate
from .secondary import ITT

__all__ = ["methods", "registration"]


def methods(outline: Outline) -> tuple[str, ...]:
    """The methods section with this suite's own numbers, ready to be adapted for a paper."""
    suite, results = outline.suite, outline.results
    targets = [t for t in suite.get("targets", ()) if t["task"] in outline.targets]
    sources = sorted({t.get("source_language", "en") for t in targets}) or ["en"]
    seeds = suite.get("seeds", [])
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
        f"then scoring on {methods_setup.languages(outline)}. Each cell has {w.count(len(seeds), 'seed')}"
        + (f" ({told})" if (told := methods_setup.runs(outline)) else "")
        + f"; a seed sets {methods_setup.randomised(outline)} of the intermediate and the target stage."
        + (f" Scores are also averaged as the benchmark does {cite('hu2020')}." if results.benchmark else "")
    )
    out += methods_setup.setup(outline)
    if results.estimates:
        tiers = w.tiers(results.estimates)
        out.append(
            "Estimand. gain = score after intermediate training − score without; effect = gain of the first "
            "arm − gain "
            "of the second (a difference in differences), in points; scores are means over all of the languages above, "
            "weighted equally. Means over tasks are "
            "taken within a seed before any variance, because one intermediate checkpoint feeds all targets."
        )
        out.append(
            f"Test. MWV-t (multi-way variance t) at tier {tiers}: a moment estimator of crossed variance components, in the "
            f"spirit of multi-way clustering {cite('cameron2011')}, with a t reference. The variance is "
            f"{_variance(results.estimates)}.{_examples(results.estimates)} The reference is Student's t with "
            f"{w.freedom(results.estimates)} df {cite('satterthwaite1946', 'welch1947')} "
            f"({w.span((e.df for e in results.estimates), 1)} here); "
            f"intervals are {outline.level}. {_priors(outline)}{_claim(results.estimates)} "
            "Pre-training and grounding are not replicated by a seed."
        )
        out.append(
            f"Multiplicity and verdicts. Families, per pair and contrast: {w.families(results.estimates)}"
            f"{_corrections(results.estimates)}. Equivalence: two one-sided tests {cite('schuirmann1987')} "
            f"against a margin of {w.margins(results.estimates)}, not adjusted for their number. Minimum detectable "
            f"effect: the effect found with 80 % power at α = {outline.alpha:g} "
            "given the variance and df of the estimate; at other numbers of seeds, with the run part of that variance "
            "divided by them and the part of the shared test examples as it is. Effects by language and gains by arm are "
            "exploratory: their "
            "p-values are not adjusted."
        )
        out += [*_beside(outline), *methods_setup.failed(outline)]
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


def _examples(rows: Iterable[Estimate]) -> str:
    """How the terms of runs and of examples are estimated, and how often the latter came out below 0."""
    mine = [e for e in rows if e.tier in ("T2", "T3") and e.p is not None and e.variance_shares]
    if not mine:
        return ""
    cells = [e for e in mine if e.family == "map"] or mine
    cut = sum(e.variance_shares.get("examples", 0.0) <= 0 for e in cells)
    what = "cells of the map" if cells[0].family == "map" else "effects"
    return (
        " The run term is the sum, over the cells of the contrast, of the variance between runs over their number. The "
        "term of the examples is the variance of the mean, over test examples, of each one's contrast: of its "
        "contributions to the metric, averaged over runs and, in parallel test sets, over languages; examples of one "
        "paragraph are one unit. What the errors of single runs contribute to it, with their covariance over the "
        "languages of a parallel test set and within paragraphs, is in the run term already: it is subtracted, and the "
        "difference is set to 0 where it is negative "
        f"(here in {cut} of {len(cells)} {what})."
    )


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
        f"{p.pair}, {p.contrast}: prior df about that level "
        f"{'infinite' if p.df is None else w.number(p.df, 1)}, SD of a run at the mean level {w.number(p.run_sd)} points, "
        f"{p.cells} cells"
        for p in outline.results.priors
    ]
    return (
        "In maps of 20 trained cells or more the run variance of each cell is moderated by empirical Bayes "
        f"{cite('smyth2004')}: drawn towards the level of its target (the mean over its conditions), which is itself "
        f"moderated over the targets ({'; '.join(said)}); p-values with a cell's own variance stand beside. "
        if said
        else ""
    )


_LEFT_OUT = {
    "source": "the training language",
    "untrained": "the languages outside pre-training",
    "family": "each family of languages",
}


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
        left = {x.what for x in r.leave_out}
        said.append(
            "the grand effect without "
            + ", without ".join(words for what, words in _LEFT_OUT.items() if what in left)
        )
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
    return [f"Sensitivity and secondary analyses. {listed[:1].upper()}{listed[1:]}."] if said else []


def _registered(outline: Outline) -> str:
    registration = outline.results.registration
    if registration is None:
        return "Registration. No design was registered before the scores were read."
    when = f"{registration.registered} (SHA-256 {registration.sha256[:12]})"
    if registration.late:
        return f"Registration. Late, on {when}: outcomes existed, and every result is exploratory."
    departed = f"; {w.count(len(registration.deviations), 'deviation')}" if registration.deviations else ""
    return (
        f"Registration. The design was registered on {when}, before test scores: "
        f"{registration.hypotheses} hypotheses{departed}. {confirmatory(outline)}"
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
        *([] if known.late else [confirmatory(outline)]),
        *(f"Deviation from it: {deviation}." for deviation in known.deviations),
    )
