"""Draw a landscape of several λ: the goal along each of them, and the best of each pair."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.landscape_figure import interpolation_text
from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    details,
    element,
    figure,
    joined,
    paragraph,
    table,
    text,
)
from mergekit_audio.report.page.reading import POINTS, Summary, place_words
from mergekit_audio.report.page.svg import (
    Axis,
    Panel,
    decimals,
    drawing,
    label,
    legend,
    line,
    marker,
    number,
    place,
)

MOST_LEVELS, BINS = 9, 6
MOST_AXES = 6
"""With more λ there are too many pairs to draw."""
BEST_LISTED = 10
Point = Mapping[str, Any]


def slices_section(summary: Summary, *, key: str = "landscape") -> Section | None:
    """Return the landscape of a sweep with several λ; ``None`` with one.

    Parameters
    ----------
    key
        The section's id, and the beginning of its figures'.
    """
    axes = list((summary.get("space") or {}).get("axes") or [])
    selection = summary.get("selection")
    if len(axes) < 2 or not selection:
        return None
    points = [point for point in selection["curve"] if point.get("scales")]
    if len(points) < 3:
        return None
    between = sum(bool(point.get("interpolated")) for point in points)
    told = (
        f"{len(points)} points, {between} of them on interpolated features. {_shown(axes)} "
        f"{_sentence(interpolation_text(summary))}"
    )
    parts = [paragraph(told), _slices(summary, points, axes, key)]
    if len(axes) <= MOST_AXES:
        parts += [element("h3", "Pairs of λ"), _pairs(summary, points, axes, key)]
    parts.append(
        details(
            f"The {min(BEST_LISTED, len(points))} best points", _best_table(summary, points, axes)
        )
    )
    return Section(key, "The landscape of λ", joined(parts))


def bins(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the levels of an axis as ``(λ, λ)``, or even bins where there are too many."""
    levels = sorted(set(values))
    if len(levels) <= MOST_LEVELS:
        return [(level, level) for level in levels]
    low, high = levels[0], levels[-1]
    edges = [low + (high - low) * each / BINS for each in range(BINS + 1)]
    return list(itertools.pairwise(edges))


def bin_of(value: float, held: Sequence[tuple[float, float]]) -> int:
    """Return the place of a value's level or bin."""
    lows = [low for low, _ in held]
    return max(0, bisect.bisect_right(lows, value + 1e-12) - 1)


def best_of_pairs(
    points: Sequence[Point], first: str, second: str
) -> tuple[list[tuple[float, float]], list[tuple[float, float]], dict[tuple[int, int], Point]]:
    """Return the bins of two λ, and of each cell that has points the best one."""
    columns = bins([point["scales"][first] for point in points])
    rows = bins([point["scales"][second] for point in points])
    found: dict[tuple[int, int], Point] = {}
    for point in points:
        cell = (
            bin_of(point["scales"][first], columns),
            bin_of(point["scales"][second], rows),
        )
        known = found.get(cell)
        if known is None or point["valid"]["mean"] > known["valid"]["mean"]:
            found[cell] = point
    return columns, rows, found


def _shown(axes: Sequence[str]) -> str:
    return f"Points above each other differ in the other {len(axes) - 1} λ."


def _sentence(words: str) -> str:
    return f"Features: {words}." if words else ""


def _slices(summary: Summary, points: Sequence[Point], axes: Sequence[str], key: str) -> Markup:
    goals = [point["valid"]["mean"] * POINTS for point in points]
    chosen = summary["selection"]["row"]
    averages = {row["name"] for row in summary["rows"] if row["weight_average"]}
    parts = []
    for at, axis in enumerate(axes):
        scales = [point["scales"][axis] for point in points]
        panel = Panel.of(scales, goals, width=300, height=230, left=52, bottom=44)
        drawn = panel.frame(f"λ of {axis}", "goal on validation, points", ticks=4)
        order = sorted(points, key=lambda point: _rank(point, chosen, averages))
        best = _envelope(points, axis)
        drawn.append(panel.curve(best, "valid"))
        for point in order:
            x, y = point["scales"][axis], point["valid"]["mean"] * POINTS
            kind, shape, size = _sign(point, chosen, averages)
            drawn.append(panel.mark(x, y, kind, f"{point['row']}: {y:.2f}", shape=shape, size=size))
        x, y = max(best, key=lambda each: each[1])
        said = f"{len(points)} points; the best is {y:.2f} points at λ of {axis} = {x:.3g}."
        title = f"Goal on validation against λ of {axis}"
        parts.append(f"<div>{drawing(f'{key}-{at}', title, said, 300, 230, drawn)}</div>")
    signs = legend(
        [
            (marker(13, 7, "plain", size=3), "a point"),
            (marker(13, 7, "inside", size=3.5), "can't be told apart from the chosen"),
            (marker(13, 7, "chosen", "star", 5), "chosen"),
            (marker(13, 7, "average", "diamond"), "weight average"),
            (marker(13, 7, "base", "square"), "base"),
            (line(0, 7, 26, 7, "line valid"), "best at that λ"),
        ]
    )
    caption = (
        "Slices: the goal on validation against each λ. The line joins the best points of each λ "
        "(or of each sixth of its range), whatever the other λ are."
    )
    data = details("The numbers of these panels", _slice_tables(points, axes))
    return figure(Markup(f'<div class="many">{"".join(parts)}</div>'), caption, data, signs)


def _envelope(points: Sequence[Point], axis: str) -> list[tuple[float, float]]:
    """Return λ and goal of the best point of each bin, in rising λ."""
    held = bins([point["scales"][axis] for point in points])
    best: dict[int, Point] = {}
    for point in points:
        cell = bin_of(point["scales"][axis], held)
        if cell not in best or point["valid"]["mean"] > best[cell]["valid"]["mean"]:
            best[cell] = point
    return sorted((p["scales"][axis], p["valid"]["mean"] * POINTS) for p in best.values())


def _rank(point: Point, chosen: str, averages: set[str]) -> int:
    kinds = ["plain", "inside", "base", "average", "chosen"]
    return kinds.index(_sign(point, chosen, averages)[0])


def _sign(point: Point, chosen: str, averages: set[str]) -> tuple[str, str, float]:
    if point["row"] == chosen:
        return "chosen", "star", 6
    if point["row"] in averages:
        return "average", "diamond", 4.5
    if point["row"] == "base":
        return "base", "square", 4.5
    return ("inside", "circle", 2.8) if point.get("in_band") else ("plain", "circle", 2.2)


def _slice_tables(points: Sequence[Point], axes: Sequence[str]) -> Markup:
    return joined(
        table(
            f"Best goal along λ of {axis}",
            [f"λ of {axis}", "goal on validation, points"],
            [[f"{x:.4g}", f"{y:.2f}"] for x, y in _envelope(points, axis)],
        )
        for axis in axes
    )


def _pairs(summary: Summary, points: Sequence[Point], axes: Sequence[str], key: str) -> Markup:
    goals = [point["valid"]["mean"] for point in points]
    low, high = min(goals), max(goals)
    maps, tables = [], []
    for at, (first, second) in enumerate(itertools.combinations(axes, 2)):
        columns, rows, found = best_of_pairs(points, first, second)
        shown = _map(summary, (first, second), columns, rows, found, (low, high))
        best = max(found.values(), key=lambda point: float(point["valid"]["mean"]))
        said = (
            f"Darker is better. The best cell holds λ of {first} = "
            f"{best['scales'][first]:.3g}, of {second} = {best['scales'][second]:.3g} with "
            f"{best['valid']['mean'] * POINTS:.2f} points."
        )
        title = f"Best goal by λ of {first} and of {second}"
        maps.append(f"<div>{drawing(f'{key}-pair-{at}', title, said, 300, 270, shown)}</div>")
        tables.append(_pair_table((first, second), columns, rows, found))
    caption = (
        f"Each cell is the best goal found there, from {low * POINTS:.1f} (pale) to "
        f"{high * POINTS:.1f} points (dark), whatever the other λ are; the framed cell holds the "
        "chosen point, and cells with a dashed frame no point."
    )
    grid = Markup(f'<div class="many">{"".join(maps)}</div>')
    return figure(grid, caption, details("The numbers of these maps", joined(tables)))


def _map(
    summary: Summary,
    names: tuple[str, str],
    columns: Sequence[tuple[float, float]],
    rows: Sequence[tuple[float, float]],
    found: Mapping[tuple[int, int], Point],
    ends: tuple[float, float],
) -> list[str]:
    x = Axis(0, len(columns), 52, 290)
    y = Axis(0, len(rows), 220, 12)
    chosen, parts, framed = summary["selection"]["row"], [], ""
    holder = next((c for c, point in found.items() if point["row"] == chosen), None)
    for column, row in itertools.product(range(len(columns)), range(len(rows))):
        left, top = x.at(column), y.at(row + 1)
        size = (x.at(column + 1) - left, y.at(row) - top)
        box = (
            f'x="{place(left)}" y="{place(top)}" width="{place(size[0])}" height="{place(size[1])}"'
        )
        point = found.get((column, row))
        if point is None:
            parts.append(f'<rect class="cell none" {box}/>')
            continue
        share = (point["valid"]["mean"] - ends[0]) / ((ends[1] - ends[0]) or 1.0)
        said = f"{point['row']}: {point['valid']['mean'] * POINTS:.2f} points"
        kind = "cell"
        rect = (
            f'<rect class="{kind}" fill-opacity="{0.06 + 0.9 * share:.2f}" {box}>'
            f"<title>{text(said)}</title></rect>"
        )
        parts.append(rect)
        if (column, row) == holder:
            framed = f'<rect class="cell chosen" fill-opacity="0" {box}/>'
    parts.append(framed)
    parts += _bin_labels(columns, x, 236, across=True) + _bin_labels(rows, y, 46, across=False)
    parts.append(label((x.start + x.end) / 2, 260, f"λ of {names[0]}", "axis-title", "middle"))
    middle = place((y.start + y.end) / 2)
    parts.append(
        f'<text class="axis-title" text-anchor="middle" '
        f'transform="translate(14 {middle}) rotate(-90)">{text(f"λ of {names[1]}")}</text>'
    )
    return parts


def _bin_labels(
    held: Sequence[tuple[float, float]], axis: Axis, at: float, *, across: bool
) -> list[str]:
    """Return the levels below their cells, or the edges of the bins between them."""
    levels = held[0][0] == held[0][1]
    values = [low for low, _ in held] if levels else [held[0][0], *(high for _, high in held)]
    digits = min(2, decimals(values)) if levels else 2
    step = 2 if len(values) > 6 else 1
    parts = []
    for order, value in enumerate(values):
        if order % step:
            continue
        where = axis.at(order + 0.5 if levels else order)
        words = number(value, digits)
        if across:
            parts.append(label(where, at, words, "tick", "middle"))
        else:
            parts.append(label(at, where + 4, words, "tick", "end"))
    return parts


def _pair_table(
    names: tuple[str, str],
    columns: Sequence[tuple[float, float]],
    rows: Sequence[tuple[float, float]],
    found: Mapping[tuple[int, int], Point],
) -> Markup:
    lines = []
    for row, held in enumerate(rows):
        cells = [
            f"{found[column, row]['valid']['mean'] * POINTS:.2f}" if (column, row) in found else "–"
            for column in range(len(columns))
        ]
        lines.append([_bin_words(held), *cells])
    heads = [f"λ of {names[1]}", *(_bin_words(held) for held in columns)]
    return table(f"Best goal in points: λ of {names[0]} across, of {names[1]} down", heads, lines)


def _bin_words(held: tuple[float, float]) -> str:
    low, high = held
    return f"{low:.3g}" if low == high else f"{low:.2g} to {high:.2g}"


def _best_table(summary: Summary, points: Sequence[Point], axes: Sequence[str]) -> Markup:
    chosen = summary["selection"]["row"]
    order = sorted(points, key=lambda point: -float(point["valid"]["mean"]))[:BEST_LISTED]
    rows = [
        [
            str(rank + 1) + (" (chosen)" if point["row"] == chosen else ""),
            *(f"{point['scales'][axis]:.3g}" for axis in axes),
            f"{point['valid']['mean'] * POINTS:.2f}",
            {True: "yes", False: "no", None: "–"}[point.get("in_band")],
            "interpolated" if point.get("interpolated") else "extracted",
        ]
        for rank, point in enumerate(order)
    ]
    heads = ["rank", *(f"λ {axis}" for axis in axes), "goal", "can't be told apart", "features"]
    return table(f"Chosen: {_where(summary)}", heads, rows)


def _where(summary: Summary) -> str:
    selection = summary["selection"]
    return place_words(selection["scales"]) if selection.get("scales") else str(selection["row"])
