"""Draw a sweep of several λ: the goal of the choice against each of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINT_COLOUR, BAND_COLOUR, CHOSEN_COLOUR = "#BBBBBB", "#E69F00", "#D55E00"
BASE_COLOUR, AVERAGE_COLOUR = "#333333", "#009E73"
PERCENT = 100.0
LETTERS_AN_INCH = 15


def landscape_figure(summary: Mapping[str, Any]) -> Figure:
    """Return one panel for each λ, with every point's goal on validation.

    Each point is a merge; where several λ change at once, points above each other differ in the
    other λ. The band's points, the chosen one, the base and weight averaging are marked.
    """
    from matplotlib.figure import Figure

    names, selection = summary["space"]["axes"], summary["selection"]
    averages = {row["name"] for row in summary["rows"] if row["weight_average"]}
    figure = Figure(figsize=(2.4 * len(names) + 0.6, 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    kinds = (
        ("points", POINT_COLOUR, ".", lambda point: True),
        ("not told apart from it", BAND_COLOUR, ".", lambda point: bool(point.get("in_band"))),
        ("weight average", AVERAGE_COLOUR, "D", lambda point: point["row"] in averages),
        ("base", BASE_COLOUR, "s", lambda point: point["row"] == "base"),
        ("chosen", CHOSEN_COLOUR, "*", lambda point: point["row"] == selection["row"]),
    )
    for panel, axis in zip(panels, names, strict=True):
        for label, colour, marker, belongs in kinds:
            points = [point for point in selection["curve"] if belongs(point)]
            if points:
                panel.plot(
                    [point["scales"][axis] for point in points],
                    [point["valid"]["mean"] * PERCENT for point in points],
                    marker,
                    color=colour,
                    label=label,
                    markersize=10 if marker == "*" else 5,
                )
        panel.set_xlabel(f"λ of {axis}")
        panel.grid(alpha=0.3, linewidth=0.5)
    panels[0].set_ylabel("goal on validation (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    wide = min(len(labels), max(2, len(names)))
    figure.legend(handles, labels, loc="outside lower center", ncols=wide, frameon=False)
    write_interpolation(figure, summary)
    return figure


def write_interpolation(figure: Figure, summary: Mapping[str, Any]) -> None:
    """Write above a figure from how many λ its features are interpolated, and how far off."""
    if told := interpolation_text(summary):
        wide = int(LETTERS_AN_INCH * figure.get_figwidth())
        lines = [line for part in told.splitlines() for line in textwrap.wrap(part, wide)]
        figure.suptitle("\n".join(lines), fontsize=8)


def interpolation_text(summary: Mapping[str, Any]) -> str:
    """Return from how many λ features were interpolated, and how far off they were; else ""."""
    parts = []
    for found in summary.get("interpolation") or []:
        if not found["tests"]:
            continue
        degree = found["tests"][-1]["degree"]
        last = [
            error
            for place, test in enumerate(found["tests"])
            if test["degree"] == degree or place >= len(found["tests"]) - 2
            for error in test["tasks"].values()
        ]
        mean, largest = max(each["mean"] for each in last), max(each["max"] for each in last)
        said = "interpolated" if found["accepted"] else "not interpolated"
        parts.append(
            f"{said} between {len(found['nodes'])} λ: error at unseen λ {mean:.1e} of the largest "
            f"shift on average, {largest:.1e} at most (tolerance {found['tolerance']:g})"
        )
    return "\n".join(parts)
