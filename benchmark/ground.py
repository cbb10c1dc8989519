"""`xtremex ground`: arms of one ancestor from any encoder and any caption set, as folders that need no xtremex to be read.

The folder is written beside its place, under a lock, and renamed when it is whole: it exists complete, or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from ..adapters.registry import adapters
from ..errors import ArtifactError, SuiteError, XtremexError, unknown
from ..models import catalogue
from ..models.captions import CaptionSet, OpenMoji
from ..models.catalogue import Backbone, parse_backbone
from ..models.recipe import OBJECTIVES, GroundingConfig, Recipe, frozen_tower, network_of
from .environment import numerics
from .ground_captions import captions_of
from .ground_files import print_scores
from .option import parse_option
from .plan import Numerics
from .progress import duration
from .store import file_digest

__all__ = ["Request", "ground"]

FORMAT = 2
RECORD = "grounding.json"
EDITED = ("backbones.toml", "open_clip_config.json")
"""Files that users paste from, and change when they move the folder: they must be there, whatever they say."""

OF_SCRATCH = ("image_size", "dim")
"""Fields of a recipe that a frozen tower decides itself."""


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
    something else, or whose files are missing or changed. Whatever stops it, no half-written folder is left.
    """
    out = request.out.resolve()
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
    if _is_made(out, settings):
        console.print(f"{request.out}: made earlier with the same settings, nothing to do", highlight=False)
        print_scores(_record(out))
        return request.out
    _check_place(request.out)
    from .ground_arms import Work, make_arms

    started = time.monotonic()
    with _unfinished(out) as beside:
        work = Work(beside, out, backbone, captions, recipe, tower, tuple(settings["arms"]), numbers)
        record = {"format": FORMAT, "backbone": backbone.name, "settings": settings}
        record |= make_arms(work, console)
        record["files"] = {
            path.relative_to(beside).as_posix(): file_digest(path)
            for path in sorted(beside.rglob("*"))
            if path.is_file()
        }
        (beside / RECORD).write_text(
            json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        _put(beside, out)
    print_scores(record)
    console.print(f"done in {duration(time.monotonic() - started)}", highlight=False)
    return request.out


def _check_place(out: Path) -> None:
    """Refuse before anything is trained what no finished folder can be put in the place of."""
    place = out.resolve()
    if Path.cwd().is_relative_to(place) or os.path.ismount(place):
        raise SuiteError(
            f"--out {out}: a folder that is in use cannot be replaced", "name one that does not exist yet"
        )


@contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """An empty folder beside ``out``, under a lock; gone afterwards, whatever happens. SIGTERM stops as Ctrl-C does."""
    out.parent.mkdir(parents=True, exist_ok=True)
    beside, named = out.with_name(f".{out.name}.unfinished"), out.with_name(f".{out.name}.lock")
    lock = FileLock(named)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise XtremexError(
            f"another process is writing {out}",
            "wait until it is done: the same command then finds the arms made; or choose another --out",
        ) from None
    try:
        with _terminable():
            shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
            beside.mkdir()
            yield beside
    except KeyboardInterrupt:
        raise XtremexError(
            f"stopped by you: {out} was not written", "run the same command to start again"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):
            named.unlink()  # before it is released: whoever comes next makes a lock of their own
        lock.release()


@contextmanager
def _terminable() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _put(beside: Path, out: Path) -> None:
    """Rename what is finished; where something has come into its way meanwhile, it stays under another name."""
    try:
        os.replace(beside, out)
    except OSError as error:
        kept = out.with_name(f"{out.name}.{os.getpid()}")
        os.replace(beside, kept)
        raise XtremexError(
            f"{out} cannot be written ({error.strerror}); the finished arms are in {kept}",
            f"make room, then: mv {kept} {out}",
        ) from error


def _backbone(request: Request) -> Backbone:
    """The encoder by its name in the catalogue, from another place if one is named; or any by its adapter."""
    name, _, _ = request.backbone.partition("@")
    changes: dict[str, Any] = {
        "options": dict(map(parse_option, request.options)),
        "frozen": list(request.freeze),
    }
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
    own = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(request.checkpoint).resolve().name).strip("-._") or name
    return parse_backbone(
        own, table | ({"revision": request.revision} if request.revision else {}), "command line"
    )


def _recipe(request: Request, captions: CaptionSet) -> tuple[Recipe, str | None]:
    """The recipe (of any arm), and the specification of frozen eyes."""
    network = network_of(request.tower)
    own = {field.name for field in fields(Recipe)} & {field.name for field in fields(Request)} - {"tower"}
    chosen: dict[str, Any] = {name: getattr(request, name) for name in own}
    chosen |= {"objective": OBJECTIVES[0], "tower": network or _named(request.tower)}
    if network is None:  # it has its own size and space
        chosen = {name: value for name, value in chosen.items() if name not in OF_SCRATCH}
    if isinstance(captions, OpenMoji):
        return GroundingConfig(**chosen, languages=captions.languages), None if network else request.tower
    return Recipe(**chosen), None if network else request.tower


def _named(spec: str) -> str:
    """Frozen eyes by the name that is the same wherever they lie; a checkpoint folder is known by its content only."""
    eyes = frozen_tower(spec)
    return eyes.kind if eyes.kind == "open_clip" and eyes.folder else f"{eyes.kind}:{eyes.name}"


def _settings(
    request: Request, backbone: Backbone, captions: CaptionSet, recipe: Recipe, numbers: Numerics
) -> dict[str, Any]:
    """All that decides what is written, as JSON values."""
    said = asdict(recipe)
    del said["objective"]
    if network_of(request.tower) is None:
        said = {name: value for name, value in said.items() if name not in OF_SCRATCH}
    return {
        "backbone": catalogue.identity(backbone),
        "captions": {
            "set": request.captions.partition(":")[0],
            "fingerprint": captions.fingerprint(),
            "languages": list(captions.languages),
        },
        "recipe": json.loads(json.dumps(said)),
        "tower": _eyes_content(request.tower),
        "arms": [arm for arm in OBJECTIVES if arm in request.arms],
        "device": numbers.device,
        "precision": numbers.precision,
    }


def _eyes_content(spec: str) -> str:
    """Digest of the files of frozen eyes that lie in a folder, else the specification, which pins them as it can."""
    if network := network_of(spec):
        return f"scratch:{network}"
    folder = frozen_tower(spec).folder
    if folder is None or not folder.is_dir():
        return spec
    return catalogue.identity(Backbone(name="tower", adapter="open_clip", checkpoint=str(folder)))["content"]


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
    record = _record(folder)
    differing = _differences(record["settings"], settings)
    if differing:
        raise SuiteError(
            f"{folder} was made with other settings: {'; '.join(differing[:4])}",
            "choose another --out, or move it away; nothing is overwritten",
        )
    _check_whole(folder, record["files"])
    return True


def _check_whole(folder: Path, digests: dict[str, str]) -> None:
    missing = [name for name in digests if not (folder / name).is_file()]
    changed = [
        name
        for name, digest in digests.items()
        if name not in missing and Path(name).name not in EDITED and file_digest(folder / name) != digest
    ]
    if missing or changed:
        what = ((missing, "missing"), (changed, "changed"))
        said = "; ".join(f"{how}: {', '.join(names[:5])}" for names, how in what if names)
        raise ArtifactError(
            f"{folder} was made with these settings, but its files are not as they were written: {said}",
            "remove the folder or move it away, then run the same command again",
        )


def _differences(one: Any, other: Any, name: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted(one.keys() | other.keys())
        return [
            line
            for key in keys
            for line in _differences(one.get(key), other.get(key), f"{name}.{key}".lstrip("."))
        ]
    return [] if one == other else [f"{name} is {json.dumps(one)} there and {json.dumps(other)} here"]
