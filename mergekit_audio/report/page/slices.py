"""Draw a landscape of several λ: the goal along each of them, and the best of each pair."""

from __future__ import annotations

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
)
from mergekit_audio.report.page.pairs import bin_of, bins, pairs_figure
from mergekit_audio.report.page.reading import POINTS, Summary, place_words
from mergekit_audio.report.page.svg import (
    Panel,
    drawing,
    legend,
    line,
    marker,
)

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
        parts += [element("h3", "Pairs of λ"), pairs_figure(summary, points, axes, key)]
    parts.append(
        details(
            f"The {min(BEST_LISTED, len(points))} best points", _best_table(summary, points, axes)
        )
    )
    return Section(key, "The landscape of λ", joined(parts))


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
