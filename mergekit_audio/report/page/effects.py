"""Whom a model helps and hurts: differences from the reference with their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    bullets,
    details,
    element,
    joined,
    paragraph,
    table,
    words_head,
)
from mergekit_audio.report.page.reading import (
    POINTS,
    Effect,
    Row,
    Summary,
    average_effect,
    chosen_row,
    effects,
    is_tested,
    listed,
    metric_words,
    reference_row,
    signed,
    told_row,
    verdicts,
)
from mergekit_audio.report.page.svg import Axis, label, line, marker, widened
from mergekit_audio.report.tables import table_rows

WIDE, TALL = 240, 26


def effects_section(summary: Summary) -> Section | None:
    """Return the differences of the chosen model by task, then those of all models on average."""
    reference = reference_row(summary)
    others = [each for each in table_rows(summary) if each[1]["name"] != reference["name"]]
    others = list({row["name"]: (title, row) for title, row in others}.values())
    others = [each for each in others if is_tested(each[1])]
    if not others or not is_tested(reference):
        return None
    parts: list[str] = [paragraph(how_told(summary))]
    told = told_row(summary) if summary.get("selection") else None
    if told is not None:
        title, row = told
        parts += [helped_words(summary, title, row), forest(summary, title, row)]
    parts += [element("h3", "All models, on average"), all_models(summary, others)]
    parts += [
        details(f"{title}: each task", forest(summary, title, row))
        for title, row in others
        if told is None or row["name"] != told[1]["name"]
    ]
    chosen = chosen_row(summary)
    title = "Which cultures it helps or hurts" if chosen else "How models differ"
    return Section("effects", title, joined(parts))


def how_told(summary: Summary) -> str:
    """Return how differences and intervals are made, and what the words mean."""
    name = reference_row(summary)["name"]
    start = f"Differences from {name} on the test split in points (1 point = 0.01 of the metric)"
    found = summary.get("differences")
    if found is None:
        return (
            f"{start}. The recipe's `resamples` is 0, so there are no intervals, and nothing can "
            "be said about how sure a difference is."
        )
    return (
        f"{start}, with {POINTS * found['confidence']:g} % intervals of a paired bootstrap over "
        f"test tracks ({found['resamples']:,} resamples). “Probably” means that an interval leaves "
        "0 out; “sure” that it still would after Holm's correction for all comparisons here; "
        "“can't tell” that the interval holds 0: no difference, a gain and a loss all fit."
    )


def helped_words(summary: Summary, title: str, row: Row) -> Markup:
    """Return one line each for tasks that a model helps, hurts, and where that can't be told."""
    found = verdicts(summary, str(row["name"]))
    words = {
        "▲ Helps": [
            _with_sureness(task, sure) for task, (v, sure) in found.items() if v == "better"
        ],
        "▼ Hurts": [
            _with_sureness(task, sure) for task, (v, sure) in found.items() if v == "worse"
        ],
        "◆ Helps by one metric, hurts by another": [
            task for task, (level, _) in found.items() if level == "mixed"
        ],
        "≈ Can't be told": [task for task, (level, _) in found.items() if level == "unsure"],
    }
    lines = [
        Markup(f"<b>{head}:</b> {element('span', listed(names) or 'none')}")
        for head, names in words.items()
        if names or not head.startswith("◆")
    ]
    return joined([paragraph(f"{title}, beside {reference_row(summary)['name']}:"), bullets(lines)])


def forest(summary: Summary, title: str, row: Row) -> Markup:
    """Return a row for each task and metric: both scores, difference, interval, and a bar of it."""
    name, reference = str(row["name"]), reference_row(summary)
    found = effects(summary, name)
    axis = _axis(found)
    rows = []
    for effect in found:
        theirs, ours = (_score(each, effect) for each in (reference, row))
        cells = [
            effect.what,
            _words(metric_words(effect.metric)),
            theirs,
            ours,
            signed(effect.points),
            effect.interval,
            bar(axis, effect),
            _words(effect.reading, effect.level),
        ]
        rows.append(cells)
    heads = (
        "task",
        words_head("metric"),
        reference["name"],
        "this",
        "difference",
        "interval",
        scale(axis),
        words_head("reading"),
    )
    return table(f"{title} less {reference['name']}, test split", heads, rows)


def all_models(summary: Summary, rows: Sequence[tuple[str, Row]]) -> Markup:
    """Return a row for each model: its average, the difference from the reference, and a bar."""
    reference = reference_row(summary)
    found = [
        (title, row, average_effect(effects(summary, str(row["name"])))) for title, row in rows
    ]
    axis = _axis([effect for _, _, effect in found if effect is not None])
    lines = [[reference["name"], f"{_average(reference):.1f}", "", "", Markup("<td></td>"), ""]]
    for title, row, effect in found:
        if effect is None:
            continue
        lines.append(
            [
                title,
                f"{_average(row):.1f}",
                signed(effect.points),
                effect.interval,
                bar(axis, effect),
                _words(effect.reading, effect.level),
            ]
        )
    heads = ("model", "average", "difference", "interval", scale(axis), words_head("reading"))
    return table("Average over tasks and metrics, test split", heads, lines)


def bar(axis: Axis, effect: Effect) -> Markup:
    """Return a cell with an interval, its point and the line of 0; the numbers stand beside it."""
    zero, middle = axis.at(0.0), TALL / 2
    parts = [line(zero, 0, zero, TALL, "line base")]
    if effect.low is not None and effect.high is not None:
        ends = axis.at(effect.low), axis.at(effect.high)
        parts.append(line(ends[0], middle, ends[1], middle, f"line {effect.level}"))
        parts += [line(end, middle - 4, end, middle + 4, f"line {effect.level}") for end in ends]
    shape = {"better": "triangle", "worse": "diamond"}.get(effect.level, "circle")
    parts.append(marker(axis.at(effect.points), middle, effect.level, shape, 5))
    return Markup(f'<td class="bar">{_drawn(parts)}</td>')


def scale(axis: Axis) -> Markup:
    """Return the numbers above the bars."""
    parts = [label(axis.at(v), 20, signed(v, 0), "tick", "middle") for v in axis.ticks(4)]
    return Markup(f'{_drawn(parts)}<span class="unseen">interval, drawn</span>')


def _drawn(parts: Iterable[str]) -> str:
    held = "".join(parts)
    return f'<svg class="bars" aria-hidden="true" viewBox="0 0 {WIDE} {TALL}">{held}</svg>'


def _axis(found: Sequence[Effect]) -> Axis:
    ends = [0.0, -1.0, 1.0]
    for effect in found:
        ends += [end for end in (effect.points, effect.low, effect.high) if end is not None]
    return Axis(*widened(ends, 0.06), 4, WIDE - 4)


def _score(row: Row, effect: Effect) -> str:
    if effect.task is None:
        found = row["averages"]["test"].get(effect.average)
    else:
        found = row["scores"][effect.task]["test"].get(effect.metric)
    return "–" if found is None else f"{found['mean'] * POINTS:.1f}"


def _average(row: Row) -> float:
    return float(row["averages"]["test"]["all"]["mean"]) * POINTS


def _words(content: str, kind: str = "") -> Markup:
    return element("td", content, class_=f"words {kind}".strip())


def _with_sureness(task: str, is_sure: bool) -> str:
    return f"{task} (sure)" if is_sure else f"{task} (probably)"
