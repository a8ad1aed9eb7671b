"""The cross-cultural transfer matrix: every model on every task, with differences from the base."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.files import write_text
from mergekit_audio.report.differences import SIGNIFICANT, significant_columns
from mergekit_audio.report.saving import save_figure
from mergekit_audio.report.table import PERCENT, Grid
from mergekit_audio.report.tables import METRIC_TITLES, table_rows, task_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_NAME = "transfer"
SMALLEST_RANGE = 0.1
"""Points: where all models are equal, colours still need a range."""
DARK = 0.6
"""Above this share of the range numbers are white."""
MEAN = "mean"


def transfer_table(summary: Mapping[str, Any]) -> Grid:
    """Return a row for each model and task: each metric, their mean, and both less the reference's.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    """
    reference = _reference(summary)
    marked = significant_columns(summary)
    shown, values = [], []
    for title, row in table_rows(summary):
        for task in [task["name"] for task in summary["tasks"]]:
            for metric in [*task_metrics(summary, task), MEAN]:
                score = _score(summary, row, task, metric)
                gain = score - _score(summary, reference, task, metric)
                sure = (row["name"], ("scores", task, "test", metric)) in marked
                name = METRIC_TITLES.get(metric, metric)
                numbers = f"{score * PERCENT:.1f}", f"{gain * PERCENT:+.1f}"
                shown.append((title, task, name, numbers[0], numbers[1] + SIGNIFICANT * sure))
                values.append((title, task, metric, score, gain))
    heads = ("model", "task", "metric", "score", "difference")
    return Grid((*heads[:4], f"less {reference['name']}"), tuple(shown), tuple(values), heads)


def write_transfer_figure(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``transfer.png``, ``.svg``, ``.pdf``, ``.csv``; the same summary gives the same bytes.

    A row for each model and a column for each task; the number is the mean of the task's metrics on
    the test split in percent, below it the difference from the reference, which is the colour too.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    folder
        Where the files go.

    References
    ----------
    arXiv 2506.17818, Figure 2.
    """
    written = save_figure(lambda: _drawn(summary), folder, FIGURE_NAME)
    table = folder / f"{FIGURE_NAME}.csv"
    write_text(table, transfer_table(summary).csv())
    return [*written, table]


def _drawn(summary: Mapping[str, Any]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = table_rows(summary)
    tasks = [task["name"] for task in summary["tasks"]]
    reference = _reference(summary)
    scores = [[_score(summary, row, task, MEAN) * PERCENT for task in tasks] for _, row in rows]
    base = [_score(summary, reference, task, MEAN) * PERCENT for task in tasks]
    gains = [[s - b for s, b in zip(line, base, strict=True)] for line in scores]
    reach = max(SMALLEST_RANGE, *(abs(gain) for line in gains for gain in line))
    figure = Figure(figsize=(1.3 * len(tasks) + 3.2, 0.55 * len(rows) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(gains, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto")
    for line, (_, row) in enumerate(rows):
        for column in range(len(tasks)):
            gain = gains[line][column]
            below = "" if row["name"] == reference["name"] else f"\n({gain:+.1f})"
            colour = "white" if abs(gain) > DARK * reach else "black"
            axes.text(
                column,
                line,
                f"{scores[line][column]:.1f}{below}",
                ha="center",
                va="center",
                color=colour,
            )
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Mean of each task's metrics on the test split (%)")
    figure.colorbar(image, ax=axes, label=f"difference from {reference['name']} (points)")
    return figure


def _reference(summary: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row that others are compared with: as the summary says, else the first."""
    rows: list[Mapping[str, Any]] = list(summary["rows"])
    name = summary.get("reference") or rows[0]["name"]
    return next(row for row in rows if row["name"] == name)


def _score(summary: Mapping[str, Any], row: Mapping[str, Any], task: str, metric: str) -> float:
    found = row["scores"][task]["test"]
    if metric != MEAN:
        return float(found[metric]["mean"])
    return statistics.fmean(found[each]["mean"] for each in task_metrics(summary, task))
