"""The order and the names that every table and figure shares.

A :class:`~.results.Results` is a flat record; a reader needs rows and columns in one order everywhere:
that of `suite.json`. What only the numbers name (a hand-made result, an older file) follows, sorted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .comparisons import ALL, NONE
from .overlap import DAGGER, overlaps
from .results import Estimate, Gain, Results, Retention, Score

__all__ = ["ALL", "NONE", "Contrast", "Outline"]


@dataclass(frozen=True)
class Contrast:
    """Two arms of a pair whose gains are compared: ``delta(plus) - delta(minus)``."""

    name: str
    plus: str
    minus: str
    role: str


def _ordered(known: Iterable[str], seen: Iterable[str]) -> tuple[str, ...]:
    present = set(seen)
    first = [name for name in dict.fromkeys(known) if name in present]
    return tuple(first + sorted(present - set(first)))


def _common_prefix(names: Sequence[str]) -> str:
    """``mini-`` for ``mini-topic`` and ``mini-spans``: the part before the first hyphen, if all share it."""
    head, hyphen, _ = names[0].partition("-") if names else ("", "", "")
    prefix = head + hyphen
    return (
        prefix
        if len(names) > 1 and hyphen and all(n.startswith(prefix) and n != prefix for n in names)
        else ""
    )


def _by_place(estimates: Iterable[Estimate]) -> dict[tuple[str, str, str, str], Estimate]:
    return {(e.pair, e.contrast, e.condition, e.target): e for e in estimates}


def _suffixes(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for position, pair in enumerate(pairs):
        safe = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "._-") else "_" for ch in pair)
        suffix = f"-{safe}" if position else ""
        found[pair] = f"{suffix}-{position}" if suffix in found.values() else suffix
    return found


@dataclass(frozen=True)
class Outline:
    """Ordered names of a result and lookups by cell."""

    results: Results
    pairs: tuple[str, ...]
    conditions: tuple[str, ...]
    """Intermediate conditions, without ``none``."""
    targets: tuple[str, ...]
    """Target tasks that carry effects, without the retention tasks."""
    suffixes: dict[str, str]
    """What a pair's own files end with: nothing for the first pair, ``-pair`` for the others."""
    prefix: str
    """What all target names begin with; dropped where names are printed."""
    estimates: dict[tuple[str, str, str, str], Estimate] = field(repr=False)
    """(pair, contrast, condition, target) -> an effect of a contrast that the suite names."""
    further: dict[tuple[str, str, str, str], Estimate] = field(repr=False)
    """The same for derived contrasts, whose target is ``*``: placebo differences and trends."""
    generalisation: dict[tuple[str, str, str, str], Estimate] = field(repr=False)
    """The same at tier T3; the target is ``*``."""
    gains: dict[tuple[str, str, str, str], Gain] = field(repr=False)
    scores: dict[tuple[str, str, str, str], Score] = field(repr=False)
    overlaps: dict[tuple[str, str], tuple[str, ...]] = field(repr=False)
    """(condition, target) -> notes on the data they share."""

    @classmethod
    def of(cls, results: Results) -> Outline:
        suite = results.suite
        lines = [*results.estimates, *results.gains, *results.scores, *results.retention]
        retained = {t["task"] for t in suite.get("targets", ()) if t.get("retention")}
        retained |= {r.target for r in results.retention}
        targets = _ordered(
            (t["task"] for t in suite.get("targets", ())),
            {x.target for x in [*results.estimates, *results.gains, *results.scores]} - retained - {ALL},
        )
        listed = targets + tuple(sorted(retained))
        pairs = _ordered(
            (p["name"] for p in suite.get("pairs", ())), {x.pair for x in [*lines, *results.languages]}
        )
        return cls(
            results=results,
            pairs=pairs,
            suffixes=_suffixes(pairs),
            conditions=_ordered(
                (c["name"] for c in suite.get("conditions", ())), {x.condition for x in lines} - {ALL, NONE}
            ),
            targets=targets,
            prefix=_common_prefix(listed),
            estimates=_by_place(results.estimates),
            further=_by_place(results.further),
            generalisation=_by_place(results.generalisation),
            gains={(g.pair, g.arm, g.condition, g.target): g for g in results.gains},
            scores={(s.pair, s.arm, s.condition, s.target): s for s in results.scores},
            overlaps=overlaps(suite),
        )

    def only(self, pair: str) -> Outline:
        """The same result, restricted to one pair: a table or figure of its own."""
        return replace(self, pairs=(pair,))

    def file(self, name: str, pair: str) -> str:
        """The file stem of a pair's table or figure: ``name`` for the first pair, else ``name-pair``."""
        return name + self.suffixes[pair]

    @property
    def several(self) -> bool:
        """Whether the result has several pairs: then every heading names its pair."""
        return len(self.suffixes) > 1

    @property
    def suite(self) -> dict[str, Any]:
        return self.results.suite

    @property
    def title(self) -> str:
        about = self.suite.get("suite", {})
        return str(about.get("title") or about.get("name") or "XTREME-X")

    @property
    def notice(self) -> str:
        return str(self.suite.get("suite", {}).get("notice") or "")

    @property
    def alpha(self) -> float:
        return float(self.suite.get("analysis", {}).get("alpha", 0.05))

    @property
    def level(self) -> str:
        """The confidence level as it is printed: ``95 %``."""
        return f"{100 * (1 - self.alpha):.4g} %"

    def _pair(self, pair: str) -> dict[str, Any]:
        return next((p for p in self.suite.get("pairs", ()) if p["name"] == pair), {})

    def contrasts(self, pair: str) -> tuple[Contrast, ...]:
        """Primary contrasts first, each group in the order of the suite."""
        declared = {c["name"]: c for c in self._pair(pair).get("contrasts", ())}
        r = self.results
        roles = {x.contrast: x.role for x in [*r.estimates, *r.languages] if x.pair == pair}
        found = []
        for name in _ordered(declared, roles):
            plus, _, minus = name.partition("-")
            entry = declared.get(name, {})
            found.append(
                Contrast(name, entry.get("plus", plus), entry.get("minus", minus or "text"), roles[name])
            )
        return tuple(sorted(found, key=lambda c: c.role != "primary"))

    def _listed_arms(self, pair: str) -> Iterable[str]:
        """In the order of the suite; `suite.json` sorts its keys, and older files have nothing else."""
        about = self._pair(pair)
        return about.get("order") or about.get("arms", {})

    def arms(self, pair: str) -> tuple[str, ...]:
        r = self.results
        return _ordered(
            self._listed_arms(pair),
            {x.arm for x in [*r.gains, *r.scores] if x.pair == pair},
        )

    def retention(self, pair: str) -> dict[tuple[str, str], dict[str, Retention]]:
        """``(target, arm) -> condition -> record``, arms and conditions in the order of the suite."""
        mine = [r for r in self.results.retention if r.pair == pair]
        arms = _ordered(self._listed_arms(pair), {r.arm for r in mine})
        table: dict[tuple[str, str], dict[str, Retention]] = {}
        for target in sorted({r.target for r in mine}):
            for arm in arms:
                cell = {r.condition: r for r in mine if (r.target, r.arm) == (target, arm)}
                order = [c for c in (NONE, *self.conditions) if c in cell]
                if order:
                    table[target, arm] = {c: cell[c] for c in order}
        return table

    def task(self, name: str) -> str:
        """A target's name as printed."""
        return "mean over targets" if name == ALL else name.removeprefix(self.prefix)

    def condition(self, name: str) -> str:
        """A condition's name as printed."""
        return {ALL: "mean over intermediates", NONE: "no intermediate"}.get(name, name)

    def dagger(self, condition: str, target: str) -> str:
        """The mark of a cell that shares data; empty for the others, and for means."""
        return DAGGER if (condition, target) in self.overlaps else ""

    @property
    def dagger_note(self) -> str:
        """What the mark means; empty where no cell of this result has it."""
        seen = any(c in self.conditions and t in self.targets for c, t in self.overlaps)
        return f" {DAGGER}: intermediate and target share data." if seen else ""

    def cell(self, condition: str, target: str) -> str:
        """Where an estimate stands, in words."""
        if condition == ALL and target == ALL:
            return "mean over intermediates and targets"
        return f"{self.condition(condition)} → {self.task(target)}"
