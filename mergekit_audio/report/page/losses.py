"""Draw the pre-training loss along λ below the labelled goal, and how the descent on it went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergekit_audio.report.page.markup import Markup, details, element, figure, joined, table
from mergekit_audio.report.page.reading import POINTS, Summary, signed
from mergekit_audio.report.page.svg import (
    DASHES,
    MARKERS,
    SERIES,
    Panel,
    drawing,
    legend,
    line,
    marker,
)

WIDE, TALL = 620, 300


def loss_figure(summary: Summary, place: int) -> Markup:
    """Return the labelled goal and the pre-training loss on the same λ, one above the other."""
    found = summary.get("label_free") or {}
    curve = found.get("curve") or []
    if len(curve) < 2:
        return Markup("")
    points = [p for p in summary["selection"]["curve"] if p["scale"] is not None]
    scales = [*(each["scale"] for each in curve), *(p["scale"] for p in points)]
    marks = _marked_scales(summary, found)
    goal = Panel.of(scales, [p["valid"]["mean"] * POINTS for p in points], width=WIDE, height=220)
    above = goal.frame("λ", "goal on validation")
    above.append(goal.curve([(p["scale"], p["valid"]["mean"] * POINTS) for p in points], "valid"))
    names = list(curve[0]["losses"])
    rises = {
        name: [each["losses"][name] - curve[0]["losses"][name] for each in curve] for name in names
    }
    mean = [each["loss"] - curve[0]["loss"] for each in curve]
    loss = Panel.of(
        scales, [*mean, *(v for own in rises.values() for v in own)], width=WIDE, height=TALL
    )
    below = loss.frame("λ", "loss above that at the left end")
    xs = [each["scale"] for each in curve]
    signs = [(line(0, 7, 26, 7, "line valid"), "mean of all corpora")]
    for order, (name, own) in enumerate(rises.items()):
        colour = f"s{order % SERIES}"
        dash, shape = DASHES[order % len(DASHES)], MARKERS[order % len(MARKERS)]
        below.append(loss.curve(list(zip(xs, own, strict=True)), colour, dash))
        below += [
            loss.mark(x, y, colour, f"{name}, λ = {x:g}: {signed(y, 3)}", shape=shape, size=3)
            for x, y in zip(xs, own, strict=True)
        ]
        sign = (
            f'<line class="line {colour}" x1="0" y1="7" x2="26" y2="7" stroke-dasharray="{dash}"/>'
        )
        signs.append((sign + marker(13, 7, colour, shape, 3.5), name))
    below.append(loss.curve(list(zip(xs, mean, strict=True)), "valid"))
    for panel, parts in ((goal, above), (loss, below)):
        parts += [panel.upright(scale_, kind) for _, scale_, kind in marks]
    signs += [
        (line(13, 0, 13, 14, f"line {kind}"), f"{words}: λ = {value:.3g}")
        for words, value, kind in marks
    ]
    lowest = min(curve, key=lambda each: float(each["loss"]))
    said = (
        f"The mean loss is lowest at λ = {lowest['scale']:g}. The numbers are in the table below."
    )
    drawn = [
        drawing(
            f"free-goal-{place}",
            "Goal with labels against λ",
            _goal_said(summary),
            WIDE,
            220,
            above,
        ),
        drawing(f"free-loss-{place}", "Pre-training loss against λ", said, WIDE, TALL, below),
    ]
    rows = [
        [f"{each['scale']:g}", f"{each['loss']:.4f}", *(f"{each['losses'][n]:.4f}" for n in names)]
        for each in curve
    ]
    numbers = table("Pre-training loss", ["λ", "mean", *names], rows)
    caption = (
        "Above what labels say, below what the models' own pre-training loss says on unlabelled "
        "audio. Where the lowest loss and the highest goal lie at other λ, the loss is no good "
        "guide here."
    )
    return figure(joined(drawn), caption, details("The losses as numbers", numbers), legend(signs))


def _goal_said(summary: Summary) -> str:
    return f"Chosen with labels: {summary['selection']['row']}."


def _marked_scales(summary: Summary, found: Mapping[str, Any]) -> list[tuple[str, float, str]]:
    marks = []
    if summary["selection"]["scale"] is not None:
        marks.append(("chosen with labels", float(summary["selection"]["scale"]), "chosen"))
    shared = found["spaces"].get("shared")
    if shared is not None:
        value = next(iter(next(iter(shared["scales"].values())).values()))
        marks.append(("label-free", float(value), "average"))
    return marks


def descent_details(summary: Summary) -> Markup:
    """Return how the descent went, as numbers."""
    spaces = (summary.get("label_free") or {}).get("spaces") or {}
    rows = [
        [
            space.replace("_", " "),
            f"{each['history'][0]:.4f}",
            f"{each['loss']:.4f}",
            str(len(each["history"]) - 1),
            element(
                "td",
                "; ".join(
                    f"{culture} {sum(own.values()) / len(own):.3f}"
                    for culture, own in each["scales"].items()
                ),
                class_="words",
            ),
        ]
        for space, each in spaces.items()
    ]
    if not rows:
        return Markup("")
    heads = ("λ for", "loss at the start", "lowest loss", "rounds", "λ found (means over layers)")
    return details(
        "How the search without labels went", table("Gradient descent on λ", heads, rows)
    )
