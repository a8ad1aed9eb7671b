"""Draw what λ does to scores: the goal on validation, and each task beside the base."""

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
from mergekit_audio.report.page.reading import (
    POINTS,
    Summary,
)
from mergekit_audio.report.page.svg import (
    DASHES,
    Panel,
    drawing,
    label,
    legend,
    line,
    marker,
)
from mergekit_audio.report.page.task_curves import TASK_WORDS, task_figures

Point = Mapping[str, Any]


def curves_section(summary: Summary) -> Section | None:
    """Return the goal against one λ with intervals and band, and each task's curve."""
    points = scale_points(summary)
    if len({point["scale"] for point in points}) < 2:
        return None
    parts = [_goal_figure(summary, points), element("h3", "Each task beside the base")]
    parts += [paragraph(TASK_WORDS), task_figures(summary)]
    return Section("curves", "Scores against λ", joined(parts))


def scale_points(summary: Summary) -> list[Point]:
    """Return the points of the choice that have one λ, in rising order."""
    selection = summary.get("selection") or {"curve": []}
    return [point for point in selection["curve"] if point["scale"] is not None]


def variants(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return a curve for each setting of the method's parameters; the base is part of all."""
    found: dict[str, list[Point]] = {}
    for point in points:
        if point["row"] != "base":
            values = (point.get("parameters") or {}).items()
            name = ", ".join(f"{key} = {value}" for key, value in values)
            found.setdefault(name, []).append(point)
    base = [point for point in points if point["row"] == "base"]
    return {
        name: sorted([*base, *own], key=lambda point: point["scale"]) for name, own in found.items()
    } or {"": base}


def goal_interval(summary: Summary, point: Point) -> tuple[float, float] | None:
    """Return where a point's goal lies beside the chosen one's, in points of the chosen's level.

    The chosen goal less the interval of the paired difference chosen − point, so that an interval
    that reaches the chosen level can't be told apart from it.
    """
    if point.get("low") is None or point.get("high") is None:
        return None
    level = chosen_level(summary)
    return level - point["high"] * POINTS, level - point["low"] * POINTS


def chosen_level(summary: Summary) -> float:
    """Return the chosen point's goal on validation in points."""
    selection = summary["selection"]
    found = next(p for p in selection["curve"] if p["row"] == selection["row"])
    return float(found["valid"]["mean"]) * POINTS


def _goal_figure(summary: Summary, points: Sequence[Point]) -> Markup:
    selection, wide, tall = summary["selection"], 620, 340
    means = [point["valid"]["mean"] * POINTS for point in points]
    intervals = [goal_interval(summary, point) for point in points]
    has_band = any(intervals)
    spreads = [_spread(point) for point in points]
    ends = [end for each in (intervals if has_band else spreads) if each for end in each]
    panel = Panel.of(
        [point["scale"] for point in points], [*means, *ends], width=wide, height=tall, top=30
    )
    parts = [
        panel.stretch(low, high, "band")
        for low, high in (selection.get("band") or {}).get("runs") or []
    ]
    parts += panel.frame("λ", "goal on validation, points")
    parts += _base_level(panel, points)
    curves = variants(points)
    for place, own in enumerate(curves.values()):
        path = [(point["scale"], point["valid"]["mean"] * POINTS) for point in own]
        if not has_band:
            parts.append(panel.ribbon([(p["scale"], *_spread(p)) for p in own], "valid"))
        parts.append(panel.curve(path, "valid", DASHES[place % len(DASHES)]))
    if has_band:
        parts += [
            panel.bar(point["scale"], *found, "whisker")
            for point, found in zip(points, intervals, strict=True)
            if found and point["row"] != selection["row"]
        ]
    parts += _marks(summary, panel, points)
    title = "Goal on validation against λ"
    return figure(
        drawing("goal", title, _described(summary, points), wide, tall, parts),
        _caption(summary, has_band),
        details("The numbers of this figure", _goal_table(summary, points)),
        _legend(summary, points, curves, has_band),
    )


def _spread(point: Point) -> tuple[float, float]:
    mean, std = point["valid"]["mean"] * POINTS, (point["valid"]["std"] or 0.0) * POINTS
    return mean - std, mean + std


def _base_level(panel: Panel, points: Sequence[Point]) -> list[str]:
    base = [point for point in points if point["row"] == "base"]
    return [panel.level(point["valid"]["mean"] * POINTS, "base") for point in base]


def _marks(summary: Summary, panel: Panel, points: Sequence[Point]) -> list[str]:
    selection, parts = summary["selection"], []
    averages = {row["name"] for row in summary["rows"] if row["weight_average"]}
    dense = len(points) > 40
    for point in points:
        x, y = point["scale"], point["valid"]["mean"] * POINTS
        said = f"{point['row']}: {y:.2f} points"
        if point["row"] == selection["row"]:
            continue
        if point["row"] in averages:
            parts.append(panel.mark(x, y, "average", said, shape="diamond", size=5))
        elif point["row"] == "base":
            parts.append(panel.mark(x, y, "base", said, shape="square", size=5))
        elif point.get("interpolated"):
            parts.append(panel.mark(x, y, "between", said, size=2 if dense else 3.2))
        else:
            parts.append(panel.mark(x, y, "valid", said, size=3.8))
    for point in points:
        if point["row"] == selection["row"]:
            x, y = point["scale"], point["valid"]["mean"] * POINTS
            parts.append(panel.upright(x, "chosen"))
            parts.append(
                panel.mark(x, y, "chosen", f"chosen: {y:.2f} points", shape="star", size=6)
            )
            at, is_right = panel.x.at(x), panel.x.at(x) > (panel.x.start + panel.x.end) / 2
            words = f"chosen: λ = {x:g}"
            side = (at + 4, "end") if is_right else (at - 4, "start")
            parts.append(label(side[0], 20, words, "chosen", side[1]))
    return parts


def _caption(summary: Summary, has_band: bool) -> str:
    told = "The line is the goal that λ was chosen by, on the validation split. " + (
        "Upright lines: where each point lies beside the chosen one, "
        f"{POINTS * summary['selection']['band']['confidence']:g} % interval of the paired "
        "bootstrap over tracks; those that reach the star's height can't be told apart from it "
        "(shaded)."
        if has_band
        else "The grey area is one standard deviation over probe seeds."
    )
    between = interpolation_text(summary)
    return f"{told} Features {between}." if between else told


def _legend(
    summary: Summary, points: Sequence[Point], curves: Mapping[str, Any], has_band: bool
) -> Markup:
    rows = {row["name"]: row for row in summary["rows"]}
    entries = [
        (
            f'<line class="line valid" x1="0" y1="7" x2="26" y2="7" '
            f'stroke-dasharray="{DASHES[place % len(DASHES)]}"/>',
            ", ".join(["goal on validation", *([name] if name else [])]),
        )
        for place, name in enumerate(curves)
    ]
    if any(point.get("interpolated") for point in points):
        entries.append((marker(13, 7, "valid"), "features extracted there"))
        entries.append((marker(13, 7, "between", size=3.2), "features interpolated"))
    entries.append((marker(13, 7, "chosen", "star", 5), "chosen"))
    if any(point["row"] == "base" for point in points):
        entries.append(
            (line(0, 7, 26, 7, "line base") + marker(13, 7, "base", "square"), "base, λ = 0")
        )
    if any(rows[point["row"]]["weight_average"] for point in points):
        entries.append((marker(13, 7, "average", "diamond"), "weight average"))
    if has_band:
        entries.append((line(13, 0, 13, 14, "line whisker"), "interval beside the chosen"))
        entries.append(
            (
                '<rect class="area band" width="26" height="14"/>',
                "can't be told apart from the chosen",
            )
        )
    return legend(entries)


def _described(summary: Summary, points: Sequence[Point]) -> str:
    selection = summary["selection"]
    best = chosen_level(summary)
    lowest = min(points, key=lambda point: point["valid"]["mean"])
    return (
        f"{len(points)} points from λ = {points[0]['scale']:g} to {points[-1]['scale']:g}. Chosen: "
        f"{selection['row']} with {best:.2f} points. Lowest: {lowest['row']} with "
        f"{lowest['valid']['mean'] * POINTS:.2f}. All numbers are in the table below."
    )


def _goal_table(summary: Summary, points: Sequence[Point]) -> Markup:
    chosen = summary["selection"]["row"]
    rows = []
    for point in points:
        found = goal_interval(summary, point)
        beside = f"{found[0]:.2f} to {found[1]:.2f}" if found else "–"
        std = point["valid"]["std"]
        test = point.get("test")
        rows.append(
            [
                point["row"] + (" (chosen)" if point["row"] == chosen else ""),
                f"{point['scale']:g}",
                f"{point['valid']['mean'] * POINTS:.2f}",
                "–" if std is None else f"{std * POINTS:.2f}",
                "–" if point["row"] == chosen else beside,
                {True: "yes", False: "no", None: "–"}[point.get("in_band")],
                "–" if test is None else f"{test['mean'] * POINTS:.2f}",
                "interpolated" if point.get("interpolated") else "extracted",
            ]
        )
    heads = ("point", "λ", "validation", "std over seeds", "interval beside the chosen")
    return table("Goal in points", [*heads, "can't be told apart", "test", "features"], rows)
