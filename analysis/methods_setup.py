"""Paragraphs of the methods section on what was run: encoders, training, tasks and data, failed runs; from `suite.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import wording as w
from .bibliography import cite
from .outline import Outline
from .task_tables import stage_of, trained_targets

__all__ = ["COLLAPSE_MARGIN", "MAX_ATTEMPTS", "failed", "languages", "randomised", "runs", "setup"]

COLLAPSE_MARGIN = 0.01
"""By how much a dev score must beat the best rule without a model; as in ``benchmark/training.py``, which needs torch."""
MAX_ATTEMPTS = 2
"""As in ``benchmark/jobs.py``."""


def setup(outline: Outline) -> list[str]:
    """The paragraphs on encoders, training, tasks and data; each only where the record has its numbers."""
    return [*_encoders(outline), *_training(outline), *_tasks(outline)]


def languages(outline: Outline) -> str:
    """Which languages the scores are means over: ``16 languages: the training language (en; in 4 of 6 targets), ...``."""
    targets = [t for t in outline.suite.get("targets", ()) if t["task"] in outline.targets]
    every = {code for t in targets for code in t.get("languages", ())}
    source = {t.get("source_language", "en") for t in targets} & every
    outside = {code for t in targets for code in t.get("untrained_languages", ())} & every - source
    if not source and not outside:
        return w.count(len(every), "language")
    parts = []
    if source:
        having = [t for t in targets if t.get("source_language", "en") in t.get("languages", ())]
        where = f"; in {len(having)} of {len(targets)} targets" if len(having) < len(targets) else ""
        parts.append(f"the training language ({', '.join(sorted(source))}{where})")
    if rest := len(every - source - outside):
        parts.append(w.count(rest, "other"))
    if outside:
        known = ", ".join(sorted(outside))
        parts.append(f"{len(outside)} that the encoder's pre-training did not cover ({known})")
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"{w.count(len(every), 'language')}: {listed}; all count alike"


def runs(outline: Outline) -> str:
    """``366 runs on the targets and 38 of image-text retrieval``; empty where the record lists none."""
    listed = outline.suite.get("runs", ())
    on_targets = sum(r["task"] in outline.targets for r in listed)
    told = [w.count(on_targets, "run") + " on the targets"] if on_targets else []
    told += [f"{len(listed) - on_targets} of image-text retrieval"] if len(listed) > on_targets else []
    return " and ".join(told)


def randomised(outline: Outline) -> str:
    """What a seed sets."""
    rates = [b.get("dropout") for b in outline.suite.get("backbones", {}).values()]
    dropout = not rates or any(rate is None or rate > 0 for rate in rates)
    return "heads, data order and dropout" if dropout else "heads and data order (dropout is 0)"


def _encoders(outline: Outline) -> list[str]:
    said = []
    for name, about in outline.suite.get("backbones", {}).items():
        facts = [
            f"checkpoint {about['checkpoint']}" if about.get("checkpoint") else "",
            f"revision {about['revision']}" if about.get("revision") else "",
            w.count(about["layers"], "layer") if about.get("layers") else "",
            f"{about['hidden_size']} units" if about.get("hidden_size") else "",
            f"frozen: {', '.join(about['frozen'])}" if about.get("frozen") else "",
        ]
        told = ", ".join(filter(None, facts))
        source = f" {cite('yang2020')}" if about.get("family") == "muse" else ""
        said.append(f"{name}{source}" + (f" ({told})" if told else ""))
    if not said:
        return []
    grounding = outline.suite.get("grounding") or {}
    made = ""
    if {"steps", "batch_size", "encoder_lr"} <= set(grounding):
        made = (
            f" Grounding makes each arm from its encoder in {grounding['steps']} contrastive steps of "
            f"{grounding['batch_size']} pairs (rate {grounding['encoder_lr']:g}"
            + (f"; image tower {grounding['tower']}" if grounding.get("tower") else "")
            + (f" at {grounding['image_size']} pixels" if grounding.get("image_size") else "")
            + (f", rate {grounding['tower_lr']:g}" if grounding.get("tower_lr") else "")
            + (f"; {w.count(len(grounding['languages']), 'language')}" if grounding.get("languages") else "")
            + "), once."
        )
    return [f"Encoders. {'; '.join(said)}.{made}"]


def _stage(name: str, stage: Mapping[str, Any]) -> str:
    """Hyper-parameters of a stage in words."""
    length = (
        f"{stage['epochs']:g} epochs of batches"
        if stage.get("epochs")
        else w.count(stage.get("steps", 0), "step")
    )
    clip = f", gradient norm at most {stage['clip']:g}" if stage.get("clip") else ""
    dev = stage.get("evaluations", 0)
    kept = "the best of its dev scores kept" if stage.get("evaluate_every") else ""
    if not kept:
        kept = (
            "the last checkpoint kept"
            if dev == 1
            else f"the best of {dev} checkpoints on dev kept"
            if dev
            else ""
        )
    return (
        f"{name}: {length} of {stage.get('batch_size')}, rates {stage.get('encoder_lr', 0):g} (encoder) and "
        f"{stage.get('head_lr', 0):g} (heads), warm-up over {100 * stage.get('warmup', 0):g} % of the steps, weight decay "
        f"{stage.get('weight_decay', 0):g}{clip}{', ' + kept if kept else ''}"
    )


def _training(outline: Outline) -> list[str]:
    suite = outline.suite
    said = [
        _stage(name, stage)
        for name, role in (("On intermediate tasks", "intermediate"), ("on targets", "target"))
        if (stage := stage_of(suite, role, ()))
    ]
    if not said:
        return []
    own = suite.get("stages", {}).get("per_task", {})
    other = "; ".join(f"{task} with {_changes(changed)}" for task, changed in own.items())
    where = suite.get("environment", {})
    precision = (
        f" Precision {where['precision']} on {where.get('device', 'cpu')}." if where.get("precision") else ""
    )
    return [
        f"Training. AdamW with linear decay, encoder and head together. {'; '.join(said)}."
        + (f" Unlike the rest: {other}." if other else "")
        + precision
    ]


def _changes(changed: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in changed.items())


def _tasks(outline: Outline) -> list[str]:
    suite = outline.suite
    about = {t["task"]: t for t in suite.get("intermediate_tasks", ())}
    listed = [c for c in suite.get("conditions", ()) if c["name"] in outline.conditions and c["tasks"]]
    if not listed or not about:
        return []
    conditions = "; ".join(f"{c['name']} ({_members(c['tasks'], about)})" for c in listed)
    trained = trained_targets(suite)
    targets = "; ".join(
        f"{outline.task(t['task'])} ({t.get('kind')}, {t.get('metric')}, "
        f"{_sizes(t, trained is None or t['task'] in trained)})"
        for t in suite.get("targets", ())
        if t["task"] in outline.targets
    )
    licences = dict.fromkeys(
        str(t["licence"]) for t in (*about.values(), *suite.get("targets", ())) if t.get("licence")
    )
    return [
        f"Tasks and data. Intermediate conditions: {conditions}. Targets: {targets}."
        + (f" Sources and licences: {'; '.join(licences)}." if licences else "")
    ]


def _members(tasks: Iterable[str], about: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(tasks)
    if len(names) > 1:
        return f"a mixture of {', '.join(names)}"
    one = about.get(names[0], {})
    size = one.get("train_examples")
    return ", ".join(
        filter(None, (names[0], one.get("kind"), f"{w.count(size, 'training example')}" if size else ""))
    )


def _sizes(target: Mapping[str, Any], trained: bool) -> str:
    tested = f"{w.span(target.get('examples', {}).values())} test examples a language"
    size = target.get("train_examples")
    return tested + (f", {size} to train on" if trained and size else "" if trained else ", nothing trained")


def failed(outline: Outline) -> list[str]:
    """What counts as a failed run, how many there were and what was done with them."""
    cells = outline.results.failures
    if not cells:
        return []
    restarted, collapsed, missing = (sum(getattr(cell, name) for cell in cells) for name in _COUNTED)
    before = outline.suite.get("intermediate_runs")
    trained = ""
    if before is not None:
        again = sum(bool(r.get("attempt")) for r in before)
        kept = sum(bool(r.get("collapsed")) for r in before)
        trained = (
            f"Of {w.count(len(before), 'intermediate training')}, {again} {_were(again)} run again and {kept} kept although "
            "failed. "
        )
    margin = f"{100 * COLLAPSE_MARGIN:g} point"
    return [
        "Failed runs. A training fails when its loss is not a number, or when its best dev score in the training language "
        f"is not more than {margin} above the best rule without a model (for a mixture, means over its tasks); "
        "test scores are never looked at. It is run once more, with other heads and another order of the data, and kept "
        f"if it fails again. {trained}Trainings on targets run again: {restarted}; kept although failed: {collapsed}; "
        f"planned runs without outcomes: {missing}."
    ]


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


_COUNTED = ("restarted", "collapsed", "missing")
