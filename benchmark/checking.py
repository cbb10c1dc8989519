"""What the command `check` prints: the contract kit's table, what the encoder declares, and facts for the catalogue."""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from ..adapters.registry import adapters
from ..errors import SuiteError, unknown
from .option import parse_option
from .screen import console as _console
from .screen import folded, print_table

if TYPE_CHECKING:
    from ..adapters.base import Encoder, EncoderInfo
    from ..adapters.contract import CheckResult
    from ..models.catalogue import Backbone

__all__ = ["print_check"]

COLOUR = {"passed": "green", "failed": "red", "skipped": "yellow"}
SPELT = 8
"""Characters up to which a counter-example is also spelt out in code points, where it holds any that cannot be seen."""


def print_check(name: str, checkpoint: str, revision: str | None, options: Sequence[str] = ()) -> bool:
    """Load an encoder and print the contract kit's table and what it declares; True when nothing failed.

    ``options`` (``KEY=VALUE``) are further keywords of the adapter's ``load``, before those of a backbone's table.
    """
    backbone = _backbone(name, checkpoint, revision, dict(map(parse_option, options)))
    console = _console()
    if not console.is_terminal:
        encoder, results = _checked(backbone)
    else:
        with console.status(f"checking {name}"):
            encoder, results = _checked(backbone)
    _print_results(results, console)
    console.print()
    _print_declared(encoder.info, console)
    return all(result.status != "failed" for result in results)


def _backbone(name: str, checkpoint: str, revision: str | None, options: dict[str, Any]) -> Backbone:
    from ..models.catalogue import Facts, backbones, get, parse_backbone

    if name.partition("@")[0] in backbones():
        if checkpoint:
            raise SuiteError(
                f"`{name}` is a backbone, and its checkpoint is `{get(name).checkpoint}`",
                f"leave --checkpoint out, or name an adapter: {', '.join(adapters.names())}",
            )
        found = get(f"{name}@{revision}" if revision else name)
        # facts are stated of the backbone as it is in the catalogue
        return (
            dataclasses.replace(found, options=found.options | options, facts=Facts()) if options else found
        )
    if name not in adapters.names():
        raise unknown("backbone or adapter", name, [*backbones(), *adapters.names()])
    if not checkpoint:
        raise SuiteError(
            f"`{name}` is an adapter, and no checkpoint was named",
            f"xtremex check {name} --checkpoint ID_OR_FOLDER",
        )
    table = {"adapter": name, "checkpoint": checkpoint, "options": options}
    return parse_backbone(name, table | ({"revision": revision} if revision else {}), "command line")


def _checked(backbone: Backbone) -> tuple[Encoder, list[CheckResult]]:
    from ..adapters.contract import check
    from ..models.catalogue import load

    encoder = load(backbone)
    return encoder, check(encoder, again=lambda: load(backbone))


def _print_results(results: list[CheckResult], console: Console) -> None:
    table = folded("check", "result", "detail")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    apart = "\n" if console.is_terminal else "; "
    for result in results:
        detail = result.detail
        if result.example:
            detail += f"{apart}shortest text that shows it: {_spelt(result.example)}"
        table.add_row(result.name, Text(result.status, style=COLOUR[result.status]), Text(detail))
    print_table(table, console)
    counts = Counter(result.status for result in results)
    told = [f"{counts[status]} {status}" for status in COLOUR if counts[status]]
    console.print(", ".join(told), highlight=False)


def _spelt(text: str) -> str:
    seen = all(unicodedata.category(character)[0] in "LNPSZ" for character in text)
    if seen or len(text) > SPELT:
        return f"`{text}`"
    return f"`{text}` ({' '.join(f'U+{ord(character):04X}' for character in text)})"


def _print_declared(info: EncoderInfo, console: Console) -> None:
    """The confounds that a reader of a comparison must know, then those that the catalogue can state."""
    table = folded("declared", "")
    table.columns[0].no_wrap = True
    for key, value in (
        ("family", info.family),
        ("objective", info.objective),
        ("started from", info.init_from or "not stated"),
        ("states", f"{info.layers + 1} of {info.hidden_size}"),
        ("length", f"accepts {info.max_length} tokens, trained on {info.max_length_trained}"),
        ("direction", "causal: no token sees what follows it" if info.causal else "both ways"),
        ("padding", _padding(info)),
        ("pooling", info.pooling + (", unit length" if info.pooled_unit_norm else "")),
        ("pairs", info.pair_encoding),
        ("prefix", json.dumps(info.text_prefix, ensure_ascii=False) if info.text_prefix else "none"),
        ("language code", f"{info.language_code} before every text" if info.language_code else "none"),
        ("cleaning", f"left out: {info.cleaning}" if info.cleaning else "none left out"),
        ("dropout", f"{info.dropout:g}"),
        ("tokenizer", info.tokenizer_id),
        ("licence", info.licence),
        ("revision", info.revision or "none"),
    ):
        table.add_row(key, Text(value))
    print_table(table, console)
    console.print()
    console.print("for the backbone's table, so that plans know it without loading:", highlight=False)
    # in one piece, whatever the screen's width: it is there to be copied
    console.print(_facts(info), highlight=False, markup=False, soft_wrap=True)


def _padding(info: EncoderInfo) -> str:
    read = "read like text" if info.attends_padding else "not read"
    return f"{read}, always to {info.pad_to} tokens" if info.pad_to else read


def _facts(info: EncoderInfo) -> str:
    """A TOML line of what ``Facts`` can state of this encoder."""
    from ..models.catalogue import Facts

    known = {field.name: getattr(info, field.name) for field in dataclasses.fields(Facts)}
    pairs = (
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in known.items()
        if value is not None
    )
    return f"facts = {{ {', '.join(pairs)} }}"
