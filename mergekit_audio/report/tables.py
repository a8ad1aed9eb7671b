"""The main table of an evaluation or a sweep: one row a model, its metrics a task, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.audio.report import left_out_sentence
from mergekit_audio.report.differences import SIGNIFICANT, difference_sentences, significant_columns
from mergekit_audio.report.leakage import leakage_sentences
from mergekit_audio.report.statement import selection_sentences
from mergekit_audio.report.table import Cell, Column, Table, TableRow

METRIC_TITLES = {
    "roc_auc": "ROC",
    "average_precision": "AP",
    "accuracy": "Acc.",
    "weighted_score": "Key",
    "accuracy_1": "Acc1",
    "r2": "R²",
}
GROUP_TITLES = {"all": "Avg.", "non_western": "non-Western", "western": "Western"}
REASONS = {"constant": "that never change"}


def main_table(summary: Mapping[str, Any], split: str = "test") -> Table:
    """Return the paper's Table 2 of a summary.

    Rows: base, single-culture models, further models, weight average, best merge; of an evaluation,
    its models in the recipe's order. Columns: the metrics of each task (ROC-AUC and average
    precision of tagging), then the averages over all these columns, all in percent. A mark says
    that the difference from the reference is significant after Holm's correction.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    split
        ``test``, or ``valid`` (without marks: differences are those of the test split).

    References
    ----------
    arXiv 2506.17818, Table 2.
    """
    first = summary["rows"][0]
    columns = [
        Column(
            task.get("title", task["name"]),
            METRIC_TITLES[metric],
            ("scores", task["name"], split, metric),
        )
        for task in summary["tasks"]
        for metric in task_metrics(summary, task["name"])
    ]
    groups = [group for group in GROUP_TITLES if group in first["averages"][split]]
    if len(groups) == 2:
        groups = ["all"]
    columns += [
        Column(
            "Average" if group == "all" else GROUP_TITLES[group], "Avg.", ("averages", split, group)
        )
        for group in groups
    ]
    marked = significant_columns(summary) if split == "test" else frozenset()
    rows = [
        TableRow(
            title,
            tuple(
                Cell.of(
                    _at(row, column.path),
                    SIGNIFICANT if (row["name"], column.path) in marked else "",
                )
                for column in columns
            ),
        )
        for title, row in table_rows(summary)
    ]
    return Table(tuple(columns), tuple(rows))


def task_metrics(summary: Mapping[str, Any], task: str) -> list[str]:
    """Return the metrics that a task's test split has, in the tables' order."""
    held = summary["rows"][0]["scores"][task]["test"]
    return [metric for metric in METRIC_TITLES if metric in held]


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the titles and summary rows that the main table shows, in its order."""
    rows: Sequence[Mapping[str, Any]] = summary["rows"]
    shown = [(str(row["name"]), row) for row in rows if row["kind"] != "merge"]
    for row in rows:
        at = f" ({_place(row)})" if row["scale"] is not None or row.get("parameters") else ""
        if row["weight_average"]:
            shown.append((f"weight average{at}", row))
        elif row.get("negation"):
            shown.append((f"without {row['negation']}{at or f' ({_place(row)})'}", row))
    selection = summary.get("selection")
    if selection is not None:
        method = summary["method"]["name"].replace("_", " ")
        best = next(row for row in rows if row["name"] == selection["row"])
        shown.append((f"{method} ({_place(best)})", best))
    return shown


def table_notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what a reader must know beside the table.

    Seeds, selection, differences that are sure, leakage, and labels without scores.
    """
    seeds = summary["seeds"]
    spread = (
        f", mean ± standard deviation over {len(seeds)} probe seeds"
        if len(seeds) > 1
        else " with one probe seed"
    )
    tagging = all("roc_auc" in task_metrics(summary, task["name"]) for task in summary["tasks"])
    over = "tasks and both metrics" if tagging else "all columns of all tasks"
    notes = [
        f"Scores of the test split in percent{spread}; averages are taken over {over}. The best "
        "of a column is bold."
    ]
    notes += [*summary.get("notes", []), *selection_sentences(summary)]
    notes += [*difference_sentences(summary), *leakage_sentences(summary)]
    for task in summary["tasks"]:
        notes += _task_notes(task)
    return notes


def _task_notes(task: Mapping[str, Any]) -> list[str]:
    notes = []
    for split, reasons in task["unscored"].items():
        for reason, labels in reasons.items():
            lacking = REASONS.get(reason, reason.replace("_", " "))
            so = "are left out of the macro means"
            if split == "train":
                so = "can't be learnt, but their scores count"
            if labels and (split != "train" or reason == "without_positives"):
                notes.append(
                    f"{task['name']}, {split} split: {len(labels)} of {len(task['labels'])} labels "
                    f"{lacking} {so}: {', '.join(labels)}."
                )
    if untrained := task.get("untrained_tags"):
        count = "1 tag" if len(untrained) == 1 else f"{len(untrained)} tags"
        notes.append(
            f"{task['name']}: {count} of validation or test tracks alone can't be learnt and "
            f"{'is' if len(untrained) == 1 else 'are'} no label: {', '.join(untrained)}."
        )
    if left_out := left_out_sentence(task.get("left_out", {})):
        notes.append(f"{task['name']}: {left_out}")
    if task["without_split"]:
        notes.append(
            f"{task['name']}: {task['without_split']} tracks without a split are not used."
        )
    return notes


def _place(row: Mapping[str, Any]) -> str:
    """Return where a row of a sweep lies: its λ, and the method's parameters that were swept."""
    if row["scale"] is not None:
        values = (row.get("parameters") or {}).items()
        return f"λ = {row['scale']:g}" + "".join(f", {key} = {value}" for key, value in values)
    if row["kind"] == "base":
        return "λ = 0"
    return str(row["name"]) if row["kind"] == "merge" else f"{row['name']} alone"


def _at(row: Mapping[str, Any], path: Sequence[str]) -> Mapping[str, Any]:
    value: Any = row
    for step in path:
        value = value[step]
    found: Mapping[str, Any] = value
    return found
