"""Which files make a complete checkpoint for each adapter: what ``xtremex fetch`` brings and looks for. Loads no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, SuiteError

__all__ = [
    "LAYOUTS",
    "PICKED",
    "SKIPPED",
    "Layout",
    "check_pinned",
    "lacking",
    "readable",
    "unpickled",
    "wanted",
]

COMMIT = re.compile(r"[0-9a-f]{40}")
MODULE = re.compile(r"\d+_\w+")
"""Folder of one module of a stack, as sentence-transformers names them: ``2_Dense``."""

PICKED = ("*.json", "*.model", "*.txt")
"""Files of a model repository besides its weights: tokenizer and configuration. Adapters ask for the same as
``xtremex fetch``, since the hub's client would look for anything more on the network."""
SKIPPED = ("onnx/*", "openvino/*", "*/*.safetensors.index.json.*", "flax_model*", "tf_model*")

INDEX = "model.safetensors.index.json"
PARTS = "model-*-of-*.safetensors"
PROCESSOR = "processor_config.json"
TOKENIZERS = (
    "tokenizer.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
)
"""Files of which any one is enough for transformers to build a fast tokenizer."""


@dataclass(frozen=True)
class Layout:
    """The files of a checkpoint at the top of its repository, of each kind any one."""

    description: tuple[str, ...] = ("config.json",)
    """Files that describe the network."""
    weights: tuple[str, ...] = ("model.safetensors",)
    """Weights as safetensors, the first that is there; an index stands for the parts that it lists."""
    pickled: Mapping[str, str] = field(default_factory=lambda: {"pytorch_model.bin": "model.safetensors"})
    """Pickled weights, which no adapter reads -> the file of ``weights`` that a conversion makes of them."""

    nested: tuple[str, ...] = ()
    """Glob patterns of weights that lie in folders of their own."""
    pictures: tuple[str, ...] = ()
    """Files of which any one tells how pictures are prepared, for a backbone whose image tower is scored too."""

    def patterns(self, names: Iterable[str]) -> tuple[str, ...]:
        """Glob patterns of the weights to fetch from a repository with these files."""
        there = set(names)
        first = [name for name in self.weights if name in there][:1]
        return (*first, *([PARTS] if first == [INDEX] else ()), *self.nested)


LAYOUTS = {
    "huggingface": Layout(
        weights=("model.safetensors", INDEX), pictures=("preprocessor_config.json", PROCESSOR)
    ),
    "mclip": Layout(),
    # the first is open_clip's name for its weights (`open_clip.constants`); its loader takes the second too
    "open_clip": Layout(
        description=("open_clip_config.json",),
        weights=("open_clip_model.safetensors", "model.safetensors"),
        pickled={"open_clip_pytorch_model.bin": "open_clip_model.safetensors"},
    ),
    "sentence_transformers": Layout(
        description=("modules.json",),
        weights=("model.safetensors", INDEX),
        nested=("*/model.safetensors",),
    ),
}
"""The built-in adapters that read checkpoints. Of a third party's nothing is known but that safetensors are needed."""


def readable(adapter: str, names: Iterable[str]) -> bool:
    """Whether a repository with these files holds weights that the adapter reads."""
    known = LAYOUTS.get(adapter)
    if known is None:
        return any(name.endswith(".safetensors") for name in names)
    return not set(known.weights).isdisjoint(names)


def wanted(adapter: str, options: Mapping[str, Any], names: Iterable[str]) -> tuple[str, ...]:
    """Glob patterns of what to fetch from a repository with these files besides ``PICKED``: the weights that the adapter
    reads, and Python code exactly where the backbone's options let it run (the adapter then asks for it)."""
    known = LAYOUTS.get(adapter)
    weights = known.patterns(names) if known else ("*.safetensors",)
    return (*weights, *(("*.py",) if options.get("trust_remote_code") else ()))


def unpickled(adapter: str, names: Iterable[str]) -> dict[str, str]:
    """Pickled weights among ``names`` -> the safetensors file to make of each, where that is not there already.

    Of a stack of modules, those in the folder of a module count too (``2_Dense/pytorch_model.bin``).
    """
    known, there = LAYOUTS.get(adapter), set(names)
    if known is None:
        return {}
    top = {} if readable(adapter, there) else known.pickled
    found = {name: target for name, target in top.items() if name in there}
    for name in sorted(there):
        folder, _, file = name.rpartition("/")
        target = f"{folder}/{known.pickled.get(file, '')}"
        nested = any(fnmatchcase(target, pattern) for pattern in known.nested)
        if nested and MODULE.fullmatch(folder) and target not in there:
            found[name] = target
    return found


def lacking(adapter: str, options: Mapping[str, Any], folder: Path, *, images: bool = False) -> list[str]:
    """What the checkpoint in ``folder`` needs and does not have, e.g. ``["model.safetensors", "a tokenizer"]``.

    Args:
        adapter: the adapter's name.
        options: the backbone's options; ``model`` of open_clip stands for the description.
        folder: local folder, or snapshot of the hub's cache.
        images: whether the checkpoint's image tower is wanted too.
    """
    known = LAYOUTS.get(adapter)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if known is None:
        return [] if readable(adapter, names) else ["safetensors"]
    missing = []
    if not (adapter == "open_clip" and options.get("model")) and set(known.description).isdisjoint(names):
        missing.append(" or ".join(known.description))
    if not readable(adapter, names):
        missing.append(" or ".join(known.weights))
    elif known.weights[0] not in names and (folder / INDEX).is_file():
        missing += sorted(_parts(folder / INDEX).difference(names))
    if adapter == "sentence_transformers" and "modules.json" in names:
        missing += sorted(_of_modules(folder / "modules.json").difference(names))
    if set(TOKENIZERS).isdisjoint(names) and (adapter != "open_clip" or _has_tokenizer(folder, options)):
        missing.append("a tokenizer")
    if options.get("trust_remote_code") and "config.json" in names:
        missing += sorted(_code(folder / "config.json").difference(names))
    if images and known.pictures and not any(_prepares(folder / name) for name in known.pictures):
        missing.append(known.pictures[0])
    return missing


def _parts(index: Path) -> set[str]:
    return set(_read(index)["weight_map"].values())


def _of_modules(table: Path) -> set[str]:
    """The weights of the modules behind the transformer."""
    rows = _read(table)
    weighted = (row["path"] for row in rows if row["type"].endswith((".Dense", ".LayerNorm")))
    return {f"{path}/model.safetensors" for path in weighted}


def _code(config: Path) -> set[str]:
    """The files with the repository's own classes; those of another repository are named with it (``owner/name--x.py``)."""
    classes = _read(config).get("auto_map", {}).values()
    named = (name for entry in classes for name in (entry if isinstance(entry, list) else [entry]) if name)
    return {f"{name.rpartition('.')[0]}.py" for name in named}


def _prepares(path: Path) -> bool:
    """Whether an image processor is described there; newer files of the whole processor hold it under a key."""
    return path.is_file() and (path.name != PROCESSOR or "image_processor" in _read(path))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _has_tokenizer(folder: Path, options: Mapping[str, Any]) -> bool:
    """Whether an open_clip tower has a tokenizer of its own rather than open_clip's BPE."""
    described = folder / "open_clip_config.json"
    if described.is_file():
        config = _read(described).get("model_cfg", {})
    else:
        package = find_spec("open_clip")
        places = (package.submodule_search_locations if package else None) or []
        shipped = [Path(place) / "model_configs" / f"{options.get('model')}.json" for place in places]
        config = next((_read(p) for p in shipped if p.is_file()), {})
    return bool(config.get("text_cfg", {}).get("hf_tokenizer_name"))


def check_pinned(checkpoint: str, revision: str | None, commit: str) -> None:
    """Refuse a hub id without a revision (``SuiteError``, naming the ``commit`` of today) and a revision that led to no
    commit (``ArtifactError``)."""
    if revision is None:
        raise SuiteError(
            f"hub id `{checkpoint}` has no revision, so it could change under a running study",
            f'pin it: revision = "{commit}" (what `main` is today)',
        )
    if not COMMIT.fullmatch(commit):
        raise ArtifactError(
            f"revision `{revision}` of `{checkpoint}` does not lead to a commit",
            "delete the cache entry and download again",
        )
