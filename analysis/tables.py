"""What each table holds, as data: the same rows go to the page, to Markdown and to LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from . import wording as w
from .language_shrinkage import shrink_languages
from .outline import ALL, Outline
from .results import Estimate

__all__ = [
    "ITALICS",
    "Block",
    "Column",
    "Row",
    "Table",
    "Text",
    "exploratory",
    "figure",
    "mean_digits",
    "row",
    "status",
    "status_column",
    "status_note",
    "tagged",
    "text",
    "where",
]

ABSENT = w.ABSENT
MEAN = "mean"
"""What a mean over conditions or over targets is called in a row or a column."""


@dataclass(frozen=True)
class Text:
    """A cell: ``sub`` is its smaller companion (an interval, an SD), ``tone`` a style of the page."""

    text: str
    sub: str = ""
    strong: bool = False
    tone: str = ""
    italic: bool = False
    """An exploratory estimate among others."""


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = True


@dataclass(frozen=True)
class Row:
    """One line; its cells stand under the columns of the table."""

    cells: tuple[Text, ...]
    rule: bool = False
    """Whether a thin rule goes above (means, baselines)."""
    exploratory: bool = False
    """Not registered, where something was: set in italics and grey; a cell of the row says it in words."""


@dataclass(frozen=True)
class Block:
    """Rows under a common heading; no heading where there is only one block."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Table:
    """A table of the page, the Markdown file and `tables/<name>.tex`."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    blocks: tuple[Block, ...]
    note: str = ""
    fold: bool = False
    """Long tables are folded on the page until somebody asks for them."""
    slim: bool = False
    """Whether it fits one column of a paper (7.7 cm)."""

    def __bool__(self) -> bool:
        return any(block.rows for block in self.blocks)


def text(*words: str) -> tuple[Column, ...]:
    """Columns of words, set left."""
    return tuple(Column(x, numeric=False) for x in words)


def figure(*words: str) -> tuple[Column, ...]:
    """Columns of numbers, set right."""
    return tuple(Column(x) for x in words)


def row(*cells: str | Text, rule: bool = False, exploratory: bool = False) -> Row:
    return Row(tuple(c if isinstance(c, Text) else Text(c) for c in cells), rule, exploratory)


def where(outline: Outline, pair: str, *rest: str) -> str:
    """A block's heading; the pair is named only where there are several."""
    return ", ".join([*([pair] if outline.several else []), *(x for x in rest if x)])


def tagged(name: str, role: str) -> str:
    return f"{name} (placebo)" if role == "placebo" else name


def _verdict(e: Estimate) -> Text:
    return Text(w.verdict(e.verdict), tone=e.verdict)


def exploratory(e: Estimate) -> bool:
    """Whether the estimate is to be set apart: only where a design was registered."""
    return e.status == "exploratory"


def status(outline: Outline, e: Estimate) -> tuple[str, ...]:
    """The cell of the last column, in tables of suites with a registered design."""
    return (e.status,) if outline.results.registration else ()


def status_column(outline: Outline) -> tuple[Column, ...]:
    return text("Status") if outline.results.registration else ()


ITALICS = "Italics: exploratory; upright: registered."
"""Ends the note of a table that holds both; LaTeX, whose fonts may lose italics, says it of a sign instead."""


def status_note(estimates: Iterable[Estimate]) -> str:
    """What was registered of these estimates, and what italics mean where only some were."""
    found = {e.status for e in estimates}
    if found == {"unregistered"}:
        return " Not preregistered."
    if "exploratory" not in found:
        return ""
    return f" {ITALICS}" if "confirmatory" in found else " All exploratory: not registered."


def grand(outline: Outline) -> Table:
    """The answers: one row per contrast and pair."""
    wanted = [a.estimate for a in outline.results.answers if a.estimate is not None]
    blocks = []
    for pair in outline.pairs:
        rows = [
            row(
                tagged(e.contrast, e.role),
                # beside the name, where a phone shows it
                _verdict(e),
                Text(w.points(e.value), strong=e.verdict.startswith("different")),
                w.interval(e.low, e.high),
                w.p_value(e.p),
                w.p_value(e.p_adjusted),
                w.number(e.mde),
                *status(outline, e),
                w.number(e.df, 1),
                str(e.seeds),
                exploratory=exploratory(e),
            )
            for e in wanted
            if e.pair == pair
        ]
        blocks.append(Block(where(outline, pair), tuple(rows)))
    return Table(
        "grand",
        "The answer: effect of intermediate training on one arm against another, mean over intermediates, "
        "targets and languages",
        (
            *text("Contrast", "Verdict"),
            *figure("Effect", f"{outline.level} CI", "p", "adj. p", "MDE"),
            *status_column(outline),
            *figure("df", "Seeds"),
        ),
        tuple(blocks),
        w.test_note(wanted) + status_note(wanted),
    )


def mean_digits(condition: str, target: str) -> int:
    """Decimals in a map: a mean over all is smaller than a cell, and −0.05 is not to read as −0.1."""
    return 2 if ALL in (condition, target) else 1


def effects_map(outline: Outline) -> Table:
    """Conditions in rows, targets in columns; the interval below each value."""
    columns = [t for t in (*outline.targets, ALL) if any(k[3] == t for k in outline.estimates)]
    blocks, used = [], []
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            rows = []
            for c in (*outline.conditions, ALL):
                found = [outline.estimates.get((pair, contrast.name, c, t)) for t in columns]
                if not any(found):
                    continue
                used += [e for e in found if e is not None]
                cells = [
                    Text(ABSENT)
                    if e is None
                    else Text(
                        w.points(e.value, mean_digits(e.condition, e.target))
                        + ("≈" if e.verdict == "equivalent" else "")
                        + outline.dagger(e.condition, e.target),
                        w.bounds(e.low, e.high),
                        strong=e.verdict.startswith("different"),
                        tone=e.verdict,
                        italic=exploratory(e),
                    )
                    for e in found
                ]
                rows.append(row(MEAN if c == ALL else c, *cells, rule=c == ALL and bool(rows)))
            blocks.append(Block(where(outline, pair, tagged(contrast.name, contrast.role)), tuple(rows)))
    return Table(
        "effects",
        f"Effect by intermediate condition (rows) and target (columns), points, with {outline.level} "
        "intervals",
        (*text("Intermediate"), *figure(*(MEAN if t == ALL else outline.task(t) for t in columns))),
        tuple(blocks),
        (
            w.test_note(used, mde=False)
            + " Bold: different after correction; ≈: equivalent."
            + status_note(used)
            + outline.dagger_note
        )
        if used
        else "",
    )


def _effect_row(outline: Outline, e: Estimate, *beside: str) -> Row:
    return row(
        MEAN if e.condition == ALL else e.condition,
        MEAN if e.target == ALL else outline.task(e.target) + outline.dagger(e.condition, e.target),
        Text(w.points(e.value), strong=e.verdict.startswith("different")),
        w.interval(e.low, e.high),
        w.p_value(e.p),
        w.p_value(e.p_adjusted),
        _verdict(e),
        w.number(e.mde),
        *status(outline, e),
        w.number(e.df, 1),
        w.p_value(e.p_equivalence),
        *beside,
        exploratory=exploratory(e),
    )


def effects(outline: Outline, families: Iterable[str], name: str, caption: str, fold: bool) -> Table:
    """Every estimate of the families, with all that the verdict rests on."""
    wanted = set(families)
    blocks, used = [], []
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            found = [
                e
                for c in (ALL, *outline.conditions)
                for t in (ALL, *outline.targets)
                if (e := outline.estimates.get((pair, contrast.name, c, t))) is not None
                and e.family in wanted
            ]
            used += found
            title = where(outline, pair, tagged(contrast.name, contrast.role))
            blocks.append((title, found))
    # the p-values that stand beside, where this result has them
    extra = [(name, get) for name, get in _BESIDE if any(get(e) is not None for e in used)]
    # the note says how many seeds there are; a column only where they differ
    unequal = len({e.seeds for e in used}) > 1
    return Table(
        name,
        caption,
        (
            *text("Intermediate", "Target"),
            *figure("Effect", f"{outline.level} CI", "p", "adj. p"),
            *text("Verdict"),
            *figure("MDE"),
            *status_column(outline),
            *figure("df", "p (equiv.)", *(name for name, _ in extra), *(["Seeds"] if unequal else [])),
        ),
        tuple(
            Block(
                title,
                tuple(
                    _effect_row(
                        outline,
                        e,
                        *(w.p_value(get(e)) for _, get in extra),
                        *([str(e.seeds)] if unequal else []),
                    )
                    for e in found
                ),
            )
            for title, found in blocks
            if found
        ),
        w.test_note(used)
        + status_note(used)
        + (outline.dagger_note if any(ALL not in (e.condition, e.target) for e in used) else ""),
        fold,
    )


_BESIDE = (
    ("p (own variance)", attrgetter("p_unmoderated")),
    ("adj. p (BY)", attrgetter("p_by")),
    ("adj. p (max-T)", attrgetter("p_max_t")),
)


def gains(outline: Outline) -> Table:
    """Arm and condition in rows, targets in columns; the standard error beside each gain."""
    columns = [t for t in (*outline.targets, ALL) if any(k[3] == t for k in outline.gains)]
    blocks, used = [], []
    for pair in outline.pairs:
        for arm in outline.arms(pair):
            rows = []
            for c in (*outline.conditions, ALL):
                found = [outline.gains.get((pair, arm, c, t)) for t in columns]
                if not any(found):
                    continue
                used += [g for g in found if g is not None]
                cells = [
                    Text(ABSENT)
                    if g is None
                    else Text(
                        w.points(g.value, mean_digits(g.condition, g.target))
                        + outline.dagger(g.condition, g.target),
                        w.bounds(g.low, g.high),
                        strong=w.finite(g.low, g.high) and g.low * g.high > 0,
                    )
                    for g in found
                ]
                rows.append(row(MEAN if c == ALL else c, *cells, rule=c == ALL and bool(rows)))
            blocks.append(Block(where(outline, pair, arm), tuple(rows)))
    note = (
        f"Points with {outline.level} intervals ({w.basis(outline, used)}). Bold: the interval excludes 0, not "
        "adjusted for the number of cells (exploratory)." + outline.dagger_note
    )
    return Table(
        "gains",
        "Gain of each arm from intermediate training (score after − score without)",
        (*text("Intermediate"), *figure(*(MEAN if t == ALL else outline.task(t) for t in columns))),
        tuple(blocks),
        note,
    )


def languages(outline: Outline) -> Table:
    blocks, used = [], []
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            found = [x for x in outline.results.languages if (x.pair, x.contrast) == (pair, contrast.name)]
            grand_effect = outline.estimates.get((pair, contrast.name, ALL, ALL))
            used += found
            shrunken = shrink_languages(found, grand_effect)
            found.sort(key=lambda x: (x.untrained, x.family, x.name, x.language))
            rows = [
                row(
                    f"{x.name} ({x.language})", "control: not in pre-training" if x.untrained else x.family,
                    w.points(x.value), w.interval(x.low, x.high), w.p_value(x.p), w.number(x.df, 1),
                    w.points(shrunken.values.get(x.language) if shrunken else None), str(x.targets),
                )
                for x in found
            ]  # fmt: skip
            blocks.append(Block(where(outline, pair, tagged(contrast.name, contrast.role)), tuple(rows)))
    return Table(
        "languages",
        "Effect by language, mean over targets and intermediates (exploratory)",
        (
            *text("Language", "Family"),
            *figure("Effect", f"{outline.level} CI", "p (unadjusted)", "df", "Shrunken", "Targets"),
        ),
        tuple(blocks),
        f"Points. {w.basis(outline, used)}. Exploratory: p-values are not adjusted, and languages share their training "
        "runs. Shrunken: moved towards the mean over languages (empirical Bayes), without the controls.",
        fold=True,
    )
