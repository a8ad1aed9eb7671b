"""Draw the divergences between corpora as heat maps (the paper's Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.report.saving import save_figure
from mergekit_audio.report.similarity import TITLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEM = "similarity"


def write_similarity_figure(summary: Mapping[str, Any], folder: Path) -> None:
    """Write ``similarity.png``, ``.svg`` and ``.pdf``; the same summary gives the same bytes.

    Parameters
    ----------
    summary
        The content of ``summary.json``.

    References
    ----------
    arXiv 2506.17818, Figure 3.
    """
    save_figure(lambda: _drawn(summary), folder, STEM)


def _drawn(summary: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    names = [each["name"] for each in summary["corpora"]]
    side = 1.6 + 0.7 * len(names)
    figure = Figure(figsize=(2 * side + 0.8, side), layout="constrained")
    for axes, (measure, title) in zip(figure.subplots(1, 2), TITLES.items(), strict=True):
        values = summary["measures"][measure]["values"]
        highest = max(max(row) for row in values) or 1.0
        image = axes.imshow(values, cmap="viridis_r", vmin=0.0, vmax=highest)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                ink = "white" if value > 0.5 * highest else "black"
                text = "–" if i == j else f"{value:.3f}"
                axes.text(j, i, text, ha="center", va="center", color=ink, fontsize=8)
        axes.set_title(title)
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure
