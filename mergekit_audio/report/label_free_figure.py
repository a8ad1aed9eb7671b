"""Draw the pre-training loss beside the labelled score, both against λ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.files import write_text
from mergekit_audio.report.figures import PERCENT
from mergekit_audio.report.geometry_figure import COLOURS
from mergekit_audio.report.saving import save_figure
from mergekit_audio.report.table import comma_separated

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "label_free"


def write_label_free_figure(summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``label_free.png``, ``.svg``, ``.pdf``, ``.csv`` of a search of one λ without labels.

    Above the validation goal, below the loss of each corpus and their mean; upright lines where the
    labelled choice and the label-free λ are. The same summary gives the same bytes.

    Parameters
    ----------
    summary
        The content of ``summary.json``; without such a search nothing is written.
    """
    found = summary.get("label_free")
    if not found or not found["curve"]:
        return
    save_figure(lambda: _drawn(summary), folder, STEM)
    names = list(found["curve"][0]["losses"])
    rows = [
        (each["scale"], each["loss"], *(each["losses"][name] for name in names))
        for each in found["curve"]
    ]
    lines = comma_separated(["scale", "loss", *(f"loss {name}" for name in names)], rows)
    write_text(folder / f"{STEM}.csv", lines)


def _drawn(summary: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    found = summary["label_free"]
    figure = Figure(figsize=(7.0, 6.0), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    selection = summary["selection"]
    points = [each for each in selection["curve"] if each["scale"] is not None]
    above.plot(
        [each["scale"] for each in points],
        [each["valid"]["mean"] * PERCENT for each in points],
        color=COLOURS[0],
        marker="o",
        markersize=3,
    )
    above.set_ylabel("score on validation, %")
    curve = found["curve"]
    scales = [each["scale"] for each in curve]
    for place, name in enumerate(curve[0]["losses"]):
        below.plot(
            scales,
            [each["losses"][name] - curve[0]["losses"][name] for each in curve],
            color=COLOURS[(place + 1) % len(COLOURS)],
            linewidth=0.8,
            label=name,
        )
    mean = [each["loss"] - curve[0]["loss"] for each in curve]
    below.plot(scales, mean, color="black", linewidth=1.6, label="mean")
    below.set_ylabel("pre-training loss above that at the left end")
    below.set_xlabel("λ")
    marks = [("chosen with labels", selection["scale"], COLOURS[0])]
    shared = found["spaces"].get("shared")
    if shared is not None:
        scale = next(iter(next(iter(shared["scales"].values())).values()))
        marks.append(("label-free", scale, "black"))
    for title, scale, colour in marks:
        if scale is not None:
            for axes in (above, below):
                label = f"{title}: λ = {scale:.3g}" if axes is above else None
                axes.axvline(scale, color=colour, linestyle="--", linewidth=0.8, label=label)
    for axes in (above, below):
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.3, linewidth=0.5)
    return figure
