"""What a finished report says, read back from `report.json`: for the terminal, and to know whether it is up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import AnalysisError

__all__ = ["headline", "is_current"]


def headline(folder: Path) -> str:
    """The answers of the report in ``folder``, one paragraph each, the suite's notice and the signature last.

    Raises ``AnalysisError`` where there is no readable report.
    """
    report = _read(folder / "report.json")
    if report is None:
        raise AnalysisError(f"{folder}: no readable report.json", f"xtremex report {folder}")
    lines = [answer["sentence"] for answer in report["answers"]]
    lines += [report["suite"]["suite"]["notice"], report["signature"]]
    return "\n\n".join(line for line in lines if line)


def is_current(folder: Path) -> bool:
    """Whether ``folder`` holds a complete report of exactly the outcomes, and the registration, that lie there."""
    record, report = _read(folder / "suite.json"), _read(folder / "report.json")
    if record is None or report is None or not (folder / "report.html").is_file():
        return False
    shown = report.get("suite", {})
    registered = (_read(folder / "preregistration.json") or {}).get("sha256")
    same = all(shown.get(key) == record.get(key) for key in ("key", "version", "record", "files"))
    return same and (report.get("registration") or {}).get("sha256") == registered


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
