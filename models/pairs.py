"""The catalogue of pairs and ladders: backbones that differ in their exposure to images and share what can be shared.

Built-in ones live in ``pairs.toml`` beside this file; a package of the entry-point group ``xtremex.backbones`` may hold a
``pairs.toml`` beside its ``backbones.toml``. Importing this module loads no torch, and no checkpoint is opened. One table::

    [my-ladder]
    kind = "ladder"        # "pair": two arms; "ladder": three or more
    contrasts = [{ plus = "vision", minus = "text" }, { plus = "distilled", minus = "text", role = "placebo" }]
    note = "what differs besides the images"
    evidence = "how we know that the arms have one ancestor"
    dose = ["text", "distilled", "vision"]   # where the arms are steps of one exposure; a list of controls has none
    [my-ladder.arms]       # role = backbone, from the least exposure to the most
    text = "xlm-roberta-base"
    distilled = "my-encoder"
    vision = "laion-xlmr-base"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

from ..door import build
from ..errors import SuiteError, unknown
from .catalogue import NAME, Backbone, backbones, collect

__all__ = ["CataloguePair", "Expanded", "PairContrast", "expand", "get", "pairs", "parse_pair"]

FILE = "pairs.toml"
SIZES = {
    "layers": "layers",
    "hidden_size": "units wide",
    "embedding_parameters": "weights of token embeddings",
}
"""What the arms have in common, as far as the catalogue knows it, and its unit."""


@dataclass(frozen=True)
class PairContrast:
    """A difference between two arms."""

    plus: str
    minus: str
    role: Literal["primary", "placebo"] = "primary"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The keys of a pair's table."""

    kind: Literal["pair", "ladder"]
    arms: dict[str, str]
    """Role -> backbone, from the least exposure to images to the most."""
    contrasts: tuple[PairContrast, ...]
    note: str
    """What differs between the arms besides the images."""
    evidence: str
    """How the ancestor is known."""
    dose: tuple[str, ...] = ()
    """Roles of a ladder that are steps of one exposure, the least first; empty where its arms are controls of each other,
    which have an order in the table but none in what they saw."""


@dataclass(frozen=True, kw_only=True)
class CataloguePair(Entry):
    """Arms with one ancestor, architecture and size of vocabulary."""

    name: str
    ancestor: str
    """The nearest backbone from which all arms descend, itself included."""
    package: str = field(default="", compare=False)
    where: str = field(default="", compare=False)
    """File and table of the declaration, for error messages."""


class Expanded(NamedTuple):
    """A pair as plain data: what a suite's ``[[pairs]]`` table says in full."""

    arms: dict[str, dict[str, str]]
    """Role -> ``{"backbone": name}``, in order."""
    contrasts: list[dict[str, str]]
    """Tables of ``plus``, ``minus`` and ``role``."""
    note: str
    ladder: list[str]
    """The roles of ``dose``: the report tests the trend of their gains."""


def parse_pair(name: str, entry: Mapping[str, Any], where: str, *, package: str = "") -> CataloguePair:
    """A ``CataloguePair`` from a TOML table; its backbones are looked up in the catalogue.

    Raises:
        SuiteError: an unknown or missing key, too few or too many arms, arms without a common ancestor or of different size.
        UnknownName: no such backbone, or a contrast of an arm that the pair does not have.
    """
    parsed = build(Entry, entry, where)
    _check_names(name, parsed, where)
    arms = {role: _backbone(backbone, f"{where}.arms.{role}") for role, backbone in parsed.arms.items()}
    first = next(iter(arms.values()))
    for role, backbone in arms.items():
        for key, unit in SIZES.items():
            mine, its = getattr(backbone, key), getattr(first, key)
            if mine and its and mine != its:
                raise SuiteError(
                    f"{where}.arms.{role}: `{backbone.name}` has {mine:,} {unit}, `{first.name}` has {its:,}",
                    "the arms of a pair have one architecture and one vocabulary",
                )
    return CataloguePair(
        **vars(parsed), name=name, ancestor=_common(arms, where), package=package, where=where
    )


def _check_names(name: str, parsed: Entry, where: str) -> None:
    for what in (name, *parsed.arms):
        if not NAME.fullmatch(what):
            raise SuiteError(
                f"{where}: `{what}` cannot be a name",
                "use letters, digits, `.`, `_` and `-`, a letter or digit first",
            )
    count = len(parsed.arms)
    if count < 2 or (parsed.kind == "pair") != (count == 2):
        raise SuiteError(
            f"{where}: a {parsed.kind} with {count} arm{'' if count == 1 else 's'}",
            'kind = "pair" has two arms, kind = "ladder" three or more',
        )
    if not parsed.contrasts:
        raise SuiteError(
            f"{where}.contrasts is empty", 'add one: contrasts = [{ plus = "ARM", minus = "ARM" }]'
        )
    for contrast in parsed.contrasts:
        for role in (contrast.plus, contrast.minus):
            if role not in parsed.arms:
                raise unknown("arm", role, parsed.arms, f"{where}.contrasts")
        if contrast.plus == contrast.minus:
            raise SuiteError(f"{where}.contrasts: `{contrast.plus}` is compared with itself")
    for role in parsed.dose:
        if role not in parsed.arms:
            raise unknown("arm", role, parsed.arms, f"{where}.dose")
    if parsed.dose and not 3 <= len(set(parsed.dose)) == len(parsed.dose):
        raise SuiteError(
            f"{where}.dose = {list(parsed.dose)}", "three or more arms, each once, the least exposure first"
        )


def _backbone(name: str, where: str) -> Backbone:
    if name not in backbones():
        raise unknown("backbone", name, backbones(), where)
    return backbones()[name]


def _lineage(name: str | None) -> list[str]:
    """The backbone itself and its ancestors, the nearest first; the last may be one that the catalogue does not hold."""
    line: list[str] = []
    while name and name not in line:
        line.append(name)
        name = backbones()[name].ancestor if name in backbones() else None
    return line


def _common(arms: Mapping[str, Backbone], where: str) -> str:
    first, *others = (_lineage(backbone.name) for backbone in arms.values())
    for name in first:
        if all(name in line for line in others):
            return name
    raise SuiteError(
        f"{where}: its arms have no common ancestor: {'; '.join(' from '.join(line) for line in (first, *others))}",
        "state `ancestor` in backbones.toml where an arm's is known; a pair compares what one encoder became",
    )


@cache
def pairs() -> dict[str, CataloguePair]:
    """Every known pair and ladder by name: the built-in ones, then those of installed packages. Read once per process."""
    return collect("pair", FILE, parse_pair)


def get(name: str) -> CataloguePair:
    """The pair called ``name``; raises ``UnknownName`` with its neighbours."""
    if name not in pairs():
        raise unknown("pair", name, pairs())
    return pairs()[name]


def expand(name: str) -> Expanded:
    """The arms, contrasts, note and ladder of the pair called ``name``, as a suite would write them.

    The arms are not pinned: ``xtremex fetch`` pins the commits of hub checkpoints, as of every backbone.

    Raises:
        UnknownName: no such pair; carries its neighbours.
    """
    pair = get(name)
    return Expanded(
        {role: {"backbone": backbone} for role, backbone in pair.arms.items()},
        [{"plus": c.plus, "minus": c.minus, "role": c.role} for c in pair.contrasts],
        pair.note,
        list(pair.dose),
    )
