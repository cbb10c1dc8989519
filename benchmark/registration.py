"""Freeze a suite's design before its test scores are read (`analysis/preregister.py` says what that means)."""

from __future__ import annotations

from pathlib import Path

from ..analysis.preregister import freeze
from .record import design_record
from .run import Options, plan_suite

__all__ = ["preregister"]


def preregister(name: str, options: Options, *, late: bool = False) -> Path:
    """Write the registration of a suite beside where its outcomes go; return its path.

    Test scores exist where the folder holds outcomes or the store a finished evaluation of this plan; then
    ``AnalysisError``, unless ``late``.
    """
    plan = plan_suite(name, options)
    store = options.store
    scored = sum(job.type == "evaluate" and store.has(job.type, job.key) for job in plan.jobs.values())
    return freeze(design_record(plan), options.folder(plan.suite), late=late, scored=scored)
