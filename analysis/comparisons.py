"""Which contrasts of arms a suite asks for, and which follow from them: from the record of a pair alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .families import difference_of_contrasts, trend_coefficients

__all__ = ["ALL", "NONE", "Comparison", "declared", "derived"]

NONE = "none"
"""The condition without intermediate training."""
ALL = "*"
"""The name of a mean over conditions or over targets in `Estimate` and `Gain` (`results.py`)."""
SHORTEST_LADDER = 3


@dataclass(frozen=True)
class Comparison:
    """Arms of one pair whose gains are compared: ``sum over arms of sign x gain``."""

    pair: str
    name: str
    role: str
    signs: Mapping[str, float]

    @property
    def arms(self) -> tuple[str, str] | None:
        """(plus, minus) of a difference of two arms; None for other contrasts."""
        plus = [arm for arm, sign in self.signs.items() if sign == 1.0]
        minus = [arm for arm, sign in self.signs.items() if sign == -1.0]
        return (plus[0], minus[0]) if len(plus) == len(minus) == 1 and len(self.signs) == 2 else None


def declared(pair: Mapping[str, Any]) -> list[Comparison]:
    """The contrasts that the suite names for a pair (an entry of ``pairs`` in `suite.json`)."""
    return [
        Comparison(pair["name"], c["name"], c["role"], {c["plus"]: 1.0, c["minus"]: -1.0})
        for c in pair["contrasts"]
    ]


def derived(pair: Mapping[str, Any]) -> list[Comparison]:
    """Every primary contrast less every placebo with the same minus arm, and the trend over a ladder.

    Vision - text less scrambled - text is vision - scrambled: what pictures that match add over pictures that
    do not. A ladder is what the pair's ``ladder`` lists, three arms or more, the least dose first; its trend is
    the slope of the gains per step.
    """
    name, known = pair["name"], declared(pair)
    arms = {comparison.arms for comparison in known}
    found: dict[str, Comparison] = {}
    for first in (c for c in known if c.role == "primary"):
        for second in (c for c in known if c.role == "placebo"):
            if first.arms is None or second.arms is None or first.arms[1] != second.arms[1]:
                continue
            signs = difference_of_contrasts(first.signs, second.signs)
            made = Comparison(name, "-".join(signs), "placebo-difference", signs)
            if made.arms is not None and made.arms not in arms:
                found[made.name] = made
    ladder = [arm for arm in pair.get("ladder", ()) if arm in pair["arms"]]
    if len(ladder) >= SHORTEST_LADDER:
        # the middle of an odd ladder has no weight in its slope
        slope = {arm: c for arm, c in trend_coefficients(ladder).items() if c}
        title = f"trend({' < '.join(ladder)})"
        found[title] = Comparison(name, title, "trend", slope)
    return list(found.values())
