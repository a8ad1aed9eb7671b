"""Write every table and figure of a summary beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_json, write_text
from mergekit_audio.report.data import write_data
from mergekit_audio.report.differences import difference_table
from mergekit_audio.report.figures import write_score_figure
from mergekit_audio.report.labels import label_lines, label_table
from mergekit_audio.report.tables import main_table, table_notes
from mergekit_audio.report.transfer_figure import write_transfer_figure


def write_tables(summary: Mapping[str, Any], folder: Path) -> None:
    """Write the main table, the differences, each label's scores, and the two figures.

    ``table.md`` and ``.txt`` (with notes and differences), ``.csv``, ``.tex``, ``.json``; where
    models were compared ``differences.csv`` and ``.tex``; ``labels.md`` and ``labels.csv``;
    ``scores.png``, ``.svg`` and ``.pdf``, with the data of a sweep's in ``curve.csv`` or
    ``landscape.csv`` and ``trials.csv``; of two models or more ``transfer`` in the same formats.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    folder
        Where the files go.
    """
    table, notes = main_table(summary), table_notes(summary)
    differences = difference_table(summary)
    told = "\n" + "".join(f"- {note}\n" for note in notes)
    markdown, text = table.markdown() + told, table.text() + told
    if differences is not None:
        markdown += f"\n{differences.markdown()}"
        text += f"\n{differences.text()}"
        write_text(folder / "differences.csv", differences.csv())
        write_text(folder / "differences.tex", differences.latex())
    write_text(folder / "table.md", markdown)
    write_text(folder / "table.txt", text)
    write_text(folder / "table.csv", table.csv())
    write_text(folder / "table.tex", table.latex())
    held = {"table": table.as_dict(), "notes": notes}
    write_json(
        folder / "table.json",
        held if differences is None else {**held, "differences": differences.as_dicts()},
    )
    _write_labels(summary, folder)
    write_score_figure(summary, folder)
    write_data(summary, folder)
    if len(summary["rows"]) > 1:
        write_transfer_figure(summary, folder)


def _write_labels(summary: Mapping[str, Any], folder: Path) -> None:
    tables = {task["name"]: label_table(summary, task["name"]) for task in summary["tasks"]}
    parts = [
        f"## {task}\n\n{table.markdown()}" for task, table in tables.items() if table is not None
    ]
    if parts:
        write_text(folder / "labels.md", "\n".join(parts))
        write_text(folder / "labels.csv", label_lines(summary))
