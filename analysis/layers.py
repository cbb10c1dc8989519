"""Retrieval by layer: from the sweeps of `suite.json` to curves, and to the scores of three rules for the layer.

Published gains of intermediate training on retrieval depend on the layer that is read (protocol reference,
section 5): so the gain is given at the layer fixed in advance, at the layer chosen on the dev split, and at the
layer that is best on the scored split itself, which nobody could have known and is labelled as an oracle.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .comparisons import NONE
from .results import LayerCurve, LayerScore

__all__ = ["RULES", "ViewScores", "layer_curves", "layer_scores"]

RULES = ("fixed", "chosen", "best")

_VIEW = re.compile(r"layer=(\d+),pool=(\w+)")
_LAST = re.compile(r"layer=last,pool=(mean|cls)")
"""The last state by name. `pool=native` is no point of a curve: the encoder's own vector is of another pooling."""

ViewScores = Mapping[tuple[str, str, str, str], Mapping[str, Mapping[int, float]]]
"""(task, pair, arm, condition) -> view -> seed -> score on the test set, mean over languages."""

Sweeps = Mapping[tuple[str, str, str, str], Sequence[Mapping[str, Any]]]
"""(task, pair, arm, condition) -> one sweep per seed."""


def _sweeps(suite: Mapping[str, Any], views: ViewScores) -> Sweeps:
    """In the order of the suite; of a task with scores in ``views`` only the runs that are among these.

    A run that the analysis left out has a sweep too, and would stand in one mean with runs that it kept.
    """
    kept = {key: {seed for scores in known.values() for seed in scores} for key, known in views.items()}
    known = {task for (task, *_), seeds in kept.items() if seeds}
    found: dict[tuple[str, str, str, str], list[Mapping[str, Any]]] = {}
    for sweep in suite.get("sweeps", ()):
        key = (sweep["task"], sweep["pair"], sweep["arm"], sweep["condition"])
        if key[0] not in known or sweep["seed"] in kept.get(key, ()):
            found.setdefault(key, []).append(_numbered(sweep, suite))
    order = [
        (target["task"], pair["name"], arm, condition["name"])
        for target in suite["targets"]
        for pair in suite["pairs"]
        for arm in pair["arms"]
        for condition in suite["conditions"]
    ]
    return {key: sorted(found[key], key=lambda sweep: sweep["seed"]) for key in order if key in found}


def _numbered(sweep: Mapping[str, Any], suite: Mapping[str, Any]) -> Mapping[str, Any]:
    """The sweep with its last state under the state's number: an encoder of 24 layers ends with `layer=24`."""
    views = [*sweep["dev"], *sweep["test"], sweep["fixed"], sweep["chosen"]]
    if not any(map(_LAST.fullmatch, views)):
        return sweep
    arms = next((pair["arms"] for pair in suite["pairs"] if pair["name"] == sweep["pair"]), {})
    backbone, known = str(arms.get(sweep["arm"])), suite.get("backbones", {})
    # `muse@grounded-text` is an arm made from the backbone `muse`
    depth = (known.get(backbone) or known.get(backbone.partition("@")[0], {})).get("layers")
    if depth is None:
        depth = 1 + max((int(match[1]) for match in map(_VIEW.fullmatch, views) if match), default=-1)

    def name(view: str) -> str:
        return f"layer={depth},pool={match[1]}" if (match := _LAST.fullmatch(view)) else view

    return {
        **sweep,
        **{rule: name(sweep[rule]) for rule in ("fixed", "chosen")},
        **{split: {name(view): score for view, score in sweep[split].items()} for split in ("dev", "test")},
    }


def _split(sweeps: Sequence[Mapping[str, Any]]) -> str:
    """``test`` where every seed scored it at every layer, else ``dev``."""
    return "test" if all(sweep["test"] for sweep in sweeps) else "dev"


def layer_curves(suite: Mapping[str, Any], views: ViewScores) -> list[LayerCurve]:
    """Score by layer, mean over seeds: mean pooling, or the first pooling that was swept.

    ``views`` as for :func:`layer_scores`: both show the same runs.
    """
    curves = []
    for (task, pair, arm, condition), sweeps in _sweeps(suite, views).items():
        split = _split(sweeps)
        values: dict[str, dict[int, list[float]]] = {}
        for sweep in sweeps:
            for view, score in sweep[split].items():
                if match := _VIEW.fullmatch(view):
                    values.setdefault(match[2], {}).setdefault(int(match[1]), []).append(score)
        if not values:
            continue
        pooling = "mean" if "mean" in values else next(iter(values))
        layers = tuple(sorted(values[pooling]))
        means = tuple(float(np.mean(values[pooling][layer])) for layer in layers)
        curves.append(LayerCurve(pair, arm, condition, task, split, pooling, layers, means))
    return curves


def layer_scores(suite: Mapping[str, Any], views: ViewScores) -> list[LayerScore]:
    """The score of every rule in every cell, with its gain against ``none`` under the same rule.

    ``views`` are the outcomes of the views named as a rule: scores on the test set where no sweep covers it.
    """
    before: dict[tuple[str, ...], tuple[str, float]] = {}
    rows = []
    for (task, pair, arm, condition), sweeps in _sweeps(suite, views).items():
        known = views.get((task, pair, arm, condition), {})
        for rule in RULES:
            split, taken = _taken(rule, sweeps, known.get(rule, {}))
            if not taken:
                continue
            scores = [score for _, score in taken]
            mean = float(np.mean(scores))
            sd = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
            gain = None
            if condition == NONE:
                before[task, pair, arm, rule] = split, mean
            elif (start := before.get((task, pair, arm, rule))) and start[0] == split:
                # a gain compares like with like: the same rule on the same split
                gain = 100 * (mean - start[1])
            names = tuple(view for view, _ in Counter(view for view, _ in taken).most_common())
            rows.append(
                LayerScore(pair, arm, condition, task, rule, split, names, mean, sd, len(scores), gain)
            )
    return rows


def _taken(
    rule: str, sweeps: Sequence[Mapping[str, Any]], outcomes: Mapping[int, float]
) -> tuple[str, list[tuple[str, float]]]:
    """The split, and per seed the view that a rule takes with its score there; nothing where it has none."""
    if rule == "best":
        # on dev the best layer is the chosen one
        swept = [sweep["test"] for sweep in sweeps] if _split(sweeps) == "test" else []
        return "test", [max(scores.items(), key=lambda item: item[1]) for scores in swept]
    if all(sweep["seed"] in outcomes for sweep in sweeps):
        return "test", [(str(sweep[rule]), outcomes[sweep["seed"]]) for sweep in sweeps]
    split = _split(sweeps)
    found = [(str(sweep[rule]), sweep[split].get(sweep[rule])) for sweep in sweeps]
    return split, [(view, score) for view, score in found if score is not None]
