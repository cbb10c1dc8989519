"""Typed at the door: a TOML table becomes a frozen dataclass once; after that there are no dictionaries of options.

Unknown keys, missing keys and values of the wrong type are ``SuiteError`` naming the file, the key and the nearest
valid names.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import SuiteError, nearest

__all__ = ["build", "read_toml"]

T = TypeVar("T")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file; a missing, unreadable or malformed file is a ``SuiteError`` naming it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: cannot be read: {error}", "give the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path}: not valid TOML: {error}", "mend the line that the message names") from None


def build(cls: type[T], table: Any, where: str) -> T:
    """Make the dataclass ``cls`` from a TOML table. ``where`` is "file" or "file: key", the place that messages name."""
    if not isinstance(table, Mapping):
        raise SuiteError(f"{where}: expected a table, found `{table!r}`")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise SuiteError(f"{where}: unknown key `{key}`", nearest(key, fields))
    hints = get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = convert(hints[name], table[name], _inside(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SuiteError(f"{where}: the key `{name}` is missing", f"known: {', '.join(fields)}")
    return cls(**values)


def convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as the annotated type ``hint``: scalars, unions, ``Literal``, tuples, dicts, dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _one_of([a for a in arguments if a is not type(None)], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise SuiteError(f"{where}: unknown value `{value}`", nearest(str(value), map(str, arguments)))
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise SuiteError(f"{where}: expected a list, found `{value!r}`")
        return tuple(convert(arguments[0], item, _item(where, i, item)) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise SuiteError(f"{where}: expected a table, found `{value!r}`")
        return {key: convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise SuiteError(f"{where}: expected {hint.__name__}, found `{value!r}`")
    return value


def _inside(where: str, key: str) -> str:
    """The place of a key: ``file: key``, then ``file: key.key``."""
    return f"{where}.{key}" if ": " in where else f"{where}: {key}"


def _item(where: str, index: int, item: Any) -> str:
    """The place of a list's item: by its name where it is a table that has one (``file: pairs.a``), else ``[index]``."""
    name = item.get("name") if isinstance(item, Mapping) else None
    return f"{where}.{name}" if isinstance(name, str) else f"{where}[{index}]"


def _one_of(hints: list[Any], value: Any, where: str) -> Any:
    """``value`` as the first of the types of a union that it fits (TOML has no null, so None is none of them)."""
    if len(hints) == 1:
        return convert(hints[0], value, where)
    for hint in hints:
        try:
            return convert(hint, value, where)
        except SuiteError:
            continue
    words = [str(word) for hint in hints if get_origin(hint) is typing.Literal for word in get_args(hint)]
    types_ = [hint.__name__ for hint in hints if get_origin(hint) is not typing.Literal]
    raise SuiteError(
        f"{where}: expected {', '.join(f'`{word}`' for word in words)}{' or ' if words else ''}{' or '.join(types_)}, "
        f"found `{value!r}`",
        nearest(str(value), words) if words else "",
    )
