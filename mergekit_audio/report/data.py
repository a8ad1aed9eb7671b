"""Write what a sweep's figures show as CSV: the points of the choice, and a search's trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.files import write_text
from mergekit_audio.report.table import comma_separated
from mergekit_audio.report.tables import task_metrics

CURVE_NAME, LANDSCAPE_NAME, TRIALS_NAME = "curve.csv", "landscape.csv", "trials.csv"


def write_data(summary: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write ``curve.csv`` (of several λ ``landscape.csv``) and ``trials.csv`` of a search.

    An evaluation has neither: the numbers of its figure are in ``table.csv``.

    Parameters
    ----------
    summary
        The content of ``summary.json``.
    folder
        Where the files go.
    """
    written = []
    if summary.get("selection"):
        several = len((summary.get("space") or {}).get("axes") or ["λ"]) > 1
        written.append(folder / (LANDSCAPE_NAME if several else CURVE_NAME))
        write_text(written[-1], points_csv(summary))
    if summary.get("search"):
        written.append(folder / TRIALS_NAME)
        write_text(written[-1], trials_csv(summary))
    return written


def points_csv(summary: Mapping[str, Any]) -> str:
    """Return a line for each point of the choice: λ, goal, band, and each task's scores.

    ``low`` and ``high`` are the interval of the chosen goal less this point's. What is not known is
    empty; scores are from 0 to 1.
    """
    selection = summary["selection"]
    rows = {row["name"]: row for row in summary["rows"]}
    axes = list((summary.get("space") or {}).get("axes") or ["λ"])
    parameters = list(dict.fromkeys(k for p in selection["curve"] for k in p.get("parameters", {})))
    columns = [
        (task["name"], metric)
        for task in summary["tasks"]
        for metric in task_metrics(summary, task["name"])
    ]
    lines = []
    for point in selection["curve"]:
        scales = point.get("scales") or {}
        places = [scales.get(axis, point["scale"]) for axis in axes]
        held = [(point.get(split) or {}).get(key) for split in ("valid", "test") for key in _SPREAD]
        scores = [
            rows[point["row"]]["scores"][task].get(split, {}).get(metric, {}).get("mean")
            for task, metric in columns
            for split in ("valid", "test")
        ]
        own = [(point.get("parameters") or {}).get(name) for name in parameters]
        flags = [
            point["row"] == selection["row"],
            bool(point.get("interpolated")),
            point.get("in_band"),
            point.get("low"),
            point.get("high"),
        ]
        lines.append([point["row"], *places, *own, *held, *flags, *scores])
    heads = ["point", *(f"scale {axis}" for axis in axes), *parameters]
    heads += [f"goal {split} {key}" for split in ("valid", "test") for key in _SPREAD]
    heads += ["chosen", "interpolated", "in_band", "low", "high"]
    heads += [f"{task} {metric} {split}" for task, metric in columns for split in ("valid", "test")]
    return comma_separated(heads, lines)


def trials_csv(summary: Mapping[str, Any]) -> str:
    """Return a line for each trial of a search: λ, values, and whether it is on the front."""
    search = summary["search"]
    goals = search.get("goals") or ["goal"]
    front = {trial["row"] for trial in search.get("pareto_front") or []}
    lines = [
        [
            trial["number"],
            trial["row"],
            *(trial["scales"][axis] for axis in search["axes"]),
            *(list(trial["values"]) + [None] * len(goals))[: len(goals)],
            trial.get("share"),
            trial["row"] in front if front else None,
        ]
        for trial in search["trials"]
    ]
    heads = ["number", "point", *(f"scale {axis}" for axis in search["axes"]), *goals]
    return comma_separated([*heads, "share_of_tracks", "on_front"], lines)


_SPREAD = ("mean", "std")
