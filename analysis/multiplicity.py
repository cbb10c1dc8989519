"""Adjusted p-values for a named family: Holm (confirmatory) and Benjamini-Hochberg (exploratory map)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import AnalysisError

__all__ = ["benjamini_hochberg", "holm"]


def _checked(p: Sequence[float] | np.ndarray) -> np.ndarray:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not np.all((values >= 0) & (values <= 1)):
        raise AnalysisError(
            f"p-values must be a flat list within [0, 1], not {values!r}", "leave out undefined ones"
        )
    return values


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Step-down adjusted p-values (Holm 1979), (m,) in the order given; controls the familywise error."""
    values = _checked(p)
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def benjamini_hochberg(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Step-up adjusted p-values (Benjamini & Hochberg 1995), (m,) in the order given; controls the FDR."""
    values = _checked(p)
    order = np.argsort(values, kind="stable")[::-1]
    factors = len(values) / np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.minimum.accumulate(values[order] * factors), 1.0)
    return adjusted
