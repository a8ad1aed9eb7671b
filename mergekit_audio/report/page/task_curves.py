"""Draw each task against λ as small panels of one scale: its scores less the base's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.page.markup import Markup, details, element, figure, table
from mergekit_audio.report.page.reading import (
    Row,
    Summary,
    reference_row,
    signed,
    task_names,
    task_score,
)
from mergekit_audio.report.page.svg import Panel, drawing, legend, line, marker

TASK_WORDS = (
    "Mean of each task's metrics less the base's, in points: where the line is above 0 the merge "
    "beats the base on validation. All panels have the same scale."
)


def task_figures(summary: Summary) -> Markup:
    """Return a panel for each task with the validation curve and what was scored on test."""
    rows = [row for row in summary["rows"] if row.get("in_grid") and row["scale"] is not None]
    rows = [row for row in rows if not (row.get("parameters") or {}) or _is_chosen(summary, row)]
    rows.sort(key=lambda row: row["scale"])
    tasks = task_names(summary)
    gains = {task: task_gains(summary, rows, task) for task in tasks}
    ys = [0.0, *(y for found in gains.values() for own in found for _, y in own.values())]
    scales = [row["scale"] for row in rows]
    parts = []
    for place, task in enumerate(tasks):
        panel = Panel.of(scales, ys, width=300, height=210, left=52, bottom=44)
        valid, test = gains[task]
        drawn = [*panel.frame("λ", "less the base, points", ticks=4), panel.level(0.0, "base")]
        drawn.append(panel.upright(summary["selection"]["scale"] or 0.0, "chosen"))
        drawn.append(panel.curve([point for _, point in sorted(valid.items())], "valid"))
        dense = len(valid) > 40
        drawn += [
            panel.mark(
                x, y, "valid", f"λ = {x:g}: {signed(y, 2)} on validation", size=1 if dense else 3
            )
            for x, y in valid.values()
        ]
        drawn += [
            panel.mark(x, y, "test", f"λ = {x:g}: {signed(y, 2)} on test", shape="square")
            for x, y in test.values()
        ]
        said = _task_described(task, valid)
        chart = drawing(f"task-{place}", f"{task} against λ, less the base", said, 300, 210, drawn)
        parts.append(f"<div>{element('h4', task)}{chart}</div>")
    grid = Markup(f'<div class="many">{"".join(parts)}</div>')
    signs = legend(
        [
            (line(0, 7, 26, 7, "line valid"), "validation"),
            (marker(13, 7, "test", "square"), "test, where it was scored"),
            (line(0, 7, 26, 7, "line base"), "the base"),
            (line(13, 0, 13, 14, "line chosen"), "chosen λ"),
        ]
    )
    caption = "Each panel is one task: its mean of metrics at λ less the base's at λ = 0."
    return figure(
        grid, caption, details("The numbers of these panels", _gain_table(rows, gains)), signs
    )


def task_gains(
    summary: Summary, rows: Sequence[Row], task: str
) -> tuple[dict[int, tuple[float, float]], dict[int, tuple[float, float]]]:
    """Return λ and gain over the base of each row by its place: on validation, and on test."""
    base = reference_row(summary)
    found: list[dict[int, tuple[float, float]]] = []
    for split in ("valid", "test"):
        start = task_score(summary, base, task, split)
        scores = {place: task_score(summary, row, task, split) for place, row in enumerate(rows)}
        found.append(
            {
                place: (rows[place]["scale"], score - start)
                for place, score in scores.items()
                if score is not None and start is not None
            }
        )
    return found[0], found[1]


def _is_chosen(summary: Summary, row: Row) -> bool:
    return bool(row.get("parameters") == summary["selection"].get("parameters"))


def _task_described(task: str, valid: Mapping[int, tuple[float, float]]) -> str:
    x, y = max(valid.values(), key=lambda each: each[1], default=(0.0, 0.0))
    return f"On validation {task} is highest at λ = {x:g}, {signed(y, 2)} points beside the base."


def _gain_table(rows: Sequence[Row], gains: Mapping[str, Any]) -> Markup:
    lines = []
    for place, row in enumerate(rows):
        cells = [
            signed(found[place][1], 2) if place in found else "–"
            for own in gains.values()
            for found in own
        ]
        lines.append([row["name"], *cells])
    heads = ["point", *(split for _ in gains for split in ("validation", "test"))]
    groups = [("", 1), *((task, 2) for task in gains)]
    return table("Gain over the base in points", heads, lines, groups=groups)
