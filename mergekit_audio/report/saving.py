"""Save a figure as PNG, SVG and PDF: equal facts give equal bytes, whatever matplotlibrc says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.files import staged_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SETTINGS = {
    "svg.hashsalt": "mergekit_audio",
    "svg.fonttype": "path",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": False,
    "text.usetex": False,
}
PNG_DPI = 150
METADATA: Mapping[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "mergekit_audio"},
    "pdf": {"CreationDate": None, "Creator": "mergekit_audio", "Producer": None},
}
"""What each format would say of date and program."""


def save_figure(draw: Callable[[], Figure], folder: Path, stem: str) -> list[Path]:
    """Write ``<stem>.png``, ``.svg`` and ``.pdf`` and return their paths.

    Parameters
    ----------
    draw
        Returns the figure; called for each format.
    folder, stem
        Where the files go, and their name.
    """
    import matplotlib as mpl

    written = []
    for kind, metadata in METADATA.items():
        path = folder / f"{stem}.{kind}"
        with mpl.rc_context(settings()), staged_file(path) as staging:
            draw().savefig(staging, format=kind, dpi=PNG_DPI, metadata=dict(metadata))
        written.append(path)
    return written


def settings() -> dict[str, Any]:
    """Return matplotlib's own defaults with ours on top."""
    import matplotlib as mpl

    own = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    return {**own, **SETTINGS}
