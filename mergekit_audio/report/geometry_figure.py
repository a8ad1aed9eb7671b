"""Draw task vectors beside their base: norms and ranks by layer, cosines and sign conflicts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.errors import UsageError
from mergekit_audio.files import staged_file
from mergekit_audio.report.figures import PNG_DPI, SETTINGS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

METADATA: Mapping[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": "mergekit_audio"},
    "pdf": {"CreationDate": None, "Creator": "mergekit_audio", "Producer": None},
}
"""What each format would say of date and program, so that equal facts give equal bytes."""
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_NUMBERS = 8
"""A matrix of more models shows colours only."""
MOST_A_ROW = 6
"""Names of models in one row of the legend."""
MOST_PAIRED = 6
"""Of more models the pairs have no heat map by layer: use the CSV."""
UNKNOWN = "#dddddd"
"""A layer that one of two models did not change has no cosine."""
RELATIONS = (
    ("cosine", "cosine of task vectors", -1.0, "RdBu_r"),
    ("sign_conflict", "share of opposite signs", 0.0, "Purples"),
)
MOST_LAYERS = 45
"""Of more layers only some have their name below."""


def figure_format(path: Path) -> str:
    """Return ``png``, ``svg`` or ``pdf`` from a file's name.

    Raises
    ------
    UsageError
        The name ends otherwise.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in METADATA:
        raise UsageError(
            f"{path}: a figure ends in .png, .svg or .pdf, not in {path.suffix or 'nothing'!r}",
            f"write {path.with_suffix('.png')}",
        )
    return suffix


def write_geometry_figure(value: Mapping[str, Any], path: Path) -> None:
    """Write one page; the same facts give the same bytes.

    Above, by layer: ‖τ‖ / ‖θ_base‖ and, where ranks were computed, the mean effective rank of its
    matrices as a share of the full one. Below, of two models or more: cosines and shares of sign
    conflicts of their task vectors, as heat maps by pair and layer and in all.

    Parameters
    ----------
    value
        What ``weights.inspect.inspect_geometry`` returned.
    path
        Where it goes; its ending is the format.

    Raises
    ------
    UsageError
        The path does not end in ``.png``, ``.svg`` or ``.pdf``.
    """
    import matplotlib as mpl

    kind = figure_format(path)
    own = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context({**own, **SETTINGS}), staged_file(path) as staging:
        _drawn(value).savefig(staging, format=kind, dpi=PNG_DPI, metadata=dict(METADATA[kind]))


def short_names(names: Sequence[str]) -> list[str]:
    """Return the last parts of paths and repo ids, or all as they are where two would be equal."""
    short = [name.rstrip("/").rpartition("/")[2].partition("@")[0] or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def _drawn(value: Mapping[str, Any]) -> Figure:
    from matplotlib.figure import Figure

    relations, pairs = value["relations"], value["pairs"]
    names = short_names(relations["models"])
    curves = [("relative_norm", "‖τ‖ / ‖θ‖ by layer")]
    if any(pair["total"]["effective_rank"] is not None for pair in pairs):
        curves.append(("effective_rank_share", "effective rank / full rank, mean of a layer"))
    with_matrices = len(names) > 1
    maps = RELATIONS if 1 < len(names) <= MOST_PAIRED else ()
    pairs_height = 1.6 + 0.16 * len(names) * (len(names) - 1) / 2
    rows = len(curves) + len(maps) + (1 if with_matrices else 0)
    heights = [2.6] * len(curves) + [pairs_height] * len(maps) + [3.6] * with_matrices
    figure = Figure(figsize=(9.0, sum(heights) + 1.6), layout="constrained")
    grid = figure.add_gridspec(rows, 2, height_ratios=heights)
    shared: Axes | None = None
    for row, (key, title) in enumerate(curves):
        axes = figure.add_subplot(grid[row, :], sharex=shared)
        _curves(axes, value, names, key)
        axes.set_title(title)
        if shared is None:
            shared = axes
        axes.tick_params(labelbottom=row == len(curves) + len(maps) - 1)
    for row, (key, title, low, colours) in enumerate(maps, start=len(curves)):
        axes = figure.add_subplot(grid[row, :], sharex=shared)
        image = _layer_map(axes, relations, names, key, low, colours)
        figure.colorbar(image, ax=axes, pad=0.01)
        axes.set_title(f"{title}, by layer")
        axes.tick_params(labelbottom=row == len(curves) + len(maps) - 1)
    if with_matrices:
        for column, (key, title, low, colours) in enumerate(RELATIONS):
            axes = figure.add_subplot(grid[rows - 1, column])
            image = _matrix(axes, relations[key], names, low, colours)
            figure.colorbar(image, ax=axes, shrink=0.8)
            axes.set_title(title)
    figure.suptitle(_headline(value, names))
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(MOST_A_ROW, len(names)),
        frameon=False,
    )
    return figure


def _headline(value: Mapping[str, Any], names: Sequence[str]) -> str:
    suggestion, relations = value["suggestion"], value["relations"]
    base = short_names([relations["base"]])[0]
    told = f"{len(names)} model{'s' if len(names) > 1 else ''} beside {base}"
    if suggestion["low"] is None:
        return told
    size = f"‖Σ τ‖ = {suggestion['growth']:.2f} · mean ‖τ‖"
    if len(names) == 1:
        size = f"‖τ‖ = {suggestion['sum_norm']:.3g}"
    return f"{told}: {size}, λ from {suggestion['low']:.3g} to {suggestion['high']:.3g}"


def _curves(axes: Axes, value: Mapping[str, Any], names: Sequence[str], key: str) -> None:
    """Draw one line a model, broken where another part of the model begins."""
    layers = value["relations"]["layer_order"]
    part_of = {group["name"]: group["part"] for group in value["relations"]["groups"]}
    starts = [at for at in range(1, len(layers)) if part_of[layers[at]] != part_of[layers[at - 1]]]
    for place, (name, pair) in enumerate(zip(names, value["pairs"], strict=True)):
        by_layer = {group["name"]: group[key] for group in pair["groups"]}
        heights = [math.nan if by_layer[one] is None else by_layer[one] for one in layers]
        for begin, end in itertools.pairwise([0, *starts, len(layers)]):
            axes.plot(
                range(begin, end),
                heights[begin:end],
                color=COLOURS[place % len(COLOURS)],
                marker=MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
                markersize=4,
                linewidth=1,
                label=name if begin == 0 else None,
            )
    for start in starts:
        axes.axvline(start - 0.5, color="#cccccc", linewidth=0.6)
    _name_layers(axes, layers)
    axes.set_ylim(0, 1.05 if key.endswith("_share") else None)
    axes.grid(axis="y", alpha=0.3, linewidth=0.5)


def _name_layers(axes: Axes, layers: Sequence[str]) -> None:
    step = max(1, -(-len(layers) // MOST_LAYERS))
    places = list(range(0, len(layers), step))
    axes.set_xticks(places, [layers[at] for at in places], rotation=90, fontsize=6.5)


def _layer_map(
    axes: Axes,
    relations: Mapping[str, Any],
    names: Sequence[str],
    key: str,
    low: float,
    colours: str,
) -> AxesImage:
    """Draw a row for each pair of models and a column for each layer; grey where none is known."""
    import matplotlib as mpl

    order = relations["layer_order"]
    layers = {group["name"]: group[key] for group in relations["groups"]}
    pairs = list(itertools.combinations(range(len(names)), 2))
    values = [
        [math.nan if layers[one][i][j] is None else layers[one][i][j] for one in order]
        for i, j in pairs
    ]
    shades = mpl.colormaps[colours].with_extremes(bad=UNKNOWN)
    image = axes.imshow(values, cmap=shades, vmin=low, vmax=1.0, aspect="auto")
    _name_layers(axes, order)
    axes.set_yticks(range(len(pairs)), [f"{names[i]} · {names[j]}" for i, j in pairs], fontsize=6.5)
    return image


def _matrix(
    axes: Axes,
    table: Sequence[Sequence[float | None]],
    names: Sequence[str],
    low: float,
    colours: str,
) -> AxesImage:
    values = [[math.nan if cell is None else cell for cell in row] for row in table]
    image = axes.imshow(values, cmap=colours, vmin=low, vmax=1.0)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(places, names)
    if len(names) <= MOST_NUMBERS:
        for row, cells in enumerate(table):
            for column, cell in enumerate(cells):
                ink = "white" if cell is not None and abs(cell) > 0.6 else "black"
                text = "–" if cell is None else f"{cell:.2f}".replace("-0.00", "0.00")
                axes.text(column, row, text, ha="center", va="center", color=ink)
    return image
