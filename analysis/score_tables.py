"""Tables of scores: every cell, its parts, and what intermediate training costs image-text retrieval."""

from __future__ import annotations

from . import wording as w
from .outline import NONE, Outline
from .tables import ABSENT, Block, Table, Text, figure, row, text, where

__all__ = ["retention", "score_details", "scores"]


def scores(outline: Outline) -> Table:
    """Score per cell, mean (SD over seeds), with the best baseline of every target."""
    blocks = []
    for pair in outline.pairs:
        baselines: dict[str, float] = {}
        for arm in outline.arms(pair):
            rows = []
            for c in (NONE, *outline.conditions):
                found = [outline.scores.get((pair, arm, c, t)) for t in outline.targets]
                if not any(found):
                    continue
                for s in found:
                    if s is not None and s.baseline is not None:
                        baselines.setdefault(s.target, s.baseline)
                cells = [
                    Text(ABSENT)
                    if s is None
                    else Text(
                        w.score(s.mean) + outline.dagger(s.condition, s.target),
                        f"({w.number(100 * s.sd, 1)})" if w.finite(s.sd) and s.sd is not None else "",
                    )
                    for s in found
                ]
                rows.append(row(outline.condition(c), *cells))
            blocks.append(Block(where(outline, pair, arm), tuple(rows)))
        if baselines and blocks:
            cells = [w.score(baselines.get(t)) for t in outline.targets]
            blocks.append(Block(where(outline, pair, "without a model"), (row("best baseline", *cells),)))
    metrics = {s.target: s.metric for s in outline.results.scores}
    said = ", ".join(f"{outline.task(t)} {metrics[t]}" for t in outline.targets if t in metrics)
    varied = [s.seeds for s in outline.results.scores if w.finite(s.sd)]
    deviation = (
        f" SD over {w.span(varied)} seeds in parentheses, none where nothing is trained." if varied else ""
    )
    return Table(
        "scores",
        "Zero-shot scores: mean over languages and seeds"
        + (", with the standard deviation over seeds" if varied else ""),
        (*text("Intermediate"), *figure(*map(outline.task, outline.targets))),
        tuple(blocks),
        f"100 × metric ({said}); languages weighted equally." + deviation + outline.dagger_note,
    )


def score_details(outline: Outline) -> Table:
    """Source language, transfer and baseline of every cell."""
    blocks = []
    for pair in outline.pairs:
        for arm in outline.arms(pair):
            rows = [
                row(
                    outline.task(t) + outline.dagger(c, t), outline.condition(c), s.metric, w.score(s.mean),
                    w.score(s.sd), w.score(s.source), w.score(s.transfer), w.score(s.baseline),
                    f"{s.seeds}, nothing trained" if s.deterministic else str(s.seeds),
                )
                for t in outline.targets
                for c in (NONE, *outline.conditions)
                if (s := outline.scores.get((pair, arm, c, t))) is not None
            ]  # fmt: skip
            blocks.append(Block(where(outline, pair, arm), tuple(rows)))
    return Table(
        "score_details",
        "Every cell: source language, transfer to the other languages, best baseline",
        (
            *text("Target", "Intermediate", "Metric"),
            *figure("Mean", "SD", "Source", "Transfer", "Baseline", "Runs"),
        ),
        tuple(blocks),
        "100 × metric. Source: the training language; transfer: mean over the others; baseline: best rule "
        "without a model." + outline.dagger_note,
        fold=True,
    )


def retention(outline: Outline) -> Table:
    blocks, seeds = [], []
    for pair in outline.pairs:
        for (target, arm), cell in outline.retention(pair).items():
            seeds += [r.seeds for c, r in cell.items() if c != NONE]
            rows = [
                row(
                    "before" if c == NONE else f"after {c}", w.score(r.mean),
                    "" if r.change is None else w.points(r.change),
                    "" if r.change is None else w.interval(r.low, r.high),
                )
                for c, r in cell.items()
            ]  # fmt: skip
            chance = w.span((100 * r.chance for r in cell.values() if r.chance is not None), 1)
            told = "" if chance == ABSENT else f"chance {chance}"
            blocks.append(Block(where(outline, pair, outline.task(target), arm, told), tuple(rows)))
    metrics = ", ".join(sorted({r.metric for r in outline.results.retention}))
    return Table(
        "retention",
        "Image-text retrieval before and after intermediate training",
        (*text("Stage"), *figure("Score", "Change", f"{outline.level} CI")),
        tuple(blocks),
        f"100 × metric ({metrics}), mean over languages; change in points against before; {w.span(seeds)} "
        f"{'seed' if set(seeds) == {1} else 'seeds'} after "
        "training. Outside every family of effects.",
        slim=True,
    )
