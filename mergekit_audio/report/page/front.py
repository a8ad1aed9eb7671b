"""Draw a Pareto front: what one goal costs the other, of a search on two goals."""

from __future__ import annotations

from typing import Any

from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    details,
    figure,
    joined,
    paragraph,
    table,
)
from mergekit_audio.report.page.reading import Summary, chosen_row, place_words
from mergekit_audio.report.page.svg import Panel, drawing, legend, line, marker

WIDE, TALL = 620, 380
GOALS = {"mean(non_western)": "non-Western tasks", "mean(western)": "Western tasks"}
OUT_OF_REACH = -100.0
"""Trials below this had no finite features."""


def front_section(summary: Summary) -> Section | None:
    """Return trials, front and marked points; ``None`` without a search on two goals."""
    search = summary.get("search") or {}
    front = search.get("pareto_front")
    if not front:
        return None
    across, up = (GOALS.get(goal, goal) for goal in search["goals"])
    told = (
        f"Each point is a merge, by the means of its {across} and of its {up} on validation. The "
        f"{len(front)} points of the front are those that no other trial beats in one without "
        "losing in the other: which of them is best is a matter of what you care for."
    )
    return Section("front", "Pareto front", joined([paragraph(told), _figure(summary, across, up)]))


def _figure(summary: Summary, across: str, up: str) -> Markup:
    search = summary["search"]
    trials = [trial for trial in search["trials"] if min(trial["values"]) > OUT_OF_REACH]
    front = search["pareto_front"]
    panel = Panel.of(
        [trial["values"][0] for trial in trials],
        [trial["values"][1] for trial in trials],
        width=WIDE,
        height=TALL,
    )
    parts = panel.frame(f"mean of {across}, points", f"mean of {up}, points")
    base = next((trial for trial in trials if trial["row"] == "base"), None)
    if base is not None:
        parts += [panel.upright(base["values"][0], "base"), panel.level(base["values"][1], "base")]
    parts.append(panel.curve([tuple(trial["values"]) for trial in front], "test"))
    on_front = {trial["row"] for trial in front}
    averages = {row["name"] for row in summary["rows"] if row["weight_average"]}
    chosen = chosen_row(summary)
    best = None if chosen is None else chosen["name"]
    for trial in sorted(trials, key=lambda each: (each["row"] in on_front, each["row"] == best)):
        kind, shape, size = _sign(trial, on_front, averages, best)
        said = f"{trial['row']}: {_values(trial)}"
        x, y = trial["values"]
        parts.append(panel.mark(x, y, kind, said, shape=shape, size=size))
    described = (
        f"{len(trials)} trials, {len(front)} on the front, from {_values(front[0])} to "
        f"{_values(front[-1])} points ({across}, {up}). The numbers are in the tables below."
    )
    chart = drawing("pareto", f"{up} against {across}", described, WIDE, TALL, parts)
    signs = legend(
        [
            (line(0, 7, 26, 7, "line test") + marker(13, 7, "test"), "the front"),
            (marker(13, 7, "plain", size=3), "another trial"),
            (marker(13, 7, "base", "square"), "base (dashed: its two scores)"),
            (marker(13, 7, "average", "diamond"), "weight average"),
            (marker(13, 7, "chosen", "star", 5), "chosen by the recipe's goal"),
        ]
    )
    heads = ["point", "λ", across, up]
    shown = table("The front, by rising " + across, heads, [_line(trial) for trial in front])
    every = table("All trials, in their order", heads, [_line(trial) for trial in trials])
    caption = "To the right and above is better. Points right above the dashed lines beat the base."
    return figure(chart, caption, joined([shown, details("All trials", every)]), signs)


def _sign(
    trial: dict[str, Any], on_front: set[str], averages: set[str], best: str | None
) -> tuple[str, str, float]:
    if trial["row"] == best:
        return "chosen", "star", 6
    if trial["row"] in averages:
        return "average", "diamond", 5
    if trial["row"] == "base":
        return "base", "square", 5
    return ("test", "circle", 4.5) if trial["row"] in on_front else ("plain", "circle", 3)


def _values(trial: dict[str, Any]) -> str:
    return " and ".join(f"{value:.2f}" for value in trial["values"])


def _line(trial: dict[str, Any]) -> list[str]:
    return [
        str(trial["row"]),
        place_words(trial["scales"]),
        *(f"{value:.2f}" for value in trial["values"]),
    ]
