"""The modules behind the transformer of a sentence-transformers checkpoint, with the library's own classes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ArtifactError, MissingDependency, SuiteError
from .checkpoints import read_json
from .describe import first_line
from .layouts import LAYOUTS

__all__ = ["CONFIG", "MODULES", "SETTINGS", "Stack", "read_stack"]

(MODULES,) = LAYOUTS["sentence_transformers"].description
WEIGHTS = LAYOUTS["sentence_transformers"].weights[0]
CONFIG = "config_sentence_transformers.json"
SETTINGS = "sentence_bert_config.json"
VECTOR = "sentence_embedding"
"""The library's name of the sentence vector, which the modules read and write."""
SUPPORTED = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
WEIGHTED = ("Dense", "LayerNorm")


@dataclass(frozen=True)
class Stack:
    """A checkpoint's ``modules.json``, read."""

    table: list[dict[str, Any]]
    """The file's own rows: ``idx``, ``name``, ``path`` and ``type`` of each module, the transformer first."""
    config: dict[str, Any]
    """``config_sentence_transformers.json``: prompts and the like."""
    settings: dict[str, Any]
    """Of the transformer, as far as they are read: ``max_seq_length`` and ``do_lower_case``."""
    modules: nn.ModuleList
    """The others, with their weights: first the pooling."""

    @property
    def prompt(self) -> str:
        """What the library puts before every text unless told otherwise."""
        name = self.config.get("default_prompt_name")
        return (self.config.get("prompts") or {}).get(name) or ""

    @property
    def folders(self) -> list[str]:
        """Where the modules lie, the transformer first (and mostly at the top: ``""``)."""
        return [row.get("path", "") for row in self.table]


def read_stack(folder: Path, checkpoint: str) -> Stack:
    """The modules of the checkpoint in ``folder`` but for its transformer.

    Raises:
        SuiteError: a stack without one transformer and one pooling, modules of other kinds or a stranger's.
        ArtifactError: pickled, missing, unexpected or misshapen weights of a module.
        MissingDependency: sentence-transformers is not installed.
    """
    try:
        table = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        names = [row["type"] for row in table]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ArtifactError(
            f"{folder / MODULES} is no list of modules: {first_line(error)}", "download the checkpoint again"
        ) from error
    kinds = [_kind(name, checkpoint) for name in names]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise _unsupported(checkpoint, f"begins with {', '.join(kinds[:2])}, not with Transformer, Pooling")
    others = [kind for kind in kinds[2:] if kind not in SUPPORTED[1:]]
    if others:
        raise _unsupported(checkpoint, f"has {', '.join(others)} behind its pooling")
    with _installed():
        from sentence_transformers.sentence_transformer import modules
    described = modules.Transformer.load_config(
        str(folder), subfolder=table[0].get("path", ""), local_files_only=True
    )
    task = described.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise _unsupported(checkpoint, f"uses its transformer for {task}")
    places = [row.get("path", "") for row in table[1:]]
    built = [
        _module(getattr(modules, kind), folder, place, checkpoint)
        for kind, place in zip(kinds[1:], places, strict=True)
    ]
    if not isinstance(built[0].pooling_mode, str):
        raise _unsupported(checkpoint, f"joins several poolings ({', '.join(built[0].pooling_mode)})")
    if not built[0].include_prompt:
        raise _unsupported(checkpoint, "leaves its prompt out of the pooling")
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    settings = {name: described[name] for name in ("max_seq_length", "do_lower_case") if described.get(name)}
    return Stack(table, config, settings, nn.ModuleList(built))


def _module(kind: Any, folder: Path, place: str, checkpoint: str) -> Any:
    """One module with its weights, which must be safetensors: the library would open a pickle where there are none."""
    if kind.__name__ in WEIGHTED and not (folder / place / WEIGHTS).is_file():
        raise ArtifactError(
            f"`{place}` of `{checkpoint}` has no {WEIGHTS}",
            "pickled weights (.bin) can run code when they are opened and are not read; take a revision that has "
            "safetensors, or let the library write a folder that has: SentenceTransformer(...).save(FOLDER)",
        )
    if kind.__name__ == "Dense":
        settings = read_json(folder / place / "config.json")
        activation = settings.get("activation_function", "torch.nn.modules.activation.Tanh")
        if not activation.startswith("torch."):
            # the library takes Tanh instead, with no more than a warning
            raise _unsupported(checkpoint, f"has an activation of a stranger's: {activation}")
        if {settings.get(f"module_{end}_name") or VECTOR for end in ("input", "output")} != {VECTOR}:
            raise _unsupported(checkpoint, f"has a dense layer on something else than the vector: {place}")
    from safetensors import SafetensorError

    try:
        return kind.load(str(folder), subfolder=place, local_files_only=True)
    except (RuntimeError, ValueError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split()) or first_line(error)
        raise ArtifactError(
            f"`{place}` of `{checkpoint}` does not hold exactly what its {kind.__name__} needs: {reason}",
            "download the checkpoint again; another configuration belongs to these weights",
        ) from error


def _kind(name: str, checkpoint: str) -> str:
    package, _, kind = name.rpartition(".")
    if package.split(".")[0] != "sentence_transformers":
        raise _unsupported(checkpoint, f"has a module of a stranger's, whose code would have to run: {name}")
    return kind


def _unsupported(checkpoint: str, what: str) -> SuiteError:
    return SuiteError(
        f"the stack of `{checkpoint}` {what}",
        f"stacks of Transformer and {', '.join(SUPPORTED)} are read; others need an adapter of their own "
        "(docs/add-a-backbone.md)",
    )


@contextmanager
def _installed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        raise MissingDependency(
            "the adapter `sentence_transformers` needs `sentence-transformers`, which is not installed",
            'pip install "xtremex[sentence]"',
        ) from None
