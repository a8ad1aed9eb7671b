"""Draw the best goal of each pair of λ as small maps."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.page.markup import Markup, details, figure, joined, table, text
from mergekit_audio.report.page.reading import POINTS, Summary
from mergekit_audio.report.page.svg import Axis, decimals, drawing, label, number, place

MOST_LEVELS, BINS = 9, 6
Point = Mapping[str, Any]


def pairs_figure(
    summary: Summary, points: Sequence[Point], axes: Sequence[str], key: str
) -> Markup:
    """Return a map of the best goal for each two λ, with the cell of the chosen point framed."""
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


def _map(
    summary: Summary,
    names: tuple[str, str],
    columns: Sequence[tuple[float, float]],
    rows: Sequence[tuple[float, float]],
    found: Mapping[tuple[int, int], Point],
    ends: tuple[float, float],
) -> list[str]:
    x = Axis(0, len(columns), 52, 280)
    y = Axis(0, len(rows), 220, 12)
    parts, framed = [], ""
    chosen = summary["selection"]["scales"]
    holder = (bin_of(chosen[names[0]], columns), bin_of(chosen[names[1]], rows))
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
