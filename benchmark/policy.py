"""Fair use inside a pair: what its policy comes to in each arm, settled before anything is loaded.

Only the catalogue is read (``Backbone.facts``). What it does not state about some arm cannot be settled: the arms then stay
as they are, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import SuiteError
from ..models.catalogue import Backbone, Facts
from ..models.use import Use
from .schema import Pair, Policy

__all__ = ["ASKED_AS", "ASPECTS", "TITLES", "Terms", "in_short", "settle", "terms_words"]

ASPECTS = tuple(field.name for field in fields(Use))
"""What a policy settles, under the names of ``Facts`` and ``EncoderInfo``."""
ASKED_AS = {"text_prefix": "prefix"}
"""Where the policy's key is not the aspect's name."""
TITLES = {
    "max_length": "longest input",
    "pair_encoding": "pairs of texts",
    "pooling": "sentence vector",
    "dropout": "dropout",
    "text_prefix": "text prefix",
}
"""Aspects in words."""


@dataclass(frozen=True)
class Terms:
    """What the policy of a pair comes to."""

    uses: dict[str, Use]
    """Arm -> what is changed in it."""
    values: dict[str, Any]
    """Aspect -> the value that all arms have, of those that are settled."""
    unsettled: dict[str, tuple[str, ...]]
    """Aspect -> backbones whose facts would settle it."""

    def __bool__(self) -> bool:
        """Whether anything is changed in any arm."""
        return any(self.uses.values())


def settle(pair: Pair, backbones: Mapping[str, Backbone], path: Path) -> Terms:
    """The terms of a pair, from its policy and what is known of its backbones.

    An aspect in which an arm is certainly so already is no change of it: its jobs keep their addresses.

    Raises:
        SuiteError: the policy asks of an arm what its facts say it cannot do.
    """
    facts = {name: backbones[arm.backbone].facts for name, arm in pair.arms.items()}
    several = len({arm.backbone for arm in pair.arms.values()}) > 1
    values: dict[str, Any] = {}
    unsettled: dict[str, tuple[str, ...]] = {}
    for aspect in ASPECTS:
        asked = getattr(pair.policy, ASKED_AS.get(aspect, aspect))
        relative = RELATIVE.get((aspect, asked))
        if relative is None:
            if asked != "native":
                values[aspect] = "" if asked == "none" else asked
        elif several or asked != getattr(Policy(), aspect):  # one backbone shares everything with itself
            needed, rule = relative
            decisive, silent = _decisive(needed, facts)
            if silent:
                unsettled[aspect] = tuple(dict.fromkeys(pair.arms[name].backbone for name in silent))
            else:
                value = rule(decisive)
                values |= {} if value is None else {aspect: value}
    for name, known in facts.items():
        arm = f"arm `{name}` (backbone `{pair.arms[name].backbone}`)"
        _refuse_impossible(values, known, f"{path}: pairs.{pair.name}.policy", arm)
    uses = {
        name: Use(**{a: value for a, value in values.items() if not _already(a, value, known)})
        for name, known in facts.items()
    }
    return Terms(uses, values, unsettled)


def _decisive(needed: Sequence[str], facts: Mapping[str, Facts]) -> tuple[list[Any], list[str]]:
    """Values of the first needed fact in which the arms differ, else of the last; and the arms that do not state it."""
    stated: dict[str, Any] = {}
    silent: list[str] = []
    for fact in needed:
        stated = {name: getattr(known, fact) for name, known in facts.items()}
        silent = [name for name, value in stated.items() if value is None]
        if silent or len(set(stated.values())) > 1:
            break
    return list(stated.values()), silent


def _already(aspect: str, value: Any, known: Facts) -> bool:
    """Whether an arm is certain to be so by itself."""
    if aspect == "dropout":
        return False  # the fact is the headline rate: attention or activations may have another
    if aspect == "pooling" and known.pooled_unit_norm is not False:
        return False  # heads read a native vector of unit length times 10
    return value == getattr(known, aspect)


def _joint_where_all(encodings: Sequence[str]) -> str:
    return "joint" if set(encodings) == {"joint"} else "separate"


def _native_where_equal(vectors: Sequence[Any]) -> str | None:
    return None if len(set(vectors)) == 1 else "mean"


def _smallest_where_unequal(rates: Sequence[float]) -> float | None:
    return None if len(set(rates)) == 1 else min(rates)


RELATIVE: dict[tuple[str, Any], tuple[tuple[str, ...], Callable[[Sequence[Any]], Any]]] = {
    ("max_length", "accepted"): (("max_length",), min),
    ("max_length", "trained"): (("max_length_trained",), min),
    ("pair_encoding", "shared"): (("pair_encoding",), _joint_where_all),
    ("pooling", "shared"): (("pooling", "pooled_unit_norm"), _native_where_equal),
    ("dropout", "shared"): (("dropout",), _smallest_where_unequal),
}
"""(aspect, what is asked) -> the facts that decide, and how the arms' values of the decisive one become one (None: as each
arm is)."""


def _refuse_impossible(values: Mapping[str, Any], known: Facts, where: str, arm: str) -> None:
    wrong = []
    if known.max_length is not None and values.get("max_length", 0) > known.max_length:
        wrong.append(("max_length", f"accepts {known.max_length} tokens"))
    if values.get("pair_encoding") == "joint" and known.pair_encoding == "separate":
        wrong.append(("pair_encoding", "reads the two texts of a pair apart"))
    if values.get("pooling") == "cls" and known.causal:
        wrong.append(("pooling", "is causal: its first token sees no other"))
    if values.get("dropout") and known.dropout == 0:
        wrong.append(("dropout", "was trained without dropout"))
    for aspect, why in wrong:
        raise SuiteError(
            f"{where}.{aspect} = {json.dumps(values[aspect])}, but the {arm} {why}",
            "leave the key out: its default is what all arms of the pair can do",
        )


def in_short(terms: Terms) -> str:
    """The settled values as a signature has them (``len512,mean,joint,drop0.1``): those that change some arm."""
    changed = {a for use in terms.uses.values() for a, value in vars(use).items() if value is not None}
    said: dict[str, Callable[[Any], str]] = {
        "max_length": "len{}".format,
        "pooling": str,
        "pair_encoding": str,
        "dropout": "drop{:g}".format,
        "text_prefix": lambda _: "noprefix",
    }
    return ",".join(word(terms.values[aspect]) for aspect, word in said.items() if aspect in changed)


def terms_words(terms: Terms) -> str:
    """One line for a terminal: what all arms are used with, and what could not be settled."""
    said: dict[str, Callable[[Any], str]] = {
        "max_length": "at most {} tokens".format,
        "pair_encoding": "pairs of texts {}".format,
        "pooling": "sentence vector {}".format,
        "dropout": "dropout {:g}".format,
        "text_prefix": lambda _: "no text prefix",
    }
    words = [word(terms.values[aspect]) for aspect, word in said.items() if aspect in terms.values]
    own = [TITLES[a] for a in ("pooling", "dropout") if a not in terms.values and a not in terms.unsettled]
    words += [f"{' and '.join(own)} as each was trained"] if own and words else []
    line = ", ".join(words) or "every arm as it is"
    if terms.unsettled:
        silent = dict.fromkeys(name for names in terms.unsettled.values() for name in names)
        line += (
            f"; not settled: {', '.join(TITLES[a] for a in terms.unsettled)} (unknown facts of {', '.join(silent)}; "
            f"xtremex check {next(iter(silent))})"
        )
    return line
