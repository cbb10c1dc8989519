"""A registry is a table of strings plus entry points, materialised on first use.

Built-in names live in the code as ``"name": "module:object"``; third parties add theirs through an entry-point
group. Nothing is imported until a name is asked for, nothing is registered by an import side effect, and two
different objects under one name are an error.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import SuiteError, unknown

__all__ = ["Described", "Registry", "adapters"]


@dataclass(frozen=True)
class Described:
    """Of a class: the first line of its docstring, and the keywords of its ``load`` besides ``revision``."""

    loads: str = ""
    options: tuple[str, ...] = ()


class Registry:
    """Names -> objects, found in ``builtin`` (``"module:object"`` strings) and in the entry points of ``group``."""

    def __init__(self, what: str, group: str, builtin: Mapping[str, str]) -> None:
        self.what = what
        self.group = group
        self._builtin = dict(builtin)

    @cached_property
    def _table(self) -> dict[str, EntryPoint]:
        table = {name: EntryPoint(name, target, self.group) for name, target in self._builtin.items()}
        for point in entry_points(group=self.group):
            known = table.get(point.name)
            if known is not None and known.value != point.value:
                raise SuiteError(
                    f"two objects claim the {self.what} name `{point.name}`: `{known.value}` and `{point.value}`",
                    f"uninstall one of the packages, or rename its entry point in group `{self.group}`",
                )
            table[point.name] = point
        return table

    def names(self) -> list[str]:
        return sorted(self._table)

    def origin(self, name: str) -> str:
        """Where ``name`` comes from: ``"module:object"``, with distribution and version if a third party's."""
        point = self._entry(name)
        return f"{point.value} ({point.dist.name} {point.dist.version})" if point.dist else point.value

    def get(self, name: str) -> Any:
        """Import and return the object behind ``name``; raises ``UnknownName`` with its neighbours."""
        point = self._entry(name)
        module, _, attribute = point.value.partition(":")
        package = __name__.rsplit(".", 2)[0]
        loaded = import_module(module, package) if module.startswith(".") else import_module(module)
        return getattr(loaded, attribute) if attribute else loaded

    def described(self, name: str) -> Described:
        """What the source of the class ``name`` says of it, read without importing it or what it needs.

        Raises:
            UnknownName: no such name; carries its neighbours.
        """
        module, _, attribute = self._entry(name).value.partition(":")
        package = __name__.rsplit(".", 2)[0]
        try:
            spec = find_spec(module, package) if module.startswith(".") else find_spec(module)
            source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
            tree = ast.parse(source)
        except (ImportError, OSError, ValueError, SyntaxError):
            return Described()  # listed all the same: whoever asks for the object gets the reason
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == attribute:
                first = (ast.get_docstring(node) or "").partition("\n")[0].strip()
                loads = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "load"]
                options = [a.arg for load in loads for a in load.args.kwonlyargs if a.arg != "revision"]
                return Described(first.rstrip("."), tuple(options))
        return Described()

    def _entry(self, name: str) -> EntryPoint:
        try:
            return self._table[name]
        except KeyError:
            raise unknown(self.what, name, self._table) from None


adapters = Registry(
    "adapter",
    "xtremex.adapters",
    {
        "muse": ".adapters.muse:MuseEncoder",
        "huggingface": ".adapters.huggingface:HuggingFaceEncoder",
        "open_clip": ".adapters.open_clip:OpenClipEncoder",
        "mclip": ".adapters.mclip:MClipEncoder",
        "sentence_transformers": ".adapters.sentence_transformers:SentenceTransformersEncoder",
    },
)
