"""Which outcomes a report is about: the digests of their files, held against `suite.json`, and what the signature says.

A report names the outcomes that it was made from, so that a changed file changes the signature, and a file that is not
the one `xtremex run` wrote is refused instead of analysed under the old record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import DataError
from .estimator import Tier
from .secondary import Registration
from .settings import Settings

__all__ = ["checked_digest", "checked_sizes", "outcomes_digest", "record_digest", "signature"]

READ = (
    "pairs",
    "conditions",
    "targets",
    "seeds",
    "analysis",
    "schedules",
    "exceptions",
    "intermediate_runs",
    "runs",
    "contamination",
    "sweeps",
    "expected",
)
"""Keys of `suite.json` that numbers of a report follow from; the rest says where, when and how long."""
HINT = (
    "`xtremex run` writes outcomes and suite.json again, from the store; to analyse outcomes that were changed on "
    "purpose, take `files` out of suite.json: the signature names the outcomes as they are"
)


def checked_sizes(suite: Mapping[str, Any], paths: Iterable[Path]) -> dict[str, str]:
    """File name -> SHA-256 that `suite.json` lists, after every file's size was held against the record.

    Records from before digests were listed hold sizes alone, and the oldest nothing: then less, or nothing, is checked.

    Raises ``DataError`` for a file of another size, one that cannot be read, and one that a record with `files` does
    not list.
    """
    listed = suite.get("files")
    if not isinstance(listed, dict):
        return {}
    digests: dict[str, str] = {}
    for path in paths:
        entry = listed.get(path.name)
        if entry is None:
            raise DataError(
                f"{path} was not there when suite.json was written: its `files` lists {', '.join(sorted(listed))}",
                HINT,
            )
        known = entry if isinstance(entry, dict) else {"bytes": entry}
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}", HINT) from None
        if size != known.get("bytes"):
            raise DataError(
                f"{path} is not the file that suite.json was written for: {size} bytes, not {known.get('bytes')}",
                HINT,
            )
        if "sha256" in known:
            digests[path.name] = known["sha256"]
    return digests


def checked_digest(path: Path, listed: str | None) -> str:
    """SHA-256 of a file; ``DataError`` where ``listed`` is another one, or where it cannot be read."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", HINT) from None
    if listed is not None and found != listed:
        raise DataError(
            f"{path} is not the file that suite.json was written for: its SHA-256 begins with {found[:12]}, "
            f"not {listed[:12]}",
            HINT,
        )
    return found


def outcomes_digest(digests: Mapping[str, str]) -> str:
    """One SHA-256 over file name -> SHA-256: what ``LC_ALL=C; sha256sum *.parquet | sha256sum`` prints there."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def record_digest(suite: Mapping[str, Any]) -> str:
    """SHA-256 over what of `suite.json` decides numbers; times do not, so that a second run of the same has the same."""
    said = {key: suite[key] for key in READ if key in suite}
    for name in ("runs", "intermediate_runs"):
        if name in said:
            said[name] = [{k: v for k, v in line.items() if k != "seconds"} for line in said[name]]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def signature(
    suite: Mapping[str, Any],
    tier: Tier,
    *,
    digests: Mapping[str, str],
    moderated: bool = False,
    registration: Registration | None = None,
) -> str:
    """The suite's signature with the test, its corrections, the outcomes and the registered design behind it.

    ``digests`` is file of `outcomes/` -> SHA-256.
    """
    settings = Settings.of(suite)
    primary = settings.primary or "grand"
    parts = [
        suite["signature"],
        f"analysis:{__version__}",
        f"test:MWV-t/{tier}/{settings.df}",
        f"alpha:{settings.alpha:g}",
        f"correction:{primary}=holm(pairs),conditions=holm{'' if tier == 'T3' else '(max-t)'},targets=holm,"
        f"map=bh(by){'+moderated' if moderated else ''}",
        f"margin:task={settings.margin_task:g},aggregate={settings.margin_aggregate:g}",
        f"outcomes:{outcomes_digest(digests)[:12]}",
        f"record:{record_digest(suite)[:12]}",
    ]
    if registration is not None:
        how = "-late" if registration.late else "-changed" if registration.changed else ""
        parts.append(f"registered{how}:{registration.sha256[:12]}")
    return "|".join(parts)
