"""From results to the plots of every figure, in the order of the report."""

from __future__ import annotations

from collections.abc import Iterable

from . import wording as w
from .dose_panel import dose_panel
from .language_shrinkage import shrink_languages
from .layer_panel import layer_panel
from .outline import ALL, NONE, Contrast, Outline
from .plots import Bars, Cell, Figure, Heat, Intervals, Line, Mark, Plot
from .power_panel import power_panel
from .results import Estimate, LanguageEffect
from .tables import exploratory, mean_digits, status_note

__all__ = ["plots", "strip"]

_ARM_STYLES = {"text": "text", "vision": "vision", "scrambled": "scrambled"}
_SPARE = ("distilled", "other", "further")


def _arm_styles(arms: tuple[str, ...]) -> tuple[str, ...]:
    spare = iter(_SPARE * (len(arms) + 1))
    return tuple(_ARM_STYLES.get(arm) or next(spare) for arm in arms)


def _contrast_styles(contrasts: tuple[Contrast, ...]) -> tuple[str, ...]:
    primary = iter(("primary", "vision", "distilled", "other") * len(contrasts))
    placebo = iter(("placebo", "scrambled", "further") * len(contrasts))
    return tuple(next(primary if c.role == "primary" else placebo) for c in contrasts)


def _map(outline: Outline, pair: str, contrast: Contrast, limit: float) -> Heat | None:
    found = {(c, t): e for (p, k, c, t), e in outline.estimates.items() if (p, k) == (pair, contrast.name)}
    rows = [c for c in (*outline.conditions, ALL) if any(key[0] == c for key in found)]
    columns = [t for t in (*outline.targets, ALL) if any(key[1] == t for key in found)]
    if not rows or not columns:
        return None

    def cell(c: str, t: str) -> Cell:
        e = found.get((c, t))
        if e is None or not w.finite(e.value):
            return Cell("", f"{outline.cell(c, t)}: no estimate", 0.0, "")
        shown = w.points(e.value, mean_digits(c, t)) + outline.dagger(c, t)
        return Cell(shown, w.describe(outline, e), e.value / limit, e.verdict, exploratory(e))

    inner = [e for (c, t), e in found.items() if ALL not in (c, t) and w.finite(e.value)] or list(
        found.values()
    )
    least, most = (pick(inner, key=lambda e: e.value) for pick in (min, max))
    told = sum(e.verdict.startswith("different") for e in inner)
    alt = (
        f"Heat map of the effect {contrast.name}: "
        f"{w.count(sum(c != ALL for c in rows), 'intermediate condition')} (rows) by "
        f"{w.count(sum(t != ALL for t in columns), 'target')} (columns), and their means. Lowest "
        f"{w.points(least.value)} points at {outline.cell(least.condition, least.target)}, highest "
        f"{w.points(most.value)} at {outline.cell(most.condition, most.target)}. Different from zero after correction: "
        f"{told} of {w.count(len(inner), 'cell')}. All values are in the table below."
    )
    return Heat(
        heading=f"{contrast.name}" + (" (placebo)" if contrast.role == "placebo" else ""),
        alt=alt,
        rows=tuple("mean" if c == ALL else c for c in rows),
        columns=tuple("mean" if t == ALL else outline.task(t) for t in columns),
        cells=tuple(tuple(cell(c, t) for t in columns) for c in rows),
        limit=limit,
        plus=contrast.plus,
        minus=contrast.minus,
        mean_row=rows[-1] == ALL and len(rows) > 1,
        mean_column=columns[-1] == ALL and len(columns) > 1,
    )


def _effect_map(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    mine = [e for e in outline.results.estimates if e.pair == pair and w.finite(e.value)]
    limit = max([0.5, *(abs(e.value) for e in mine)])
    maps = [_map(outline, pair, contrast, limit) for contrast in outline.contrasts(pair)]
    caption = (
        "Effect of intermediate training, in points: the gain of the first arm minus the gain of the second. Rows: "
        "what was trained on (intermediate conditions); columns: what was tested (targets); each with its mean. "
        "A solid frame and bold type: different from zero after correction (dashed frame: but smaller than the "
        f"margin). ≈: equivalent, by a margin of {w.margins(mine)}. The rest is inconclusive. Colour is the estimate, "
        "not its certainty. Cells of a column share their runs without intermediate training, and cells of a row "
        "their intermediate checkpoints: equal signs along one are no independent confirmations."
        + status_note(mine)
        + outline.dagger_note
    )
    return caption, [m for m in maps if m is not None]


def strip(outline: Outline) -> Intervals | None:
    """The grand effects beside each other, for the head of the page."""
    grand = [a.estimate for a in outline.results.answers if a.estimate is not None]
    grand = [e for e in grand if w.finite(e.value, e.low, e.high)]
    if not grand:
        return None
    lines = []
    for e in grand:
        label = (
            (f"{e.pair}: " if outline.several else "")
            + e.contrast
            + (" (placebo)" if e.role == "placebo" else "")
        )
        mark = Mark(int(e.role == "placebo"), e.value, e.low, e.high, w.describe(outline, e))
        lines.append(Line(label, (mark,)))
    margins = {e.margin for e in grand}
    return Intervals(
        heading="",
        alt="; ".join(f"{e.contrast}: {w.points(e.value)} points {w.interval(e.low, e.high)}" for e in grand),
        axis="points: left, the second arm gains more; right, the first",
        series=("primary", "placebo"),
        styles=("primary", "placebo"),
        lines=tuple(lines),
        band=margins.pop() if len(margins) == 1 else None,
    )


def _languages(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    contrasts = outline.contrasts(pair)
    place = {c.name: i for i, c in enumerate(contrasts)}
    mine = [x for x in outline.results.languages if x.pair == pair and w.finite(x.value)]
    if not mine:
        return "", []
    families: dict[str, dict[str, list[LanguageEffect]]] = {}
    for x in sorted(
        mine, key=lambda x: (x.untrained, x.family, x.name, x.language, place.get(x.contrast, 99))
    ):
        group = "Controls: not in the pre-training" if x.untrained else x.family or "Other"
        families.setdefault(group, {}).setdefault(x.language, []).append(x)
    first = contrasts[0].name
    shrunken = shrink_languages(
        [x for x in mine if x.contrast == first],
        outline.estimates.get((pair, first, ALL, ALL)),
    )
    lines = []
    for group, members in families.items():
        lines.append(Line(group, heading=True))
        for code, effects in members.items():
            name = effects[0].name or code
            marks = tuple(
                Mark(
                    place.get(x.contrast, 0),
                    x.value,
                    x.low,
                    x.high,
                    f"{name} ({code}), {x.contrast}: {w.points(x.value)} points, {outline.level} CI "
                    f"{w.interval(x.low, x.high)}; unadjusted p = {w.p_value(x.p)} ({w.basis(outline, [x])}); "
                    f"{w.count(x.targets, 'target')}",
                    hollow=x.untrained,
                )
                for x in effects
            )
            if shrunken is not None and code in shrunken.values:
                value = shrunken.values[code]
                tip = f"{name} ({code}), {first}, shrunken towards the mean: {w.points(value)} points"
                marks = (*marks, Mark(len(contrasts), value, None, None, tip))
            lines.append(Line(f"{name} ({code})" if name != code else code, marks))
    primary = [x for x in mine if x.role == "primary"] or mine
    low, high = (pick(primary, key=lambda x: x.value) for pick in (min, max))
    alt = (
        f"Forest plot by language of {', '.join(place)}: from {w.points(low.value)} points ({low.name}) to "
        f"{w.points(high.value)} ({high.name}). All values are in the table below."
    )
    caption = (
        f"Effect by language with {outline.level} intervals, mean over targets and intermediates, grouped "
        "by language "
        "family. Open markers: languages that the encoder's pre-training did not cover. Exploratory: not "
        "adjusted for "
        "the number of languages, and the languages share their training runs."
    )
    if shrunken is not None:
        caption += (
            f" Shrunken: {first} moved towards the mean over languages; {100 * shrunken.factor:.0f} % of the distance is "
            f"left, because the true effects are estimated to differ by an SD of {w.number(shrunken.spread)} points."
        )
    axis = "effect, points"
    styles = _contrast_styles(contrasts)
    names = tuple(c.name + (" (placebo)" if c.role == "placebo" else "") for c in contrasts)
    if shrunken is not None:
        names, styles = (*names, "shrunken"), (*styles, "further")
    return caption, [Intervals("", alt, axis, names, styles, tuple(lines))]


def _gains(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    arms = outline.arms(pair)

    def line(c: str, t: str, label: str) -> Line | None:
        marks = []
        for i, arm in enumerate(arms):
            g = outline.gains.get((pair, arm, c, t))
            if g is not None and w.finite(g.value):
                tip = (
                    f"{arm}, {outline.cell(c, t)}: gain {w.points(g.value)} points, {outline.level} CI "
                    f"{w.interval(g.low, g.high)}; unadjusted p = {w.p_value(g.p)}; {w.count(g.seeds, 'seed')}, df "
                    f"{w.number(g.df, 1)}, tier {g.tier}"
                )
                marks.append(Mark(i, g.value, g.low, g.high, tip))
        return Line(label, tuple(marks)) if marks else None

    def group(title: str, wanted: Iterable[tuple[str, str, str]]) -> list[Line]:
        found = [x for x in (line(*key) for key in wanted) if x is not None]
        return [Line(title, heading=True), *found] if found else []

    lines = [
        *group("Overall", [(ALL, ALL, "mean over all")]),
        *group(
            "By intermediate, mean over targets", [(c, ALL, outline.condition(c)) for c in outline.conditions]
        ),
        *group("By target, mean over intermediates", [(ALL, t, outline.task(t)) for t in outline.targets]),
    ]
    if not lines:
        for c in outline.conditions:
            lines += group(outline.condition(c), [(c, t, outline.task(t)) for t in outline.targets])
    if not lines:
        return "", []
    grand = [
        f"{arm} {w.points(g.value)}"
        for arm in arms
        if (g := outline.gains.get((pair, arm, ALL, ALL))) is not None
    ]
    alt = f"Gain from intermediate training by arm: {', '.join(grand) or 'see the table below'}."
    caption = (
        "Gain of each arm from intermediate training (score after − score without, in points) with "
        f"{outline.level} "
        "intervals." + (" The effect is the distance between two arms." if outline.contrasts(pair) else "")
    )
    return caption, [Intervals("", alt, "gain, points", arms, _arm_styles(arms), tuple(lines))]


def _retention(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    table = outline.retention(pair)
    if not table:
        return "", []
    arms = tuple(dict.fromkeys(arm for _, arm in table))
    drawn: list[Plot] = []
    for target in dict.fromkeys(target for target, _ in table):
        cells = {arm: table[target, arm] for arm in arms if (target, arm) in table}
        conditions = [c for c in outline.conditions if any(c in cell for cell in cells.values())]
        lines = []
        for c in [*([NONE] if any(NONE in cell for cell in cells.values()) else []), *conditions]:
            marks = []
            for i, arm in enumerate(arms):
                r = cells.get(arm, {}).get(c)
                if r is None or not w.finite(r.mean):
                    continue
                before = 100 * r.mean - r.change if r.change is not None else None
                low, high = (
                    (before + bound if before is not None and bound is not None else None)
                    for bound in (r.low, r.high)
                )
                tip = f"{arm}, {'before' if c == NONE else 'after ' + c}: {w.score(r.mean)}" + (
                    f", change {w.points(r.change)} points {w.interval(r.low, r.high)}" if c != NONE else ""
                )
                marks.append(Mark(i, 100 * r.mean, low, high, tip, hollow=c == NONE, start=before))
            if marks:
                lines.append(Line("before" if c == NONE else f"after {c}", tuple(marks)))
        chance = next(
            (r.chance for cell in cells.values() for r in cell.values() if r.chance is not None), None
        )
        worst = [
            f"{arm} from {w.score(cell[NONE].mean)} to "
            f"{w.span((100 * r.mean for k, r in cell.items() if k != NONE), 1)}"
            for arm, cell in cells.items()
            if NONE in cell and len(cell) > 1
        ]
        metric = next(r.metric for cell in cells.values() for r in cell.values())
        drawn.append(
            Intervals(
                heading=outline.task(target) if len({t for t, _ in table}) > 1 else "",
                alt=f"Image-text retrieval before and after training: {'; '.join(worst) or 'see the table'}.",
                axis=f"{metric}, points",
                series=arms,
                styles=_arm_styles(arms),
                lines=tuple(lines),
                reference=100 * chance if chance is not None else None,
                reference_label="chance",
                narrow=True,
            )
        )
    caption = (
        "Does intermediate training cost the encoder its eyes? Image-text retrieval before (open) and after "
        "each "
        "intermediate, for arms with an image tower; the whisker is the interval of the change. Outside "
        "every family of effects."
    )
    return caption, drawn


def _layers(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    arms = outline.arms(pair)
    return layer_panel(outline, pair, dict(zip(arms, _arm_styles(arms), strict=True)))


def _shares(e: Estimate, parts: tuple[str, ...]) -> tuple[float, ...]:
    raw = [max(0.0, v) if w.finite(v := e.variance_shares.get(part, 0.0)) else 0.0 for part in parts]
    total = sum(raw)
    return tuple(v / total for v in raw) if total > 0 else tuple(raw)


def _variance(outline: Outline, pair: str) -> tuple[str, list[Plot]]:
    mine = [e for e in outline.results.estimates if e.pair == pair and e.variance_shares]
    if not mine:
        return "", []
    names = {part for e in mine for part in e.variance_shares}
    parts = tuple(sorted(names, key=lambda part: (part != "run", part != "examples", part)))
    drawn: list[Plot] = []
    for contrast in outline.contrasts(pair):
        wanted = [(ALL, ALL), *((c, ALL) for c in outline.conditions), *((ALL, t) for t in outline.targets)]
        rows = []
        for c, t in wanted:
            e = outline.estimates.get((pair, contrast.name, c, t))
            if e is None or sum(_shares(e, parts)) == 0:
                continue
            shares = _shares(e, parts)
            label = (
                "mean over all"
                if (c, t) == (ALL, ALL)
                else outline.condition(c)
                if t == ALL
                else outline.task(t)
            )
            said = ", ".join(f"{part} {100 * share:.0f} %" for part, share in zip(parts, shares, strict=True))
            label = f"{label} (target)" if c == ALL and t != ALL else label
            rows.append(
                (label, shares, f"{outline.cell(c, t)}: {said}; standard error {w.number(e.se)} points")
            )
        if rows:
            head = contrast.name + (" (placebo)" if contrast.role == "placebo" else "")
            first = rows[0]
            drawn.append(Bars(head, f"Variance shares of {contrast.name}. {first[2]}.", parts, tuple(rows)))
    caption = (
        "Where the uncertainty comes from: shares of the variance of each estimate. If runs dominate, more "
        "seeds narrow "
        "the interval; if examples dominate, more test data does."
    )
    return caption, drawn


def plots(outline: Outline) -> tuple[Figure, ...]:
    """All figures that this result can fill, per pair, in the order of the report."""
    makers = {
        "effect_map": _effect_map,
        "dose": dose_panel,
        "forest_languages": _languages,
        "gains": _gains,
        "layers": _layers,
        "retention": _retention,
        "variance": _variance,
        "power": power_panel,
    }
    out = []
    for pair in outline.pairs:
        for name, make in makers.items():
            caption, drawn = make(outline, pair)
            if drawn:
                out.append(Figure(name, outline.file(name, pair), pair, caption, tuple(drawn)))
    return tuple(out)
