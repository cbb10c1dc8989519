"""What `xtremex list` prints: a table where there is room for it, else an entry a block. All on stdout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..adapters.registry import adapters
from ..tasks.base import Task
from ..tasks.sources import GeneratorSource, leaves
from .cost import all_declared, declared_rows
from .screen import console

if TYPE_CHECKING:
    from ..models.catalogue import Backbone, Facts

__all__ = ["print_listing"]

Rows = Iterator[tuple[str, ...]]


def print_listing(what: str) -> None:
    columns, rows = {
        "tasks": (TASKS, _tasks()),
        "backbones": (BACKBONES, _backbones()),
        "pairs": (PAIRS, _pairs()),
        "adapters": (("adapter", "loads", "options", "from"), _adapters()),
        "suites": (("suite", "title", "file"), _suites()),
        "kinds": (("kind", "from"), _kinds()),
    }[what]
    out = console()
    entries = list(rows)
    widths = [max(map(len, column)) + 2 for column in zip(columns, *entries, strict=True)]
    if sum(widths) > out.width:
        _print_blocks(out, columns, entries)
        return
    table = Table(*columns, box=None)
    for entry in entries:
        table.add_row(*map(Text, entry))
    out.print(table)


def _print_blocks(out: Console, columns: tuple[str, ...], entries: list[tuple[str, ...]]) -> None:
    """The name on a line of its own, never cut, since it is what one types; below it what is known.

    Entries of one name in a row share that line.
    """
    before = None
    for name, *values in entries:
        known = [(c, v) for c, v in zip(columns[1:], values, strict=True) if v not in ("", "-")]
        told = Text("; ").join(Text.assemble((f"{column} ", "dim"), value) for column, value in known)
        if name != before:
            out.print(Text(name, style="bold"))
        before = name
        first, *further = told.wrap(out, out.width - 6) or [Text()]
        out.print(Text("    ").append_text(first), no_wrap=True)
        for line in further:
            out.print(Text("      ").append_text(line), no_wrap=True)


TASKS = (
    "task",
    "kind",
    "roles",
    "languages",
    "train/dev/test",
    "metrics",
    "version",
    "licence",
    "source",
    "what",
)


def _tasks() -> Rows:
    from ..tasks.catalogue import tasks

    for name in tasks().names():
        t = tasks().get(name)
        number = f"{len(t.languages)}: " if len(t.languages) > 1 else ""
        languages = f"{number}{' '.join(t.languages)}"
        roles, metrics = ", ".join(t.roles), ", ".join(t.metrics)
        yield (
            name,
            t.kind,
            roles,
            languages,
            _sizes(t),
            metrics,
            t.version,
            t.licence,
            _source(t),
            t.description,
        )


def _sizes(task: Task) -> str:
    """Published rows of each split, all languages together: `~` where some languages or parts are not declared, `?` where
    none is, `-` without such a split."""
    return "/".join(_size(task, split) for split in ("train", "dev", "test"))


def _size(task: Task, split: str) -> str:
    if isinstance(task.source, GeneratorSource) or not any(
        getattr(leaf.source, "languages", {}).get(split) for leaf in leaves(task)
    ):
        return "-"
    size = declared_rows(task, split)
    return f"{'' if all_declared(task, split) else '~'}{size:,}" if size else "?"


def _source(task: Task) -> str:
    """Where the task's data come from: repositories, folders, or a generator."""
    return ", ".join(dict.fromkeys(_origin(leaf.source) for leaf in leaves(task)))


def _origin(source: object) -> str:
    if isinstance(source, GeneratorSource):
        return "generated"
    files = getattr(source, "files", None)
    return getattr(files, "repo", "") or str(getattr(files, "root", "")) or type(source).__name__


BACKBONES = (
    *("backbone", "adapter", "checkpoint", "revision", "ancestor", "objective", "images", "parameters"),
    *("layers x size", "use", "licence", "remote code", "not loadable"),
)


def _backbones() -> Rows:
    from ..models.catalogue import backbones

    for name, b in sorted(backbones().items()):
        yield (
            *(
                name,
                b.adapter,
                b.checkpoint,
                b.revision or "-",
                b.ancestor or "-",
                b.objective or "-",
                b.dose or "-",
            ),
            _millions(b.parameters),
            f"{b.layers} x {b.hidden_size}" if b.layers else "-",
            _use(b.facts) or "-",
            b.licence or "-",
            "yes" if b.remote_code else "-",
            b.unloadable or "-",
        )


def _millions(parameters: int) -> str:
    return f"{parameters / 1e6:,.0f} M" if parameters else "-"


def _use(facts: Facts) -> str:
    """What is known of how the encoder reads, in words: ``512 tokens (77 trained), pooling mean, dropout 0.1``.

    The usual case goes without saying: both directions, no padding read, no prefix, pairs of texts together.
    """
    trained, dropout = facts.max_length_trained, facts.dropout
    shorter = "" if trained in (None, facts.max_length) else f" ({trained} trained)"
    said = (
        f"{facts.max_length} tokens{shorter}" if facts.max_length else "",
        f"pooling {facts.pooling}" if facts.pooling else "",
        "" if dropout is None else f"dropout {dropout:g}" if dropout else "no dropout",
        f"prefix `{facts.text_prefix}`" if facts.text_prefix else "",
        "pairs of texts apart" if facts.pair_encoding == "separate" else "",
        "causal" if facts.causal else "",
        f"padded to {facts.pad_to} and reads it" if facts.attends_padding else "",
    )
    return ", ".join(filter(None, said))


PAIRS = (
    *("pair", "kind", "arm", "backbone", "objective", "images", "parameters", "unlike the first arm", "use"),
    *("not loadable", "ancestor", "in common", "contrasts", "note", "evidence"),
)


def _pairs() -> Rows:
    """A row for what the arms of a pair have in common, then one for each arm, from the least exposure to the most."""
    from ..models.catalogue import backbones
    from ..models.pairs import SIZES, pairs

    for name, pair in sorted(pairs().items()):
        arms = {role: backbones()[backbone] for role, backbone in pair.arms.items()}
        first = next(iter(arms.values()))
        yield (
            *(name, pair.kind, *["-"] * 8),
            pair.ancestor,
            _in_common(list(arms.values()), SIZES),
            ", ".join(f"{c.plus}-{c.minus}{' (placebo)' * (c.role == 'placebo')}" for c in pair.contrasts),
            pair.note.rstrip("."),
            pair.evidence,
        )
        for role, b in arms.items():
            yield (
                *(name, "-", role, b.name, b.objective or "-", b.dose or "-", _millions(b.parameters)),
                "-" if b is first else _unlike(b.facts, first.facts),
                _use(b.facts) or "-",
                b.unloadable or "-",
                *["-"] * 5,
            )


def _in_common(arms: list[Backbone], sizes: Mapping[str, str]) -> str:
    """Sizes that the catalogue knows of every arm; they are equal, else the pair was refused."""
    known = [key for key in sizes if all(getattr(arm, key) for arm in arms)]
    return ", ".join(f"{getattr(arms[0], key):,} {sizes[key]}" for key in known)


def _unlike(facts: Facts, first: Facts) -> str:
    """Terms of use that differ from the first arm's, as far as both are known; a suite's policy evens out what it can."""
    keys = [key for key, value in vars(facts).items() if None not in (value, getattr(first, key))]
    different = [key.replace("_", " ") for key in keys if getattr(facts, key) != getattr(first, key)]
    unknown = [key for key in ("max_length", "pooling", "dropout") if key not in keys]
    return (
        ", ".join([*different, *(f"{key.replace('_', ' ')} unknown" for key in unknown)]) or "nothing known"
    )


def _adapters() -> Rows:
    for name in adapters.names():
        told = adapters.described(name)
        yield name, told.loads or "-", ", ".join(told.options) or "-", adapters.origin(name)


def _kinds() -> Rows:
    from ..tasks.kinds import kinds

    for name in kinds.names():
        yield name, kinds.origin(name)


def _suites() -> Rows:
    from ..door import read_toml
    from .suite import builtin_suites

    for name, path in builtin_suites().items():
        yield name, read_toml(path).get("title", ""), str(path)
