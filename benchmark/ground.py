"""`xtremex ground`: arms of one ancestor from any encoder and any caption set, as folders that need no xtremex to be read.

The folder is written beside its place and renamed when it is whole: it exists complete, or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..adapters.registry import adapters
from ..errors import SuiteError, XtremexError, unknown
from ..models import catalogue
from ..models.captions import CaptionSet, OpenMoji
from ..models.catalogue import Backbone, parse_backbone
from ..models.recipe import OBJECTIVES, GroundingConfig, Recipe, network_of
from .environment import numerics
from .ground_captions import captions_of
from .ground_files import print_scores
from .plan import Numerics
from .progress import duration

__all__ = ["Request", "ground"]

FORMAT = 1
RECORD = "grounding.json"


@dataclass(frozen=True)
class Request:
    """What `xtremex ground` was asked for."""

    backbone: str
    """A backbone of the catalogue, or an adapter with ``checkpoint``."""
    captions: str
    """``openmoji``, ``folder:PATH`` or ``task:NAME``."""
    out: Path
    checkpoint: str = ""
    """Where to load it from: a folder or pinned hub id; empty: as catalogued."""
    revision: str = ""
    options: tuple[str, ...] = ()
    """``KEY=VALUE`` of the adapter's load."""
    freeze: tuple[str, ...] = ()
    """Prefixes of parameters that stay as they are, besides the catalogue's."""
    arms: tuple[str, ...] = OBJECTIVES
    tower: str = f"scratch:{Recipe.tower}"
    languages: tuple[str, ...] = ()
    data: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    steps: int = Recipe.steps
    batch_size: int = Recipe.batch_size
    seed: int = Recipe.seed
    encoder_lr: float = Recipe.encoder_lr
    tower_lr: float = Recipe.tower_lr
    image_size: int = Recipe.image_size
    dim: int = Recipe.dim


def ground(request: Request, console: Console) -> Path:
    """Make what was asked for, or find it made, print its scores on stdout and return the folder.

    Raises ``XtremexError`` for everything a user can mend: an unknown name, unusable captions, a folder that holds
    something else. Whatever stops it, no half-written folder is left.
    """
    for arm in request.arms:
        if arm not in OBJECTIVES:
            raise unknown("arm", arm, OBJECTIVES, "--arms")
    if not request.arms or len(set(request.arms)) != len(request.arms):
        raise SuiteError("--arms: the arms must be distinct, one or more", f"known: {', '.join(OBJECTIVES)}")
    numbers = numerics(request.device, request.precision)
    backbone = _backbone(request)
    captions = captions_of(request.captions, request.languages, request.data)
    recipe, tower = _recipe(request, captions)
    settings = _settings(request, backbone, captions, recipe, numbers)
    if _is_made(request.out, settings):
        console.print(f"{request.out}: made earlier with the same settings, nothing to do", highlight=False)
        print_scores(_record(request.out))
        return request.out
    from .ground_arms import Work, make_arms

    started = time.monotonic()
    beside = request.out.absolute().with_name(f".{request.out.name}.{os.getpid()}")
    _clear(request.out)
    try:
        beside.mkdir(parents=True)
        made = make_arms(
            Work(beside, request.out.absolute(), backbone, captions, recipe, tower, request.arms, numbers),
            console,
        )
        record = {"format": FORMAT, "settings": settings, **made}
        (beside / RECORD).write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        request.out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(beside, request.out)
    except KeyboardInterrupt:
        raise XtremexError(
            f"stopped by you: {request.out} was not written", "run the same command to start again"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    print_scores(record)
    console.print(f"done in {duration(time.monotonic() - started)}", highlight=False)
    return request.out


def _clear(out: Path) -> None:
    """Remove what earlier runs left that were killed; a running one's folder bears its living process's number."""
    for folder in out.absolute().parent.glob(f".{out.name}.*"):
        number = folder.suffix.removeprefix(".")
        if number.isdigit() and not Path(f"/proc/{number}").exists() and Path("/proc/self").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _backbone(request: Request) -> Backbone:
    """The encoder by its name in the catalogue, from another place if one is named; or any by its adapter."""
    name, _, _ = request.backbone.partition("@")
    changes: dict[str, Any] = {"options": dict(map(_option, request.options)), "frozen": list(request.freeze)}
    if name in catalogue.backbones():
        found = catalogue.get(request.backbone)
        if request.checkpoint:
            found = replace(found, checkpoint=request.checkpoint, revision=None)
        if request.revision:
            found = replace(found, revision=request.revision)
        options = {**found.options, **changes["options"]}
        found = replace(found, options=options, frozen=(*found.frozen, *request.freeze))
        catalogue.check_loadable(found)
        return found
    if name not in adapters.names():
        raise unknown("backbone or adapter", name, [*catalogue.backbones(), *adapters.names()])
    if not request.checkpoint:
        raise SuiteError(
            f"`{name}` is an adapter, and no checkpoint was named",
            f"xtremex ground {name} --checkpoint ID_OR_FOLDER --captions {request.captions} --out {request.out}",
        )
    table = {"adapter": name, "checkpoint": request.checkpoint, **changes}
    own = Path(request.checkpoint).name or name
    return parse_backbone(
        own, table | ({"revision": request.revision} if request.revision else {}), "command line"
    )


def _option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SuiteError(f"--option {text}: no KEY=VALUE", '--option text_prefix="query: "')
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _recipe(request: Request, captions: CaptionSet) -> tuple[Recipe, str | None]:
    """The recipe (of any arm), and the specification of frozen eyes."""
    network = network_of(request.tower)
    own = {field.name for field in fields(Recipe)} & {field.name for field in fields(Request)} - {"tower"}
    chosen: dict[str, Any] = {name: getattr(request, name) for name in own}
    kind, _, rest = request.tower.partition(":")
    name, _, _ = rest.partition("@")
    # a folder is known by its content, wherever it lies
    named = kind if Path(name).expanduser().is_dir() else f"{kind}:{name}"
    chosen |= {"objective": OBJECTIVES[0], "tower": network or named}
    if isinstance(captions, OpenMoji):
        return GroundingConfig(**chosen, languages=captions.languages), None if network else request.tower
    return Recipe(**chosen), None if network else request.tower


def _settings(
    request: Request, backbone: Backbone, captions: CaptionSet, recipe: Recipe, numbers: Numerics
) -> dict[str, Any]:
    """All that decides what is written, as JSON values."""
    said = asdict(recipe)
    del said["objective"]
    return {
        "backbone": {"name": backbone.name, **catalogue.identity(backbone)},
        "captions": {
            "set": request.captions.partition(":")[0],
            "fingerprint": captions.fingerprint(),
            "languages": list(captions.languages),
        },
        "recipe": json.loads(json.dumps(said)),
        "tower": _eyes_content(request.tower),
        "arms": list(request.arms),
        "device": numbers.device,
        "precision": numbers.precision,
    }


def _eyes_content(spec: str) -> str:
    """Digest of the files of frozen eyes that lie in a folder, else the specification, which pins them as it can."""
    for place in (spec.rpartition("@")[2], spec.partition(":")[2]):
        if Path(place).expanduser().is_dir():
            return catalogue.identity(Backbone(name="tower", adapter="open_clip", checkpoint=place))[
                "content"
            ]
    return spec


def _record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}")
        return record
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SuiteError(
            f"{folder} exists and is no folder that this version of `xtremex ground` wrote ({error})",
            "choose another --out; nothing is overwritten",
        ) from error


def _is_made(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether the folder holds just this; ``SuiteError`` where it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    made = _record(folder)["settings"]
    differing = _differences(made, settings)
    if differing:
        raise SuiteError(
            f"{folder} was made with other settings: {'; '.join(differing[:4])}",
            "choose another --out, or move it away; nothing is overwritten",
        )
    return True


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [
            line
            for key in keys
            for line in _differences(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if one == other else [f"{name} is {json.dumps(one)} there and {json.dumps(other)} here"]
