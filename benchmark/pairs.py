"""Pairs that a suite takes from the catalogue (``from = "NAME"``), written out as if the suite had stated them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import SuiteError, unknown
from ..models.pairs import expand
from ..models.pairs import pairs as catalogue_pairs

__all__ = ["take_pairs"]


def take_pairs(table: dict[str, Any], path: Path) -> list[str]:
    """Write out the pairs that name one of the catalogue (``from``), the suite's own keys on top.

    Returns what was taken: it determines the results as the file does.
    """
    taken = []
    pairs = table.get("pairs")
    for index, pair in enumerate(pairs if isinstance(pairs, list) else ()):
        if not isinstance(pair, dict) or "from" not in pair:
            continue
        name = pair.pop("from")
        where = f"{path}: pairs[{index}].from"
        if not isinstance(name, str):
            raise SuiteError(f"{where}: expected str, found `{name!r}`", "one table [[pairs]] for each pair")
        if name not in catalogue_pairs():
            raise unknown("pair", name, catalogue_pairs(), where)
        arms, contrasts, note, dose = expand(name)
        own = pair.get("arms", {})
        ladder = _ladder(dose, arms, own)
        known = {"name": name, "contrasts": contrasts, "note": note, "ladder": ladder} | pair
        # what is no table is left to `build`, which says so
        pair |= known | {"arms": arms | own if isinstance(own, dict) else own}
        taken.append(f"|from {json.dumps([arms, contrasts, *([ladder] if ladder else [])])}")
    return taken


def _ladder(dose: list[str], arms: dict[str, dict[str, str]], own: Any) -> list[str]:
    """The catalogue's order by exposure; empty where the suite puts another encoder in one of its places."""

    def kept(role: str) -> bool:
        arm = own.get(role, arms[role]) if isinstance(own, dict) else arms[role]
        backbone = arm.get("backbone") if isinstance(arm, dict) else None
        return isinstance(backbone, str) and backbone.partition("@")[0] == arms[role]["backbone"]

    return dose if all(map(kept, dose)) else []
