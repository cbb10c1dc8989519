"""What a suite asks of its analysis: the table ``analysis`` of `suite.json`, with the defaults of older files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import AnalysisError
from .fit import DegreesOfFreedom, Tier

__all__ = ["Settings"]

TIERS = ("T1", "T2", "T3")
FREEDOMS = ("welch", "pooled")


@dataclass(frozen=True)
class Settings:
    """Every key is optional in `suite.json`; results from before a key existed mean its default."""

    alpha: float = 0.05
    margin_task: float = 1.0
    """Margin of equivalence of one target, in points."""
    margin_aggregate: float = 0.5
    """Margin of a mean over targets, in points."""
    tier: Tier = "T2"
    """Which population the inference is about; a suite with one seed has T0 whatever it asks for."""
    df: DegreesOfFreedom = "welch"
    primary: str = ""
    """The condition whose effect is the primary hypothesis; empty: the mean over all (the grand effect)."""

    @classmethod
    def of(cls, suite: Mapping[str, Any]) -> Settings:
        """Raises ``AnalysisError`` for a tier, a df or a primary condition that does not exist."""
        asked: Mapping[str, Any] = suite.get("analysis", {})
        known = {name: asked[name] for name in cls.__dataclass_fields__ if name in asked}
        found = cls(**known)
        conditions = [c["name"] for c in suite.get("conditions", ()) if c["name"] != "none"]
        for what, value, options in (
            ("tier", found.tier, TIERS),
            ("df", found.df, FREEDOMS),
            ("primary", found.primary, ("", *conditions)),
        ):
            if value not in options:
                raise AnalysisError(
                    f"analysis.{what} = `{value}` in suite.json",
                    f"use one of: {', '.join(x for x in options if x)}",
                )
        return found

    def margin(self, target: str) -> float:
        """The margin of a target, or of ``*``, the mean over them; in points."""
        return self.margin_aggregate if target == "*" else self.margin_task
