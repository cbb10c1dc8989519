"""What is not equal between two outcome folders, by what pins their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .outcomes import Record

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """Something about the two folders that is not equal."""

    what: str
    a: str
    b: str


def changes(a: Record, b: Record) -> list[Change]:
    """Fields of the signature, then versions, revisions and settings that it only hashes, where they differ."""
    one, two = (_facts(record.suite) for record in (a, b))
    return [
        Change(key, one.get(key, "absent"), two.get(key, "absent"))
        for key in dict.fromkeys([*one, *two])
        if one.get(key) != two.get(key)
    ]


def _facts(suite: Mapping[str, Any]) -> dict[str, str]:
    """What pins a suite's numbers, by name: fields of the signature, then what it only hashes."""
    found: dict[str, str] = {}
    for field in str(suite["signature"]).split("|"):
        name, _, value = field.partition(":")
        found[name] = f"{found[name]}, {value}" if name in found else value
    found |= {f"target {t['task']}": f"version {t.get('version', '?')}" for t in suite["targets"]}
    found |= {f"backbone {n}": str(x.get("revision", "?")) for n, x in suite.get("backbones", {}).items()}
    found |= {f"analysis {name}": f"{value}" for name, value in suite.get("analysis", {}).items()}
    found |= {
        name: str(suite["environment"][name])
        for name in ("torch", "device", "precision")
        if name in suite.get("environment", {})
    }
    return found
