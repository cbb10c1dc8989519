"""What is not equal between two outcome folders, by what pins their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .outcomes import Record
from .settings import Settings

__all__ = ["Change", "changes"]


@dataclass(frozen=True)
class Change:
    """Something about the two folders that is not equal."""

    what: str
    a: str
    b: str


def changes(a: Record, b: Record) -> list[Change]:
    """Fields of the signature, then what it only hashes (arms, data, backbones, settings), where they differ.

    What one of them does not have is ``absent`` there.
    """
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
    for pair in suite["pairs"]:
        found |= {
            f"arm {pair['name']} / {name}": str(backbone) for name, backbone in pair.get("arms", {}).items()
        }
    found |= {f"condition {c['name']}": ", ".join(c.get("tasks", ())) or "-" for c in suite["conditions"]}
    for target in suite["targets"]:
        what = f"target {target['task']}"
        found[what] = f"version {target.get('version', '?')}"
        found[f"{what}, data"] = str(target.get("revision") or "not recorded")
        if target.get("languages"):
            found[f"{what}, languages"] = ", ".join(target["languages"])
    for name, backbone in suite.get("backbones", {}).items():
        found[f"backbone {name}"] = str(backbone.get("revision") or "not pinned")
    found |= {f"analysis {name}": f"{value}" or "-" for name, value in asdict(Settings.of(suite)).items()}
    found |= {
        name: str(suite["environment"][name])
        for name in ("torch", "device", "precision")
        if name in suite.get("environment", {})
    }
    return found
