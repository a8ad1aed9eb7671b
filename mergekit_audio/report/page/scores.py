"""Show the scores: Table 2, all differences, categories of labels, single labels, tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.differences import difference_table
from mergekit_audio.report.labels import by_category
from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    bullets,
    details,
    element,
    joined,
    pairs,
    table,
)
from mergekit_audio.report.page.reading import POINTS, Summary, metric_words, task_names
from mergekit_audio.report.statement import selection_sentences
from mergekit_audio.report.tables import METRIC_TITLES, main_table, table_notes, table_rows


def table_section(summary: Summary) -> Section:
    """Return the paper's Table 2 with its notes, and every difference behind a click."""
    found = main_table(summary)
    rows = []
    for row in found.rows:
        cells = [
            element("td", cell.text(), class_="best") if found.is_best(row, column) else cell.text()
            for column, cell in enumerate(row.cells)
        ]
        rows.append([row.title, *cells])
    shown = table(
        "Test split, percent",
        ["model", *(column.title for column in found.columns)],
        rows,
        groups=[("", 1), *found.groups()],
    )
    told = selection_sentences(summary)
    notes = [note for note in table_notes(summary) if note not in told]
    parts: list[str] = [shown, bullets(notes)]
    differences = difference_table(summary)
    if differences is not None:
        held = table("All differences, in points", differences.heads, differences.shown)
        parts.append(details(f"All {len(differences.shown)} differences with p-values", held))
    return Section("scores", "Scores of all models", joined(parts))


def labels_section(summary: Summary) -> Section | None:
    """Return the mean of each category of labels, and each label behind a click."""
    rows = table_rows(summary)
    parts: list[str] = []
    for task in task_names(summary):
        held = rows[0][1]["labels"].get(task) or {}
        if not held:
            continue
        metrics = [metric for metric in METRIC_TITLES if metric in next(iter(held.values()))]
        groups = by_category(list(held))
        parts.append(element("h3", task))
        if len(groups) > 1:
            parts.append(_category_table(rows, task, groups, metrics))
        parts.append(
            details(
                f"{task}: {len(held)} labels scored on the test split",
                joined(_label_table(rows, task, groups, metric) for metric in metrics),
            )
        )
    if not parts:
        return None
    return Section("labels", "Each category of labels", joined(parts))


def tasks_section(summary: Summary) -> Section:
    """Return what each task was probed on and how."""
    return Section("tasks", "Tasks", joined(_task(task) for task in summary["tasks"]))


def _category_table(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    task: str,
    groups: Mapping[str, Sequence[str]],
    metrics: Sequence[str],
) -> Markup:
    lines = []
    for title, row in rows:
        cells = [
            f"{_mean([row['labels'][task][label][metric] for label in labels]):.1f}"
            for labels in groups.values()
            for metric in metrics
        ]
        lines.append([title, *cells])
    heads = ["model", *(metric_words(metric) for _ in groups for metric in metrics)]
    spans = [
        (f"{category or 'no category'} ({len(labels)})", len(metrics))
        for category, labels in groups.items()
    ]
    return table(
        f"{task}: means over the labels of a category, test split, percent",
        heads,
        lines,
        groups=[("", 1), *spans],
    )


def _label_table(
    rows: Sequence[tuple[str, Mapping[str, Any]]],
    task: str,
    groups: Mapping[str, Sequence[str]],
    metric: str,
) -> Markup:
    lines = [
        [label, *(f"{row['labels'][task][label][metric]['mean'] * POINTS:.1f}" for _, row in rows)]
        for labels in groups.values()
        for label in labels
    ]
    heads = ["label", *(title for title, _ in rows)]
    return table(f"{metric_words(metric)}, percent", heads, lines)


def _mean(found: Sequence[Mapping[str, Any]]) -> float:
    return statistics.fmean(each["mean"] for each in found) * POINTS


def _task(task: Mapping[str, Any]) -> Markup:
    protocol = ", ".join(f"{key} {value}" for key, value in task["protocol"].items())
    facts = {
        "corpus": task.get("corpus", ""),
        "counted as": "Western" if task.get("western") else "non-Western",
        "tracks": ", ".join(f"{count} {split}" for split, count in task["tracks"].items()),
        "labels": ", ".join(task["labels"]),
        "protocol": protocol,
        "recordings left out": _left_out(task["left_out"]),
    }
    return details(task["name"], pairs(facts))


def _left_out(report: Mapping[str, Any]) -> str:
    counts = [
        f"{len(entries)} {reason.replace('_', ' ')}"
        for reason, entries in report.items()
        if isinstance(entries, list) and entries
    ]
    return ", ".join(counts) or "none"
