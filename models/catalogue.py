"""The catalogue of backbones: named, pinned encoders. Importing this module loads no torch.

Built-in entries live in ``backbones.toml`` beside this file. A third party adds its own through the entry-point group
``xtremex.backbones``: the value names an importable package, whose folder holds a ``backbones.toml`` of the same form.
A suite defines further ones inline. One entry::

    [my-encoder]
    adapter = "huggingface"           # a name of `xtremex list adapters`
    checkpoint = "owner/name"         # what the adapter's load takes: hub id, folder, package
    revision = "40 hex digits"        # in a suite; a catalogue may name a branch, which `xtremex fetch` pins
    licence = "MIT"
    ancestor = "xlm-roberta-base"     # whose weights it started from: arms of a pair share it
    objective = "text-contrastive"
    dose = "none"                     # how many images its training saw
    images = false                    # whether its checkpoint brings an image tower that is to be scored
    parameters = 277_500_000          # of the text encoder, token embeddings included
    embedding_parameters = 192_000_000
    layers = 12
    hidden_size = 768
    remote_code = false               # whether its repository's own Python code must run
    unloadable = ""                   # why no adapter can load it yet; such an entry can be planned, not run
    frozen = ["model.embeddings"]     # prefixes of parameter names that are never trained
    options = { pooling = "cls" }     # further keywords of the adapter's load
    facts = { max_length = 512, pooling = "cls", dropout = 0.1 }  # what its `EncoderInfo` will say; for plans
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ..adapters import adapters
from ..door import build
from ..errors import MissingDependency, SuiteError, nearest, unknown

if TYPE_CHECKING:
    from ..adapters.base import Encoder
    from .tower import ImageTower

__all__ = [
    "Backbone",
    "Facts",
    "backbones",
    "check_loadable",
    "collect",
    "get",
    "identity",
    "load",
    "load_tower",
    "parse_backbone",
    "weights_digest",
]

GROUP = "xtremex.backbones"
FILE = "backbones.toml"
WITH_TOWER = {
    "open_clip": (".clip_tower", "ClipTower"),
    "huggingface": (".transformers_tower", "TransformersTower"),
}
"""Adapters of checkpoints that may bring an image tower, and the module and class that read it."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
D = TypeVar("D", bound="Declared")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the loaded encoder says about itself (:class:`EncoderInfo`), known before it is loaded; None: not known.

    Plans settle with it what the arms of a pair have in common. A statement that the encoder contradicts is an error.
    """

    max_length: int | None = None
    max_length_trained: int | None = None
    pair_encoding: Literal["joint", "separate"] | None = None
    pooling: str | None = None
    pooled_unit_norm: bool | None = None
    text_prefix: str | None = None
    dropout: float | None = None
    causal: bool | None = None
    attends_padding: bool | None = None
    pad_to: int | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The keys of a backbone's table."""

    adapter: str
    checkpoint: str
    revision: str | None = None
    licence: str | None = None
    """As its repository or model card states it; None where that was not confirmed."""
    ancestor: str | None = None
    """Name of the backbone whose weights started this one; the arms of a pair have the same."""
    objective: str | None = None
    dose: str = ""
    """Exposure to images, in words a table can hold: ``none``, ``13 B image-text pairs``; empty where unknown."""
    images: bool = False
    """Whether the checkpoint holds an image tower of its own, so that image-text retrieval can be scored."""
    parameters: int = 0
    """Weights of the text encoder with its token embeddings, without projection; 0 where unknown."""
    embedding_parameters: int = 0
    """Of these, the token embeddings; 0 where unknown."""
    layers: int = 0
    hidden_size: int = 0
    remote_code: bool = False
    """Whether the repository's own Python code has to run (``trust_remote_code``)."""
    unloadable: str = ""
    """Why no adapter can load it yet, in a few words (``an encoder-decoder``); empty where one can."""
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    """Explicit further keywords of the adapter's ``load``."""
    facts: Facts = Facts()
    frozen: tuple[str, ...] = ()
    """Prefixes of parameter names that get ``requires_grad = False``."""


@dataclass(frozen=True, kw_only=True)
class Backbone(Entry):
    """A named encoder: which adapter loads what, and what a reader must know about it."""

    name: str
    package: str = field(default="", compare=False)
    """Distribution that declares the backbone; empty when a suite does."""
    where: str = field(default="", compare=False)
    """File and table of the declaration, for error messages."""


def parse_backbone(name: str, entry: Mapping[str, Any], where: str, *, package: str = "") -> Backbone:
    """A ``Backbone`` from a TOML table.

    Args:
        name: the backbone's name, the last part of the table's.
        entry: the table's keys and values.
        where: file and table, for messages (``"suite.toml: backbones.mine"``).
        package: distribution that the table comes from.

    Raises:
        SuiteError: an unknown or missing key, a value of another type, a name unfit for a file name.
        UnknownName: no such adapter.
    """
    parsed = build(Entry, entry, where)
    for key in ("adapter", "checkpoint"):
        if not getattr(parsed, key):
            raise SuiteError(f"{where}: no `{key}`", "a backbone needs at least `adapter` and `checkpoint`")
    if "" in parsed.frozen:
        raise SuiteError(
            f"{where}.frozen: an empty prefix freezes everything", "name parameters, or leave it out"
        )
    if parsed.embedding_parameters > parsed.parameters:
        raise SuiteError(
            f"{where}: {parsed.embedding_parameters} embeddings are more than all {parsed.parameters} parameters",
            "`parameters` counts the token embeddings too",
        )
    if not NAME.fullmatch(name):
        raise SuiteError(
            f"{where}: `{name}` cannot be a backbone's name",
            "use letters, digits, `.`, `_` and `-`, a letter or digit first: names become file names",
        )
    if parsed.adapter not in adapters.names():
        raise unknown("adapter", parsed.adapter, adapters.names(), where)
    if parsed.images and parsed.adapter not in WITH_TOWER:
        raise SuiteError(
            f"{where}.images: image towers of adapter `{parsed.adapter}` cannot be read",
            f"they can of {', '.join(WITH_TOWER)}; remove `images`, retention is then not scored",
        )
    return Backbone(**vars(parsed), name=name, package=package, where=where)


class Declared(Protocol):
    """What a catalogue holds: it knows which package declared it, and where."""

    @property
    def package(self) -> str: ...
    @property
    def where(self) -> str: ...


class Parser(Protocol[T_co]):
    def __call__(self, name: str, entry: Mapping[str, Any], where: str, *, package: str) -> T_co: ...


def collect(what: str, file: str, parse: Parser[D], *, required: bool = False) -> dict[str, D]:
    """Everything of a kind by name: the tables of ``file`` beside this module, then in the folders of installed packages.

    Args:
        what: the kind, for messages.
        file: name of the TOML files, one table an entry.
        parse: makes the entry of a table.
        required: whether a package of the entry-point group must have such a file.

    Raises:
        SuiteError: an unreadable file, two packages with one name, and what ``parse`` raises.
    """
    table: dict[str, D] = {}
    points = sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value))
    places = [(Path(__file__).parent, "xtremex")]
    places += [(_folder(point), point.dist.name if point.dist else point.value) for point in points]
    for folder, package in places:
        path = folder / file
        if not required and not path.is_file():
            continue
        for name, entry in _tables(path, package).items():
            declared = parse(name, entry, f"{path}: {name}", package=package)
            if name in table and table[name].where != declared.where:
                raise SuiteError(
                    f"two packages claim the {what} name `{name}`: `{table[name].package}` and `{package}`",
                    f"pip uninstall {package}, or rename its entry in {declared.where}",
                )
            table[name] = declared
    return table


def _tables(path: Path, package: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SuiteError(
            f"{path} of package `{package}` cannot be read: {error}", f"repair it, or pip uninstall {package}"
        ) from error


def _folder(point: EntryPoint) -> Path:
    """The folder of the package that an entry point names; a top-level package is not imported for it."""
    try:
        spec = find_spec(point.value)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SuiteError(
            f"entry point `{point.name}` of group `{GROUP}` names `{point.value}`, which is no importable package",
            f'its value must be a package that holds {FILE}: {point.name} = "the_package"',
        )
    return Path(spec.submodule_search_locations[0])


@cache
def backbones() -> dict[str, Backbone]:
    """Every known backbone by name: the built-in ones, then those of installed packages. Read once per process."""
    return collect("backbone", FILE, parse_backbone, required=True)


def get(name: str) -> Backbone:
    """The backbone called ``name``; ``"name@revision"`` pins it. Raises ``UnknownName`` with its neighbours."""
    plain, _, revision = name.partition("@")
    table = backbones()
    if plain not in table:
        raise unknown("backbone", plain, table)
    return dataclasses.replace(table[plain], revision=revision) if revision else table[plain]


def check_loadable(backbone: Backbone) -> None:
    """Raise ``SuiteError`` for a backbone that the catalogue describes and no adapter can load yet."""
    if backbone.unloadable:
        raise SuiteError(
            f"backbone `{backbone.name}` ({backbone.checkpoint}) cannot be loaded yet: {backbone.unloadable}",
            "take another of `xtremex list backbones`, or write an adapter for it (docs/add-a-backbone.md)",
        )


def load(backbone: Backbone) -> Encoder:
    """The encoder of ``backbone``: eval mode, frozen prefixes applied, ``info`` completed from the catalogue.

    Raises:
        SuiteError: no adapter can load it, an option that the adapter's ``load`` does not take, or a prefix that no
            parameter has.
        MissingDependency: a package that the adapter imports is absent.
        ArtifactError: from the adapter, about the checkpoint.
    """
    check_loadable(backbone)
    try:
        adapter = adapters.get(backbone.adapter)
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"backbone `{backbone.name}` (adapter `{backbone.adapter}`) needs `{error.name}`, which is not installed",
            'pip install "xtremex[train]"  (or `pip install "xtremex[mini]"` for the embedded suite)',
        ) from error
    _check_options(backbone, adapter)
    encoder = adapter.load(backbone.checkpoint, revision=backbone.revision, **backbone.options)
    facts = {"licence": backbone.licence, "objective": backbone.objective, "init_from": backbone.ancestor}
    encoder.info = dataclasses.replace(
        encoder.info, **{key: value for key, value in facts.items() if value is not None}
    )
    _check_facts(encoder.info, backbone)
    _freeze(encoder, backbone)
    return encoder.eval()


def load_tower(backbone: Backbone) -> ImageTower:
    """The frozen image tower that the checkpoint of a backbone with ``images`` brings; errors as of its ``load``."""
    module, name = WITH_TOWER[backbone.adapter]
    reader = getattr(import_module(module, __package__), name)
    return reader.load(backbone.checkpoint, revision=backbone.revision, **backbone.options)


def identity(backbone: Backbone) -> dict[str, Any]:
    """All that determines the encoder's weights and how they are trained, as JSON values; for a job's address.

    Needs no torch. A folder counts by the content of its files, an installed package by its version, a hub id by its
    revision, and a third party's adapter also by its own version; the name and the remarks do not count.
    """
    folder = Path(backbone.checkpoint).expanduser()
    if folder.is_dir():
        content = _folder_digest(folder)
    else:
        try:
            content = version(backbone.checkpoint)
        except (PackageNotFoundError, ValueError):
            content = ""
    return {
        "adapter": adapters.origin(backbone.adapter),
        "checkpoint": "" if folder.is_dir() else backbone.checkpoint,
        "content": content,
        "revision": backbone.revision,
        "options": dict(backbone.options),
        "frozen": sorted(backbone.frozen),
    }


def _folder_digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()}|{content}|".encode())
    return digest.hexdigest()


def _check_options(backbone: Backbone, adapter: Any) -> None:
    parameters = inspect.signature(adapter.load).parameters.values()
    allowed = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "revision"]
    for option in backbone.options:
        if option not in allowed:
            raise SuiteError(
                f"{backbone.where or backbone.name}: adapter `{backbone.adapter}` has no option `{option}`",
                nearest(option, allowed),
            )


def _check_facts(info: Any, backbone: Backbone) -> None:
    """Plans believed the catalogue; what the encoder says otherwise would give the arms of a pair unequal terms."""
    for key, stated in vars(backbone.facts).items():
        if stated is not None and stated != getattr(info, key):
            raise SuiteError(
                f"{backbone.where or backbone.name}: facts.{key} = {stated!r}, but the loaded encoder says "
                f"{getattr(info, key)!r}",
                f"declare the backbone in your suite (docs/add-a-backbone.md) with facts = {{ {key} = "
                f"{json.dumps(getattr(info, key))} }}, or correct its table",
            )


def _freeze(encoder: Any, backbone: Backbone) -> None:
    parameters = dict(encoder.named_parameters())
    for prefix in backbone.frozen:
        chosen = [parameter for name, parameter in parameters.items() if name.startswith(prefix)]
        if not chosen:
            raise SuiteError(
                f"{backbone.where or backbone.name}: `frozen` names `{prefix}`, but no parameter starts with it",
                nearest(prefix, {part for name in parameters for part in (name, name.split(".")[0])}),
            )
        for parameter in chosen:
            parameter.requires_grad_(False)


def weights_digest(encoder: Any) -> str:
    """SHA-256 (hex) over name, dtype, shape and bytes of every tensor of ``state_dict``, by name; about 1 GB/s."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
