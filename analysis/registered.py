"""What a registration does and does not control: the families of the confirmatory effects, in words."""

from __future__ import annotations

from .outline import ALL, Outline
from .results import Estimate

__all__ = ["confirmatory"]

_PRIMARY = ("grand", "primary")


def confirmatory(outline: Outline) -> str:
    """How many confirmatory effects there are, in which families, and that nothing corrects over these."""
    rows = [e for e in (*outline.results.estimates, *outline.results.further) if e.status == "confirmatory"]
    if not rows:
        return "No effect of this report is confirmatory."
    # the primary family spans pairs; every other one is a contrast's own
    families = {
        ("", "") if _primary(e) else (e.pair, e.contrast, *([] if e.family in _PRIMARY else [e.family]))
        for e in rows
    }
    said = f"Confirmatory effects of this report: {len(rows)}; all others are exploratory."
    if len(families) == 1:
        return said
    primary = list(dict.fromkeys(_named(outline, e) for e in rows if _primary(e)))
    only = (
        f"only {' and '.join(primary)} {'is' if len(primary) == 1 else 'are'} primary"
        if primary
        else "none is primary"
    )
    return (
        f"{said} They stand in {len(families)} families, and no correction spans families: {only}, and no error rate "
        "holds over all of them together."
    )


def _primary(e: Estimate) -> bool:
    return e.role == "primary" and e.family in _PRIMARY


def _named(outline: Outline, e: Estimate) -> str:
    what = "the grand effect" if e.condition == ALL else f"the effect after {outline.condition(e.condition)}"
    return f"{what} of {f'{e.pair} / ' if outline.several else ''}{e.contrast}"
