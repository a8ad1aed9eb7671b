"""Draw the stability gap: how runs forget while they train, read from their ``log.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_file
from mergekit_audio.report.figures import PNG_DPI, SETTINGS
from mergekit_audio.report.geometry_figure import COLOURS, METADATA

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE_NAME = "stability_gap"
FORGETTING = "forgetting"


def read_curve(path: Path) -> dict[str, Any]:
    """Return a training's course from its ``log.jsonl``, steps counted through all stages.

    ``loss`` is a list of ``[step, loss]``; ``forgetting[task]`` of ``[step, score]``, empty where
    the training had no forgetting probe; ``stages`` is a list of ``{name, first_step}``.

    Parameters
    ----------
    path
        Lines of one stage follow those of the one before; ``step`` counts within a stage. A line
        without ``stage`` belongs to the stage of the line before it.

    Raises
    ------
    InputError
        The log is missing or damaged.
    """
    stages: list[dict[str, Any]] = []
    loss: list[list[float]] = []
    forgetting: dict[str, list[list[float]]] = {}
    first = last = 0
    for line in _lines(path):
        stage = line.get("stage", stages[-1]["name"] if stages else "")
        if not stages or stage != stages[-1]["name"]:
            first = last
            stages.append({"name": stage, "first_step": first})
        step = first + int(line["step"])
        last = max(last, step)
        if "loss" in line:
            loss.append([step, float(line["loss"])])
        for task, score in line.get(FORGETTING, {}).items():
            forgetting.setdefault(task, []).append([step, float(score)])
    return {"stages": stages, "loss": loss, FORGETTING: dict(sorted(forgetting.items()))}


def stability_gaps(curves: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, of each run and task, how far the score fell below the first one while training.

    ``drop = start - min(score)``, with the step of the lowest score and the score at the end.

    Parameters
    ----------
    curves
        What ``read_curve`` returned, by strategy.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, curve in curves.items():
        for task, points in curve[FORGETTING].items():
            start, end = points[0][1], points[-1][1]
            step, lowest = min(points, key=lambda point: (point[1], point[0]))
            gap = {"start": start, "drop": start - lowest, "step": step, "end": end}
            found.setdefault(name, {})[task] = gap
    return found


def write_stability_figure(
    curves: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], folder: Path
) -> list[Path]:
    """Write ``stability_gap.png`` and ``.svg``; the same curves give the same bytes.

    One panel for each task of the forgetting probe, with the score against the optimiser step.
    Where a run's log holds no such probe, one panel of all runs' training losses instead; the
    figure's title says which of the two it shows. Dotted lines are where a stage ends.

    Parameters
    ----------
    curves
        What ``read_curve`` returned, by strategy.
    titles
        The strategies' names in the legend; those that are drawn, in their order.
    folder
        Where the two files go.
    """
    import matplotlib as mpl

    own = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    written = []
    for kind in ("png", "svg"):
        path = folder / f"{FIGURE_NAME}.{kind}"
        with mpl.rc_context({**own, **SETTINGS}), staged_file(path) as staging:
            figure = _drawn({name: curves[name] for name in titles}, titles)
            figure.savefig(staging, format=kind, dpi=PNG_DPI, metadata=METADATA[kind])
        written.append(path)
    return written


def _drawn(curves: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    probed = [set(curve[FORGETTING]) for curve in curves.values()]
    tasks = sorted(set.intersection(*probed))
    figure = Figure(figsize=(3.4 * max(1, len(tasks)) + 1.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(1, len(tasks)), squeeze=False)[0]
    if tasks:
        figure.suptitle("Forgetting while training: scores of the forgetting probe")
    else:
        figure.suptitle("Training loss (the logs hold no forgetting probe)")
    for panel, task in zip(panels, tasks or [None], strict=True):
        for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
            points = curve["loss"] if task is None else curve[FORGETTING][task]
            steps, values = zip(*points, strict=True) if points else ((), ())
            panel.plot(steps, values, color=colour, marker=".", linewidth=1, label=titles[name])
            for stage in curve["stages"][1:]:
                panel.axvline(stage["first_step"], color=colour, linestyle=":", linewidth=1)
        _finish(panel, task, curves)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _finish(panel: Axes, task: str | None, curves: Mapping[str, Mapping[str, Any]]) -> None:
    panel.set_xlabel("optimiser step")
    panel.grid(axis="y", alpha=0.3, linewidth=0.5)
    if task is None:
        panel.set_ylabel("training loss")
        return
    panel.set_title(task)
    panel.set_ylabel("score")
    starts = [curve[FORGETTING][task][0] for curve in curves.values()]
    before = [score for step, score in starts if step == 0]
    if before:
        panel.axhline(before[0], color="#333333", linestyle="--", linewidth=1, label="base")


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: can't read the training's log: {error}", "train that model again"
        ) from error
