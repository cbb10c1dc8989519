"""The report as a sequence of sections: the page and the Markdown file print the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from markupsafe import Markup

from . import (
    benchmark_tables,
    failure_tables,
    provenance,
    score_tables,
    secondary_tables,
    svg,
    tables,
    task_tables,
)
from . import wording as w
from .bibliography import Reference, cited
from .latex import digest
from .methods import methods, registration
from .outline import ALL, Outline
from .outlook import outlook
from .panels import plots, strip
from .plots import Figure, Intervals
from .power_panel import power
from .results import Answer
from .tables import Table
from .words import placebo, words

__all__ = ["Page", "Section", "build"]


@dataclass(frozen=True)
class Drawn:
    """A figure with its plots as SVG."""

    figure: Figure
    panels: tuple[tuple[str, Markup], ...]
    """Heading and ``<svg>``."""
    alt: str


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    paragraphs: tuple[str, ...] = ()
    figures: tuple[Drawn, ...] = ()
    tables: tuple[Table, ...] = ()
    code: str = ""
    references: tuple[Reference, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.paragraphs or self.figures or self.tables or self.code or self.references)


@dataclass(frozen=True)
class Opening:
    """An answer in three parts, of which the middle one, the verdict, is set bold."""

    role: str
    before: str
    """The pair, where there are several."""
    lead: str
    rest: str

    @classmethod
    def of(cls, answer: Answer) -> Opening:
        before, lead, rest = answer.sentence.partition(f"{answer.lead}." if answer.lead else "\0")
        return cls(answer.role, before, lead, rest) if lead else cls(answer.role, "", "", before)


@dataclass(frozen=True)
class Page:
    title: str
    question: str
    answers: tuple[Opening, ...]
    placebo: str
    """What the placebo is; empty where no answer is one."""
    words: tuple[tuple[str, str], ...]
    """(word, meaning) of what the page uses."""
    strip: Markup | None
    strip_note: str
    outlook: str
    """What more seeds or examples would change, in a sentence; empty where it cannot be told."""
    notice: str
    warnings: tuple[str, ...]
    signature: str
    sections: tuple[Section, ...]
    verdicts: tuple[tuple[str, str], ...]
    version: str
    several: bool
    methods: tuple[str, ...]
    """Paragraphs with citation marks (`bibliography.py`)."""
    references: tuple[Reference, ...]


def _question(outline: Outline) -> str:
    contrasts = [c for pair in outline.pairs for c in outline.contrasts(pair) if c.role == "primary"]
    if not contrasts:
        return "Does intermediate-task training improve zero-shot cross-lingual transfer?"
    # the ladder of a suite may hold several primary contrasts: the question names each pair of arms once
    said = " and of ".join(
        dict.fromkeys(f"{c.plus} encoders more than that of {c.minus} encoders" for c in contrasts)
    )
    return f"Does intermediate-task training improve the zero-shot cross-lingual transfer of {said}?"


def _map_sentence(outline: Outline) -> tuple[str, ...]:
    said = []
    for pair in outline.pairs:
        for contrast in outline.contrasts(pair):
            cells = [
                e
                for (p, k, c, t), e in outline.estimates.items()
                if (p, k) == (pair, contrast.name) and ALL not in (c, t)
            ]
            if not cells:
                continue
            counts = [(v, sum(e.verdict == v for e in cells)) for v in w.VERDICTS]
            tally = ", ".join(f"{n} {w.verdict(v)}" for v, n in counts if n)
            where = f"{pair}, {contrast.name}" if outline.several else contrast.name
            said.append(
                f"{where}: of {w.count(len(cells), 'cell')} {tally}; detectable effect "
                f"{w.span((e.mde for e in cells), 1)} points."
            )
    return tuple(said)


def _strip_note(outline: Outline, line: Intervals | None) -> str:
    contrasts = [c for pair in outline.pairs for c in outline.contrasts(pair)]
    plus = " or ".join(dict.fromkeys(c.plus for c in contrasts))
    minus = " or ".join(dict.fromkeys(c.minus for c in contrasts))
    note = (
        f"Mean effect with its {outline.level} interval, points; right of 0: {plus} gains more than {minus}."
    )
    if line is not None and line.band is not None:
        note += f" Shaded: the margin of ±{line.band:g} points inside which an effect counts as negligible."
    return note


def _placebo(outline: Outline) -> str:
    named = {a.estimate.contrast for a in outline.results.answers if a.role == "placebo" and a.estimate}
    arms = [c.plus for pair in outline.pairs for c in outline.contrasts(pair) if c.name in named]
    return placebo(arms[0]) if arms else ""


def _said(outline: Outline, sections: Iterable[Section]) -> Iterator[str]:
    """All that the page says, for the list of its words; cells of tables only where they are words."""
    yield from (answer.sentence for answer in outline.results.answers)
    for section in sections:
        yield from section.paragraphs
        yield from (drawn.figure.caption for drawn in section.figures)
        for table in section.tables:
            yield from (table.caption, table.note, *(column.title for column in table.columns))
            yield from (cell.text for block in table.blocks for r in block.rows for cell in r.cells)


def build(outline: Outline) -> tuple[Page, tuple[Figure, ...]]:
    """The page, and the figures that it shows (for the files of ``figures/``)."""
    every = plots(outline)

    def drawn(name: str) -> tuple[Drawn, ...]:
        return tuple(
            Drawn(f, tuple((p.heading, svg.draw(p)) for p in f.plots), " ".join(p.alt for p in f.plots))
            for f in every
            if f.name == name
        )

    def some(*wanted: Table) -> tuple[Table, ...]:
        return tuple(t for t in wanted if t)

    families = {e.family for e in outline.results.estimates}
    aggregates = tables.effects(
        outline,
        families - {"map", "grand"},
        "aggregates",
        "Effect per target (mean over intermediates) and per intermediate (mean over targets)",
        fold=False,
    )
    cells = tables.effects(
        outline, {"map"}, "cells", "Effect per intermediate and target: every cell", fold=True
    )
    notes = tuple(f"{p['name']}: {p['note']}" for p in outline.suite.get("pairs", ()) if p.get("note"))
    method = methods(outline)
    references = cited(method)
    sections = (
        Section(
            "effects",
            "Effect by intermediate task and target",
            _map_sentence(outline),
            drawn("effect_map"),
            some(
                tables.grand(outline),
                secondary_tables.derived(outline, "placebo-difference"),
                aggregates,
                cells,
                secondary_tables.cell_languages(outline),
                secondary_tables.scale(outline),
            ),
        ),
        Section(
            "tasks",
            "Tasks: what was trained on, what was tested",
            tables=some(task_tables.conditions(outline), task_tables.targets(outline)),
        ),
        Section(
            "dose",
            "Dose: along the ladder of arms",
            (),
            drawn("dose"),
            some(secondary_tables.derived(outline, "trend")),
        ),
        Section(
            "robustness",
            "Does it hold elsewhere?",
            secondary_tables.absent(outline),
            (),
            some(
                secondary_tables.secondary(outline),
                secondary_tables.replicability(outline),
                secondary_tables.replication(outline),
            ),
        ),
        Section(
            "languages", "Effect by language", (), drawn("forest_languages"), some(tables.languages(outline))
        ),
        Section("gains", "Gains by arm", (), drawn("gains"), some(tables.gains(outline))),
        Section("retention", "Retention", (), drawn("retention"), some(score_tables.retention(outline))),
        Section(
            "variance",
            "Where the uncertainty comes from, and what more seeds would buy",
            (),
            drawn("variance") + drawn("power"),
            some(power(outline)),
        ),
        Section(
            "failures",
            "Failed and missing runs",
            failure_tables.failure_sentence(outline),
            (),
            some(
                failure_tables.failures(outline),
                failure_tables.failure_tests(outline),
                failure_tables.failure_cells(outline),
            ),
        ),
        Section(
            "xtreme",
            "XTREME",
            (),
            (),
            some(
                benchmark_tables.benchmark(outline),
                benchmark_tables.benchmark_groups(outline),
                benchmark_tables.benchmark_details(outline),
            ),
        ),
        Section("layers", "Retrieval by layer", (), drawn("layers"), some(benchmark_tables.layers(outline))),
        Section(
            "scores",
            "Scores",
            (),
            (),
            some(score_tables.scores(outline), score_tables.score_details(outline)),
        ),
        Section(
            "runs",
            "Runs and schedules",
            (provenance.runs(outline), provenance.schedule_sentence(outline)),
            (),
            some(
                provenance.restarts(outline),
                provenance.exceptions(outline),
                provenance.contamination(outline),
                provenance.schedules(outline),
            ),
        ),
        Section("registration", "Registered and exploratory", registration(outline)),
        Section("methods", "Methods", method),
        Section("references", "References", references=references),
        Section(
            "materials",
            "Materials",
            notes,
            (),
            some(
                provenance.backbones(outline),
                provenance.policies(outline),
                task_tables.data(outline),
                provenance.environment(outline),
            ),
        ),
        Section(
            "signature",
            "Signature",
            (
                "This line pins every number of the report. Its SHA-256 begins with "
                f"{digest(outline.results.signature)}: the tables for papers print that. Under outcomes it has "
                "the first digits of what sha256sum *.parquet | sha256sum prints in outcomes/ (LC_ALL=C).",
            ),
            code=outline.results.signature,
        ),
    )
    line = strip(outline)
    shown = tuple(s for s in sections if s)
    page = Page(
        title=outline.title,
        question=_question(outline),
        answers=tuple(map(Opening.of, outline.results.answers)),
        placebo=_placebo(outline),
        words=words(_said(outline, shown)),
        strip=svg.strip(line) if line is not None else None,
        strip_note=_strip_note(outline, line),
        outlook=outlook(outline),
        notice=outline.notice,
        warnings=outline.results.warnings,
        signature=outline.results.signature,
        sections=shown,
        verdicts=w.meanings(outline.results.estimates),
        version=str(outline.suite.get("version", "")),
        several=outline.several,
        methods=method,
        references=references,
    )
    return page, every
