"""Tables of what was run and on what: runs, schedules, tasks, backbones, environment; from `suite.json`."""

from __future__ import annotations

from typing import Any

from . import wording as w
from .outline import Outline
from .tables import Block, Row, Table, figure, row, text

__all__ = [
    "backbones",
    "contamination",
    "environment",
    "exceptions",
    "policies",
    "restarts",
    "runs",
    "schedule_sentence",
    "schedules",
]

_DIGEST = 12
"""Characters of a digest that are printed; the whole one is in `report.json`."""


def _table(name: str, caption: str, columns, rows: list[Row], note: str = "", fold: bool = False) -> Table:
    return Table(name, caption, columns, (Block("", tuple(rows)),), note, fold)


def _names(values: Any) -> str:
    return ", ".join(map(str, values))


def _value(value: Any) -> str:
    """A value of a dictionary, for reading."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_value(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return _names(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _restarted(r: dict[str, Any]) -> bool:
    return bool(r.get("attempt") or r.get("intermediate_attempt"))


def _collapsed(r: dict[str, Any]) -> bool:
    return bool(r.get("collapsed") or r.get("intermediate_collapsed"))


def runs(outline: Outline) -> str:
    """One sentence: how many runs, how many restarted, how many collapsed."""
    every = outline.suite.get("runs", ())
    if not every:
        return "The outcomes list no runs."
    restarted = sum(map(_restarted, every))
    collapsed = sum(map(_collapsed, every))
    if not restarted and not collapsed:
        return f"All {len(every)} runs ended at the first attempt; none collapsed."
    return (
        f"{len(every)} runs: {restarted} with a stage that needed a second attempt (restart rule), "
        f"{collapsed} with a collapsed one."
    )


def restarts(outline: Outline) -> Table:
    rows = [
        row(
            r["pair"],
            r["arm"],
            outline.condition(r["condition"]),
            outline.task(r["task"]),
            str(r["seed"]),
            str(r.get("intermediate_attempt", 0)),
            str(r.get("attempt", 0)),
            " and ".join(
                stage
                for stage, key in (("intermediate", "intermediate_collapsed"), ("target", "collapsed"))
                if r.get(key)
            )
            or "no",
            w.score(r.get("dev")),
        )
        for r in outline.suite.get("runs", ())
        if _restarted(r) or _collapsed(r)
    ]
    columns = (
        *text("Pair", "Arm", "Intermediate", "Target"),
        *figure("Seed", "Intermediate attempt", "Target attempt"),
        *text("Collapsed"),
        *figure("Dev"),
    )
    return _table(
        "restarts",
        "Runs that needed a second attempt or collapsed",
        columns,
        rows,
        "A run collapses when its loss is not a number or its best source-language dev score is not more than 1 point "
        "above the best rule without a model; test scores are never looked at.",
    )


def schedules(outline: Outline) -> Table:
    listed = outline.suite.get("schedules", ())
    # PAIR/ARM: of one pair the arms say all
    pair = "" if outline.several else f"{next(iter(outline.pairs), '')}/"
    rows = [
        row(
            str(s["stage"]),
            # grounding has none
            str(s["seed"]) if int(s["seed"]) >= 0 else "–",
            str(s["fingerprint"])[:_DIGEST],
            "–" if len(s.get("arms", ())) < 2 else "equal" if s.get("equal") else "differs (declared)",
            _names(str(arm).removeprefix(pair) for arm in s.get("arms", ())),
        )
        for s in listed
    ]
    columns = (*text("Stage"), *figure("Seed"), *text("Fingerprint", "Over the arms", "Arms"))
    return _table(
        "schedules",
        "Schedule fingerprints: which examples each optimizer step saw, and with what settings",
        columns,
        rows,
        f"Compared at the first attempt; the first {_DIGEST} characters are shown, the whole digest is in "
        "report.json.",
        fold=True,
    )


def schedule_sentence(outline: Outline) -> str:
    listed = outline.suite.get("schedules", ())
    if not listed:
        return "The outcomes carry no schedule fingerprints."
    if not any(len(s.get("arms", ())) > 1 for s in listed):
        return f"{w.count(len(listed), 'schedule')}, each of one arm: there is nothing to compare."
    unequal = [f"{s['stage']} (seed {s['seed']})" for s in listed if not s.get("equal")]
    if not unequal:
        return (
            f"All {len(listed)} schedules are equal over the arms: each saw the same examples at every step."
        )
    return f"{len(unequal)} of {len(listed)} schedules differ between arms, as declared: {_names(unequal)}."


def exceptions(outline: Outline) -> Table:
    rows = [
        row(str(x.get("arm", "")), str(x.get("key", "")), _value(x.get("value")), str(x.get("reason", "")))
        for x in outline.suite.get("exceptions", ())
    ]
    return _table(
        "exceptions",
        "Declared exceptions to the common schedule",
        text("Arm", "Key", "Value", "Reason"),
        rows,
    )


def contamination(outline: Outline) -> Table:
    rows = [
        row(str(x.get("intermediate", "")), str(x.get("target", "")), str(x.get("note", "")))
        for x in outline.suite.get("contamination", ())
    ]
    return _table(
        "contamination",
        "Known overlap between intermediate and target data",
        text("Intermediate", "Target", "Note"),
        rows,
    )


def backbones(outline: Outline) -> Table:
    known = outline.suite.get("backbones", {})
    rows = []
    for pair in outline.suite.get("pairs", ()):
        arms = pair.get("arms", {})
        # `suite.json` sorts its keys
        for arm in pair.get("order") or arms:
            backbone = arms[arm]
            # `muse@grounded-text` is an arm made from the backbone `muse`
            about = known.get(backbone) or known.get(str(backbone).partition("@")[0], {})
            rows.append(
                row(
                    pair["name"],
                    arm,
                    str(backbone),
                    _value(about.get("adapter")),
                    _value(about.get("family")),
                    _length(about),
                    _value(about.get("causal")),
                    _value(about.get("pad_to")) if about.get("attends_padding") else "no",
                    _value(about.get("revision")),
                    _value(about.get("licence")),
                )
            )
    return _table(
        "backbones",
        "Arms",
        text(
            *("Pair", "Arm", "Backbone", "Adapter", "Family", "Tokens", "Causal", "Padded to", "Revision"),
            "Licence",
        ),
        rows,
        "Tokens: of the longest input that the encoder accepts. Padded to: of encoders that read their padding.",
    )


def _length(about: dict[str, Any]) -> str:
    """``512 (trained on 77)``."""
    longest, trained = about.get("max_length"), about.get("max_length_trained")
    if longest is None or trained in (None, longest):
        return _value(longest)
    return f"{longest} (trained on {trained})"


def policies(outline: Outline) -> Table:
    """What the arms of each pair were used with; empty for results from before there were policies."""
    rows = []
    for pair in outline.suite.get("pairs", ()):
        for line in pair.get("policy", ()):
            arms: dict[str, list[str]] = {}
            for arm, words in line["arms"].items():
                arms.setdefault(words, []).append(arm)
            got = (
                next(iter(arms), "–")
                if len(arms) < 2
                else "; ".join(f"{_names(names)}: {words}" for words, names in arms.items())
            )
            asked = str(line["asked"]) + ("" if line["settled"] else " (not settled)")
            rows.append(row(pair["name"], str(line["aspect"]), asked, got))
    return _table(
        "policies",
        "Fair use: what all arms of a pair were used with, whatever each was trained with",
        text("Pair", "Aspect", "Asked", "Used"),
        rows,
        _vector_note(outline),
    )


_OWN_VECTOR = {"retrieval": "retrieval", "mining": "bitext mining", "image-text": "image-text retrieval"}


def _vector_note(outline: Outline) -> str:
    """Who reads the settled sentence vector and who the encoder's own, of the kinds that the suite has."""
    kinds = [t.get("kind") for t in outline.suite.get("targets", ())]
    also = " and what answer retrieval compares" if "answer-retrieval" in kinds else ""
    own = [words for kind, words in _OWN_VECTOR.items() if kind in kinds]
    scored = f"; {', '.join(own)}: scored on the encoder's own" if own else ""
    return f"The sentence vector is what heads read{also}{scored}."


def environment(outline: Outline) -> Table:
    suite = outline.suite
    rows = [row("xtremex", _value(suite.get("version")))]
    about = suite.get("suite", {})
    rows.append(row("suite", f"{_value(about.get('name'))}, digest {_value(about.get('digest'))[:_DIGEST]}"))
    cost = suite.get("cost", {})
    if w.finite(cost.get("seconds")):
        rows.append(row("compute time", w.duration(cost["seconds"])))
    if w.finite(cost.get("jobs")):
        rows.append(row("jobs", str(cost["jobs"])))
    if w.finite(cost.get("disk_bytes")):
        rows.append(row("disk", w.size(cost["disk_bytes"])))
    rows += [
        row(key.replace("_", " "), _value(value))
        for key, value in cost.items()
        if key not in ("seconds", "jobs", "disk_bytes")
    ]
    rows += [
        row(key.replace("_", " "), _value(value))
        for key, value in suite.get("environment", {}).items()
        if key != "xtremex"
    ]
    return _table("environment", "Cost and environment", text("Key", "Value"), rows)
