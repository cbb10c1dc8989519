"""Every error a user can cause, in one tree.

    XtremexError
    ├── SuiteError (ValueError)          a suite, catalogue or task file says something wrong
    ├── UnknownName (LookupError)        a name that no registry holds; carries its neighbours
    ├── DataError (ValueError)           unreadable, empty or contradictory data; names file and line
    ├── ArtifactError (RuntimeError)     a stored artifact is missing, half written or altered
    ├── MissingDependency (ImportError)  an optional package is absent; carries the pip line
    └── AnalysisError (ValueError)       outcomes cannot carry the analysis that was asked for

The command line prints ``message`` and ``hint`` and exits with 2; nothing else is shown to a user.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AnalysisError",
    "ArtifactError",
    "DataError",
    "MissingDependency",
    "SuiteError",
    "UnknownName",
    "XtremexError",
    "nearest",
    "unknown",
]


class XtremexError(Exception):
    """Base of all errors that a user can mend. ``hint`` says what to type or change next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # errors travel from worker processes; the default would lose the hint
        return type(self), (self.message, self.hint)


class SuiteError(XtremexError, ValueError):
    pass


class UnknownName(XtremexError, LookupError):
    pass


class DataError(XtremexError, ValueError):
    pass


class ArtifactError(XtremexError, RuntimeError):
    pass


class MissingDependency(XtremexError, ImportError):
    pass


class AnalysisError(XtremexError, ValueError):
    pass


def nearest(name: str, known: Iterable[str]) -> str:
    """One line that lists the closest of ``known``, then the first twenty names."""
    options = sorted(set(known))
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    listed = ", ".join(options[:20]) + (", ..." if len(options) > 20 else "")
    if close:
        return f"did you mean {' or '.join(f'`{c}`' for c in close)}? (known: {listed})"
    return f"known: {listed or 'none'}"


def unknown(what: str, name: str, known: Iterable[str], where: str = "") -> UnknownName:
    """The error for a name that is not in a table, with its neighbours as the hint."""
    return UnknownName(f"{where + ': ' if where else ''}unknown {what} `{name}`", nearest(name, known))
