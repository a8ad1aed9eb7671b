"""Scores of each label by category (makam, usul, raga, …), which the macro average hides."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from mergekit_audio.report.table import PERCENT, Grid, comma_separated
from mergekit_audio.report.tables import METRIC_TITLES, table_rows

SEPARATOR = "--"
MEAN = "mean"


def label_table(summary: Mapping[str, Any], task: str) -> Grid | None:
    """Return one row for each label that the test split scores, by category; ``None`` without any.

    Each category begins with the mean over its labels. Columns are the models' means over seeds of
    each metric, in percent for people.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    task
        The task's name.
    """
    shown_rows = table_rows(summary)
    scores = [(title, row["labels"][task]) for title, row in shown_rows]
    if not scores[0][1]:
        return None
    held = next(iter(scores[0][1].values()))
    metrics = [metric for metric in METRIC_TITLES if metric in held]
    keys = [(title, metric) for title, _ in scores for metric in metrics]
    rows: list[tuple[str, str, list[float]]] = []
    for category, labels in by_category(list(scores[0][1])).items():
        of_labels = {
            label: [of[label][metric]["mean"] for _, of in scores for metric in metrics]
            for label in labels
        }
        means = [statistics.fmean(column) for column in zip(*of_labels.values(), strict=True)]
        rows.append((category, f"{MEAN} of {len(labels)}", means))
        rows += [(category, label, values) for label, values in of_labels.items()]
    heads = [f"{title} {METRIC_TITLES[metric]}" for title, metric in keys]
    return Grid(
        ("category", "label", *heads),
        tuple((kind, name, *(f"{v * PERCENT:.1f}" for v in values)) for kind, name, values in rows),
        tuple((kind, name, *values) for kind, name, values in rows),
        ("category", "label", *(f"{title} {metric}" for title, metric in keys)),
    )


def label_lines(summary: Mapping[str, Any]) -> str:
    """Return CSV with a line for each task, label, model and metric: mean and std over seeds.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    rows = []
    for task in [task["name"] for task in summary["tasks"]]:
        for category, labels in by_category(list(summary["rows"][0]["labels"][task])).items():
            for label in labels:
                for title, row in table_rows(summary):
                    for metric, found in row["labels"][task][label].items():
                        place = (task, category, label, title, metric)
                        rows.append((*place, found["mean"], found["std"]))
    heads = ("task", "category", "label", "model", "metric", "mean", "std")
    return comma_separated(heads, rows)


def by_category(labels: list[str]) -> dict[str, list[str]]:
    """Return the labels by what stands before ``--`` (nothing: no category), both sorted."""
    found: dict[str, list[str]] = {}
    for label in sorted(labels):
        found.setdefault(label.partition(SEPARATOR)[0] if SEPARATOR in label else "", []).append(
            label
        )
    return dict(sorted(found.items()))
