"""Draw the stability gap: how runs forget while they train, read from their ``log.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.errors import InputError
from mergekit_audio.report.geometry_figure import COLOURS
from mergekit_audio.report.saving import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_NAME = "stability_gap"
FORGETTING = "forgetting"
SCORE, LOSS = "score", "loss"
Curves = Mapping[str, Mapping[str, Any]]


def read_curve(path: Path) -> dict[str, Any]:
    """Return a training's course from its ``log.jsonl``, steps counted through all stages.

    ``loss`` is a list of ``[step, loss]``; ``forgetting[corpus][measure]`` of ``[step, value]``,
    empty where the training had no forgetting probe; ``stages`` of ``{name, first_step}``. Where
    one stage's last model and the next one's first are both probed, the step has two values.

    Parameters
    ----------
    path
        Lines of one stage follow those of the one before; ``step`` counts within a stage. A line
        without ``stage`` belongs to the stage of the line before it. ``forgetting`` in a line is
        ``{corpus: value}`` or ``{corpus: {measure: value}}``.

    Raises
    ------
    InputError
        The log is missing or damaged.
    """
    stages: list[dict[str, Any]] = []
    loss: list[list[float]] = []
    forgetting: dict[str, dict[str, list[list[float]]]] = {}
    first = last = 0
    for line in _lines(path):
        stage = line.get("stage", stages[-1]["name"] if stages else "")
        if not stages or stage != stages[-1]["name"]:
            first = last
            stages.append({"name": stage, "first_step": first})
        step = first + int(line.get("step", 0))
        last = max(last, step)
        if LOSS in line:
            loss.append([step, float(line[LOSS])])
        for corpus, values in line.get(FORGETTING, {}).items():
            measures = values if isinstance(values, dict) else {SCORE: values}
            for measure, value in measures.items():
                course = forgetting.setdefault(corpus, {}).setdefault(measure, [])
                course.append([step, float(value)])
    return {"stages": stages, LOSS: loss, FORGETTING: dict(sorted(forgetting.items()))}


def stability_gaps(curves: Curves) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return, of each run, corpus and measure, how much worse than at its start it ever was.

    ``worst`` is the lowest value (of a loss the highest), ``step`` its step, and
    ``gap = |worst - start|``, 0 when it was never worse; ``end`` is the last value.

    Parameters
    ----------
    curves
        What ``read_curve`` returned, by strategy.
    """
    return {
        name: {
            corpus: {
                measure: _gap(points, -1.0 if measure == LOSS else 1.0)
                for measure, points in measures.items()
            }
            for corpus, measures in curve[FORGETTING].items()
        }
        for name, curve in curves.items()
        if curve[FORGETTING]
    }


def write_stability_figure(curves: Curves, titles: Mapping[str, str], folder: Path) -> list[Path]:
    """Write ``stability_gap.png``, ``.svg`` and ``.pdf``; the same curves give the same bytes.

    A row of panels for each measure of the forgetting probe and a column for each corpus, against
    the optimiser step. Where a run's log holds no such probe, one panel of all runs' training
    losses instead; the figure's title says which of the two it shows. Dotted lines are where a
    stage ends, dashed ones the start.

    Parameters
    ----------
    curves
        What ``read_curve`` returned, by strategy.
    titles
        The strategies' names in the legend; those that are drawn, in their order.
    folder
        Where the files go.
    """
    shown = {name: curves[name] for name in titles}
    return save_figure(lambda: _drawn(shown, titles), folder, FIGURE_NAME)


def _gap(points: Sequence[Sequence[float]], sign: float) -> dict[str, float]:
    start = points[0][1]
    step, worst = min(points, key=lambda point: (sign * point[1], point[0]))
    gap = max(0.0, sign * (start - worst))
    return {"start": start, "worst": worst, "step": step, "gap": gap, "end": points[-1][1]}


def _drawn(curves: Curves, titles: Mapping[str, str]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    probed = _probed(curves)
    corpora = sorted({corpus for corpus, _ in probed})
    measures = sorted({measure for _, measure in probed})
    columns, rows = max(1, len(corpora)), max(1, len(measures))
    figure = Figure(figsize=(max(7.6, 3.2 * columns + 0.8), 2.5 * rows + 1.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True)
    if not probed:
        figure.suptitle("Training loss (the logs hold no forgetting probe)")
        _panel(panels[0][0], {name: curve[LOSS] for name, curve in curves.items()}, curves, titles)
        panels[0][0].set_ylabel("training loss")
    else:
        figure.suptitle("Forgetting while training, by the forgetting probe of the logs")
    for row, measure in enumerate(measures):
        for column, corpus in enumerate(corpora):
            panel = panels[row][column]
            if (corpus, measure) not in probed:
                panel.set_axis_off()
                continue
            points = {name: curve[FORGETTING][corpus][measure] for name, curve in curves.items()}
            panel.set_title(corpus)
            panel.set_ylabel(measure)
            start = next(iter(points.values()))[0][1]
            panel.axhline(start, color="#333333", linestyle="--", linewidth=1)
            _panel(panel, points, curves, titles)
    for panel in panels[-1]:
        panel.set_xlabel("optimiser step")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _probed(curves: Curves) -> list[tuple[str, str]]:
    """Return the corpora and measures that every run's log holds, sorted."""
    held = [
        {(corpus, measure) for corpus, found in curve[FORGETTING].items() for measure in found}
        for curve in curves.values()
    ]
    return sorted(set.intersection(*held))


def _panel(
    panel: Axes,
    points: Mapping[str, Sequence[Sequence[float]]],
    curves: Curves,
    titles: Mapping[str, str],
) -> None:
    for colour, (name, course) in zip(COLOURS, points.items(), strict=False):
        steps = [step for step, _ in course]
        values = [value for _, value in course]
        panel.plot(steps, values, color=colour, linewidth=1, marker=".", markersize=3)
        panel.plot([], [], color=colour, label=titles[name])
        for stage in curves[name]["stages"][1:]:
            panel.axvline(stage["first_step"], color=colour, linestyle=":", linewidth=1)
    panel.grid(axis="y", alpha=0.3, linewidth=0.5)


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: can't read the training's log: {error}", "train that model again"
        ) from error
