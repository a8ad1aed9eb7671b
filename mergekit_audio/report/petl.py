"""The table of an evaluation that tunes encoders: what trains, and what it scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_text
from mergekit_audio.report.table import PERCENT, Cell, Grid
from mergekit_audio.report.tables import METRIC_TITLES, task_metrics

PETL_NAME = "petl"


def petl_table(summary: Mapping[str, Any]) -> Grid:
    """Return a row for each transfer of each model: what trains, then every task's metrics.

    The layout of Tables 2 and 3 of Ding and Lerch's study: parameters of the encoder that train,
    without those of the head; scores of the test split in percent, ± the standard deviation over
    seeds where there are several.

    Parameters
    ----------
    summary
        The content of ``summary.json``, its rows with ``trainable_parameters``.
    """
    columns = [
        (task["name"], metric)
        for task in summary["tasks"]
        for metric in task_metrics(summary, task["name"])
    ]
    titles = [f"{task} {METRIC_TITLES[metric]}" for task, metric in columns]
    shown, values = [], []
    for row in summary["rows"]:
        spreads = [row["scores"][task]["test"][metric] for task, metric in columns]
        count = int(row["trainable_parameters"])
        shown.append((row["name"], f"{count:,}", *(Cell.of(each).text() for each in spreads)))
        numbers = []
        for each in spreads:
            std = each["std"]
            numbers += [each["mean"] * PERCENT, None if std is None else std * PERCENT]
        values.append((row["name"], count, *numbers))
    heads = [f"{title} {part}" for title in titles for part in ("mean", "std")]
    return Grid(
        heads=("transfer", "trainable", *titles),
        shown=tuple(shown),
        values=tuple(values),
        value_heads=("transfer", "trainable_parameters", *heads),
    )


def write_petl_table(summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``petl.md``, ``petl.txt``, ``petl.csv`` and ``petl.tex``.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    folder
        Where the files go.
    """
    table = petl_table(summary)
    notes = "".join(f"- {note}\n" for note in summary.get("notes", []))
    head = "- trainable: numbers of the encoder, without the head\n"
    write_text(folder / f"{PETL_NAME}.md", f"{table.markdown()}\n{head}{notes}")
    write_text(folder / f"{PETL_NAME}.txt", table.text())
    write_text(folder / f"{PETL_NAME}.csv", table.csv())
    write_text(folder / f"{PETL_NAME}.tex", table.latex())
