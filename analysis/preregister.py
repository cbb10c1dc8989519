"""A design frozen before test scores are read: hypotheses, families, tier, margins, seeds, with a SHA-256.

`preregistration.json` lies beside `suite.json`. An effect is confirmatory where its hypothesis was registered
before outcomes existed and nothing that determines it was changed since; everything else is exploratory.

The digest finds a file that was edited, and the time of the first test score in the record one that came from another
folder after the run. Neither stops somebody who rewrites both: what a third party can believe is a digest that was
published (in a commit, a public registry) before the run, and that the report's signature repeats.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import AnalysisError, DataError
from .comparisons import ALL, NONE, declared, derived
from .results import Estimate, Status
from .secondary import FailureCount, Registration
from .settings import Settings

__all__ = ["FILE", "Checked", "Registered", "check", "design_of", "freeze", "read_registration"]

FILE = "preregistration.json"
FORMAT = 1
SETUP = ("suite", "setup")
COMMIT = re.compile(r"[0-9a-f]{40}(, [0-9a-f]{40})*")
CORRECTIONS = {
    "grand": "Holm over the primary contrasts of all pairs",
    "primary": "Holm over the primary contrasts of all pairs",
    "conditions": "Holm within a contrast; step-down max-T beside",
    "targets": "Holm within a contrast (exploratory)",
    "map": "Benjamini-Hochberg within a contrast, run variances moderated from 20 cells on; "
    "Benjamini-Yekutieli beside (exploratory)",
    "languages": "Benjamini-Hochberg within the cells of the map that are found (exploratory)",
}


@dataclass(frozen=True)
class Registered:
    """The content of `preregistration.json`, its digest checked."""

    design: dict[str, Any]
    hypotheses: tuple[dict[str, str], ...]
    registered: str
    late: bool
    sha256: str


@dataclass(frozen=True)
class Checked:
    """A registration held against what was analysed."""

    registration: Registration
    hypotheses: frozenset[tuple[str, ...]]
    changed: frozenset[str]
    """Pairs whose design was changed; ``*`` for all."""

    def status(self, e: Estimate) -> Status:
        known = (e.pair, e.contrast, e.condition, e.target, e.family) in self.hypotheses
        kept = not self.registration.late and not self.changed & {ALL, e.pair}
        return "confirmatory" if known and kept else "exploratory"


def design_of(suite: Mapping[str, Any]) -> dict[str, Any]:
    """What a registration freezes, from the content of `suite.json` or the same keys of a plan."""
    pairs = {
        pair["name"]: {
            "arms": dict(pair["arms"]),
            "contrasts": {c["name"]: [c["plus"], c["minus"], c["role"]] for c in pair["contrasts"]},
            "ladder": list(pair.get("ladder", ())),
        }
        for pair in suite["pairs"]
    }
    targets = {
        t["task"]: {
            "metric": t["metric"],
            "languages": sorted(t["languages"]),
            "retention": bool(t["retention"]),
            "version": t.get("version", ""),
        }
        for t in suite["targets"]
    }
    design = {
        "suite": {key: suite["suite"].get(key, "") for key in ("name", "digest", "setup")},
        "pairs": pairs,
        "conditions": {c["name"]: list(c["tasks"]) for c in suite["conditions"]},
        "targets": targets,
        "seeds": list(suite["seeds"]),
        "stages": suite.get("stages", {}),
        "analysis": asdict(Settings.of(suite)),
        "revisions": {
            "backbones": {name: b.get("revision") for name, b in suite.get("backbones", {}).items()},
            "data": {
                t["task"]: t.get("revision")
                for t in (*suite.get("intermediate_tasks", ()), *suite["targets"])
            },
        },
    }
    return json.loads(json.dumps(design))


def hypotheses(suite: Mapping[str, Any]) -> list[dict[str, str]]:
    """The confirmatory effects: primary ones and those per condition, placebos, their differences, trends."""
    primary = Settings.of(suite).primary
    conditions = [c["name"] for c in suite["conditions"] if c["name"] != NONE]
    found = []
    for pair in suite["pairs"]:
        for comparison in (*declared(pair), *derived(pair)):
            main = ("primary", primary) if primary else ("grand", ALL)
            rows = [main]
            if comparison.role == "primary":
                rows += [("conditions", condition) for condition in conditions if condition != primary]
            found += [
                {
                    "pair": comparison.pair,
                    "contrast": comparison.name,
                    "role": comparison.role,
                    "condition": condition,
                    "target": ALL,
                    "family": family,
                }
                for family, condition in rows
            ]
    return found


def freeze(
    suite: Mapping[str, Any],
    folder: Path,
    *,
    late: bool = False,
    scored: int = 0,
    now: datetime | None = None,
) -> Path:
    """Write `preregistration.json` of a design into ``folder`` and return its path.

    ``suite`` has the keys of `suite.json` that ``design_of`` reads; ``scored`` counts test scores that exist
    elsewhere, as in a store. ``now`` is the time of registration (UTC; default: the clock). Registering the
    same design twice changes nothing.

    Raises ``AnalysisError`` where outcomes exist, unless ``late`` (which is recorded, and makes nothing
    confirmatory), where another design is registered, and where the design has no contrast of arms to test.
    """
    folder = Path(folder)
    path = folder / FILE
    seen = [str(x) for x in (folder / "suite.json", folder / "report.json") if x.exists()]
    seen += [str(x) for x in sorted((folder / "outcomes").glob("*.parquet"))[:1]]
    seen += [f"{scored} scored jobs in the store"] if scored else []
    design, claims = design_of(suite), hypotheses(suite)
    if not claims:
        raise AnalysisError(
            f"{design['suite']['name']} compares no arms: it has no hypothesis to register",
            "give a pair two arms and a contrast of them; a suite of one arm answers with gains, which are descriptive",
        )
    if path.exists():
        old = read_registration(folder)
        if old is not None and (old.design, list(old.hypotheses)) == (design, claims):
            return path
        raise AnalysisError(
            f"{path} registers another design",
            "analyse what was registered, or move the file away and say why",
        )
    if seen and not late:
        raise AnalysisError(
            f"outcomes exist already: {'; '.join(seen)}",
            "register before a run; `--late` records the design with its date, as exploratory",
        )
    content = {
        "format": FORMAT,
        "registered": (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        "late": bool(seen),
        "outcomes_seen": seen,
        "design": design,
        "hypotheses": claims,
        "corrections": CORRECTIONS,
    }
    content["sha256"] = _digest(content)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def read_registration(folder: Path) -> Registered | None:
    """The registration beside the outcomes; None where there is none.

    Raises ``DataError`` for an unreadable file and ``AnalysisError`` where its digest does not hold.
    """
    path = Path(folder) / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Registered(
            design=content["design"],
            hypotheses=tuple(content["hypotheses"]),
            registered=content["registered"],
            late=bool(content["late"]),
            sha256=content["sha256"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no registration: {error}", "restore the file that was made") from None
    if content.get("format") != FORMAT:
        raise DataError(f"{path} has format {content.get('format')!r}; this version reads {FORMAT}")
    if _digest(content) != found.sha256:
        raise AnalysisError(
            f"{path} was altered: its SHA-256 is not the one it names",
            "restore the file as it was registered; a design that was changed is no registration",
        )
    return found


def _digest(content: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check(
    registered: Registered, suite: Mapping[str, Any], tier: str, failures: Sequence[FailureCount] = ()
) -> Checked:
    """Hold the registered design against the analysed one; ``tier`` is the one in use.

    A change of the analysis, the seeds, the conditions, the targets, the stages, the set-up (what the suite file says
    of encoders and data) or a revision of an encoder or a data set concerns every effect, a change of a pair's arms its
    own. A pair or a contrast more or less concerns every effect: the primary family is corrected over all pairs, so
    that leaving one out would lower the p-values of the rest; so does a primary contrast that the outcomes cannot give.
    A digest of the suite file that differs is named, as are runs that are missing: where a whole cell is, the pair's
    effects are means over other cells than was registered. A registration that is younger than the first test score is
    late, whatever it says itself.
    """
    asked, used = registered.design, design_of(suite)
    deviations: list[str] = []
    changed: set[str] = set()
    for path, before, after in _differences(asked, used):
        if path == SETUP:
            deviations.append("suite.setup: the suite file says otherwise of encoders, data or training")
        else:
            deviations.append(f"{'.'.join(path)}: registered {_said(before)}, analysed {_said(after)}")
        if path[0] == "pairs":
            changed.add(path[1] if path[2:3] in (("arms",), ("ladder",)) else ALL)
        elif path[0] == "revisions" and COMMIT.fullmatch(str(after)) and not COMMIT.fullmatch(str(before)):
            pass  # registered before `xtremex fetch` settled a branch: named, as it may have moved
        elif path[0] != "suite" or path == SETUP:
            changed.add(ALL)
    wanted = asked.get("analysis", {}).get("tier", tier)
    if tier != wanted and wanted == used["analysis"]["tier"]:
        deviations.append(f"tier: registered {wanted}, analysed {tier} (a cell has one seed)")
        changed.add(ALL)
    lost = [cell for cell in failures if cell.missing]
    if lost:
        runs, planned = sum(c.missing for c in lost), sum(c.planned for c in failures)
        deviations.append(
            f"runs: {runs} of {planned} registered were not analysed (see the table of failures)"
        )
    retained = {t["task"] for t in suite["targets"] if t["retention"]}
    changed |= {c.pair for c in lost if c.analysed == 0 and c.target not in retained}
    untested = _untested(asked, failures, retained)
    if untested:
        deviations.append(f"primary family: no cell to test {', '.join(untested)} with")
        changed.add(ALL)
    scored = suite.get("scored")
    late = registered.late or bool(scored and _time(registered.registered) > _time(scored))
    if late and not registered.late:
        deviations.append(f"time: registered {registered.registered}, first test score {scored}")
    keys = ("pair", "contrast", "condition", "target", "family")
    claims = frozenset(tuple(h[key] for key in keys) for h in registered.hypotheses)
    summary = Registration(
        registered.sha256,
        registered.registered,
        late,
        len(claims),
        tuple(deviations),
        (ALL,) if ALL in changed else tuple(sorted(changed)),
    )
    return Checked(summary, claims, frozenset(changed))


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise DataError(
            f"{text!r} is no time, in {FILE} or under `scored` of suite.json",
            "restore the file that was made",
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _untested(
    design: Mapping[str, Any], failures: Sequence[FailureCount], retained: Collection[str]
) -> list[str]:
    """Registered primary contrasts without a single (condition, target) that all of their arms have, as `none` has."""
    there = {
        (c.pair, c.arm, c.condition, c.target) for c in failures if c.analysed and c.target not in retained
    }
    lost = []
    for pair, about in design["pairs"].items() if failures else ():
        for name, (plus, minus, role) in about["contrasts"].items():
            whole = any(
                {(pair, arm, c, target) for arm in (plus, minus) for c in (condition, NONE)} <= there
                for _, _, condition, target in there
                if condition != NONE
            )
            if role == "primary" and not whole:
                lost.append(f"{pair} / {name}")
    return lost


_NOTHING = object()


def _differences(
    before: Any, after: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(path, registered, analysed) of every leaf that differs; what is not there is ``_NOTHING``."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(key, _NOTHING), after.get(key, _NOTHING), (*path, key))
    elif before != after:
        yield path, before, after


def _said(value: Any) -> str:
    if value is _NOTHING:
        return "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "an entry" if isinstance(value, dict) else f"`{value}`"
