"""Draw scores: against λ for a sweep (the paper's Figure 4), one row a model for an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.report.landscape_figure import landscape_figure, write_interpolation
from mergekit_audio.report.saving import PNG_DPI as PNG_DPI
from mergekit_audio.report.saving import SETTINGS as SETTINGS
from mergekit_audio.report.saving import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRIC_TITLES = {
    "roc_auc": "ROC-AUC",
    "average_precision": "AP",
    "accuracy": "accuracy",
    "weighted_score": "weighted key score",
    "accuracy_1": "Accuracy 1",
    "r2": "R²",
}
PERCENT = 100.0
TEST_COLOUR, VALID_COLOUR, BASE_COLOUR = "#0072B2", "#777777", "#333333"
AVERAGE_COLOUR, CHOSEN_COLOUR = "#009E73", "#D55E00"
STYLES = ("-", "--", "-.", ":")


def write_score_figure(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``scores.png``, ``.svg`` and ``.pdf``; the same summary gives the same bytes.

    Parameters
    ----------
    summary
        The content of ``summary.json`` of a sweep or an evaluation.
    folder
        Where the files go.

    References
    ----------
    arXiv 2506.17818, Figure 4.
    """
    return save_figure(lambda: _drawn(summary), folder, "scores")


def _drawn(summary: Mapping[str, Any]) -> Figure:
    if not summary.get("selection"):
        return _model_figure(summary)
    if len((summary.get("space") or {}).get("axes", "λ")) > 1:
        return landscape_figure(summary)
    return _scale_figure(summary)


def _scale_figure(summary: Mapping[str, Any]) -> Figure:
    """One column for each task and one for the average; one row for each metric."""
    from matplotlib.figure import Figure

    names = [task["name"] for task in summary["tasks"]]
    columns: list[str | None] = [*names, None] if len(names) > 1 else [*names]
    lines = max(len(_metrics(summary, task)) for task in columns)
    size = (2.2 * len(columns) + 0.6, 2.6 * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, len(columns), squeeze=False, sharex=True)
    for column, task in enumerate(columns):
        metrics = _metrics(summary, task)
        for row in range(lines):
            panel = axes[row][column]
            if row >= len(metrics):
                panel.set_axis_off()
                continue
            _scale_panel(panel, summary, task, metrics[row])
            if row == 0:
                panel.set_title(task or "average of tasks")
            if row == len(metrics) - 1:
                panel.set_xlabel("λ")
            if column == 0 or metrics[row:] != _metrics(summary, columns[0])[row:]:
                panel.set_ylabel(f"{METRIC_TITLES[metrics[row]]} (%)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    wide = min(len(columns), len(handles))
    figure.legend(handles, labels, loc="outside lower center", ncols=wide, frameon=False)
    write_interpolation(figure, summary)
    return figure


def _scale_panel(axes: Axes, summary: Mapping[str, Any], task: str | None, metric: str) -> None:
    """Draw validation against λ, what was scored on test, and the λ that can't be told apart."""
    rows, selection = summary["rows"], summary["selection"]
    for place, (name, curve) in enumerate(_curves(rows)):
        scales = [row["scale"] for row in curve]
        spreads = [_spread(summary, row, task, "valid", metric) for row in curve]
        style = STYLES[place % len(STYLES)]
        label = ", ".join(["validation (± std over seeds)", *name])
        axes.plot(scales, [mean for mean, _ in spreads], style, color=VALID_COLOUR, label=label)
        low = [mean - std for mean, std in spreads]
        high = [mean + std for mean, std in spreads]
        axes.fill_between(scales, low, high, color=VALID_COLOUR, alpha=0.2, linewidth=0)
        direct = [i for i, row in enumerate(curve) if not row.get("interpolated")]
        axes.plot(
            [scales[i] for i in direct], [spreads[i][0] for i in direct], ".", color=VALID_COLOUR
        )
    tested = [row for row in rows if _on_curve(row) and "test" in row["averages"]]
    spreads = [_spread(summary, row, task, "test", metric) for row in tested]
    axes.errorbar(
        [row["scale"] for row in tested],
        [mean for mean, _ in spreads],
        yerr=[std for _, std in spreads],
        fmt="o",
        color=TEST_COLOUR,
        markersize=4,
        label="test (± std over seeds)",
    )
    base = next(row for row in rows if row["kind"] == "base")
    level = _spread(summary, base, task, "test", metric)[0]
    axes.axhline(level, color=BASE_COLOUR, linestyle="--", linewidth=1, label="base, test")
    for row in rows:
        if row["weight_average"]:
            mean = _spread(summary, row, task, "test", metric)[0]
            _mark_weight_average(axes, row, mean)
    chosen = selection["scale"]
    axes.axvline(
        chosen, color=CHOSEN_COLOUR, linewidth=1, alpha=0.7, label=f"chosen λ = {chosen:g}"
    )
    _draw_band(axes, selection)
    axes.grid(axis="y", alpha=0.3, linewidth=0.5)


def _draw_band(axes: Axes, selection: Mapping[str, Any]) -> None:
    band = selection.get("band") or {}
    for place, (low, high) in enumerate(band.get("runs") or []):
        label = (
            f"not told apart from it ({PERCENT * band['confidence']:g} %)" if place == 0 else None
        )
        half = 0.004 * (selection["curve"][-1]["scale"] - selection["curve"][0]["scale"])
        axes.axvspan(low - half, high + half, color=CHOSEN_COLOUR, alpha=0.12, lw=0, label=label)


def _on_curve(row: Mapping[str, Any]) -> bool:
    return row["scale"] is not None and bool(row["in_grid"])


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[tuple[list[str], list[Mapping[str, Any]]]]:
    """Return a curve in rising λ for each variant of the method; the base is part of all."""
    variants: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if _on_curve(row) and row["kind"] == "merge":
            values = (row.get("parameters") or {}).items()
            name = ", ".join(f"{key} = {value}" for key, value in values)
            variants.setdefault(name, []).append(row)
    shared = [row for row in rows if _on_curve(row) and row["kind"] != "merge"]
    return [
        ([name] if name else [], sorted([*shared, *own], key=lambda row: row["scale"]))
        for name, own in (variants or {"": []}).items()
    ]


def _mark_weight_average(axes: Axes, row: Mapping[str, Any], mean: float) -> None:
    if row["scale"] is None:
        axes.axhline(
            mean, color=AVERAGE_COLOUR, linestyle="-.", linewidth=1, label="weight average"
        )
        return
    label = f"weight average, λ = {row['scale']:g}"
    axes.plot(
        [row["scale"]], [mean], "D", color=AVERAGE_COLOUR, markersize=6, zorder=3, label=label
    )


def _model_figure(summary: Mapping[str, Any]) -> Figure:
    """One column for each task; a dot with a bar of one standard deviation for each model."""
    from matplotlib.figure import Figure

    tasks = [task["name"] for task in summary["tasks"]]
    rows: Sequence[Mapping[str, Any]] = summary["rows"]
    lines = max(len(_metrics(summary, task)) for task in tasks)
    size = (2.2 * len(tasks) + 1.6, lines * (0.9 + 0.28 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, len(tasks), squeeze=False, sharey=True)
    places = list(range(len(rows)))
    for line in range(lines):
        for column, task in enumerate(tasks):
            panel = axes[line][column]
            if line >= len(_metrics(summary, task)):
                panel.set_axis_off()
                continue
            metric = _metrics(summary, task)[line]
            spreads = [_spread(summary, row, task, "test", metric) for row in rows]
            panel.errorbar(
                [mean for mean, _ in spreads],
                places,
                xerr=[std for _, std in spreads],
                fmt="o",
                color=TEST_COLOUR,
                markersize=4,
                capsize=2,
            )
            panel.grid(axis="x", alpha=0.3, linewidth=0.5)
            panel.set_xlabel(f"{METRIC_TITLES[metric]} (%)")
            if line == 0:
                panel.set_title(task)
        axes[line][0].set_yticks(places, [row["name"] for row in rows])
        axes[line][0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _metrics(summary: Mapping[str, Any], task: str | None) -> list[str]:
    """Return the metrics of a task, or those that the average of all tasks has, in our order."""
    row = summary["rows"][0]
    held = row["task_averages"]["test"] if task is None else row["scores"][task]["test"]
    return [metric for metric in METRIC_TITLES if metric in held]


def _spread(
    summary: Mapping[str, Any], row: Mapping[str, Any], task: str | None, split: str, metric: str
) -> tuple[float, float]:
    """Return mean and standard deviation in percent; of all tasks when ``task`` is ``None``."""
    if task is not None:
        found = row["scores"][task][split][metric]
    else:
        found = row["task_averages"][split][metric]
    return found["mean"] * PERCENT, (found["std"] or 0.0) * PERCENT
