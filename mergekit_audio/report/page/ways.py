"""Put ways to choose λ side by side: with labels, without them, by similarity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.page.effects import bar, scale
from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    bullets,
    details,
    element,
    figure,
    joined,
    paragraph,
    table,
    words_head,
)
from mergekit_audio.report.page.reading import (
    POINTS,
    Effect,
    Row,
    Summary,
    average_effect,
    chosen_row,
    effects,
    is_tested,
    place_words,
    reference_row,
    signed,
)
from mergekit_audio.report.page.svg import (
    DASHES,
    MARKERS,
    SERIES,
    Axis,
    Panel,
    drawing,
    legend,
    line,
    marker,
    widened,
)

WIDE, TALL = 620, 300
Way = tuple[str, Row, Summary]


def ways_section(summary: Summary, landscape: Summary | None) -> Section | None:
    """Return the table of ways, what each is worth, and the loss curve beside the labelled one.

    ``None`` where λ was chosen in one way only.

    Parameters
    ----------
    landscape
        A second sweep of the same cultures with one λ each, or ``None``.
    """
    ways = found_ways(summary, landscape)
    has_other = any(row["kind"] in ("label_free", "similarity") for _, row, _ in ways)
    if not ways or not (has_other or landscape is not None):
        return None
    parts: list[str] = [
        paragraph(
            "All ways were scored on the same test tracks. Only “with labels” looks at the labels "
            "of the validation split; the others use unlabelled audio alone, so they can also be "
            "had where nobody has annotated anything."
        ),
        bullets(way_sentences(ways)),
        _way_table(ways),
    ]
    for place, held in enumerate([summary, *([landscape] if landscape is not None else [])]):
        parts += [part for part in (_loss_figure(held, place), _history(held)) if part]
    return Section("ways", "Without labels, and beside them", joined(parts))


def found_ways(summary: Summary, landscape: Summary | None) -> list[Way]:
    """Return title, row and sweep of each way to a merge that has test scores."""
    ways: list[Way] = []
    for held in (summary, landscape):
        chosen = None if held is None else chosen_row(held)
        if held is None or chosen is None:
            continue
        kind = (held.get("space") or {}).get("kind", "shared")
        title = {
            "shared": "with labels, one λ",
            "per_culture": "with labels, one λ a culture",
            "groups": "with labels, one λ a group",
        }[kind]
        ways.append((title, chosen, held))
        named = {row["name"] for _, row, _ in ways}
        ways += [
            (str(row["name"]), row, held)
            for row in held["rows"]
            if row["kind"] in ("label_free", "similarity") and row["name"] not in named
        ]
        ways += [
            ("weight average", row, held)
            for row in held["rows"]
            if row["weight_average"] and all(title != "weight average" for title, _, _ in ways)
        ]
    return [way for way in ways if is_tested(way[1])]


def way_sentences(ways: Sequence[Way]) -> list[str]:
    """Return how good each way without labels is beside the labelled optimum and the base."""
    labelled = [way for way in ways if way[0].startswith("with labels")]
    if not labelled:
        return []
    best = max(labelled, key=lambda way: _average(way[1]))
    sentences = []
    for title, row, held in ways:
        if row["kind"] not in ("label_free", "similarity"):
            continue
        effect = average_effect(effects(held, str(row["name"])))
        if effect is None:
            continue
        base = reference_row(held)["name"]
        how = {
            "better": "better than the base" + (" (sure)" if effect.is_sure else " (probably)"),
            "worse": "worse than the base" + (" (sure)" if effect.is_sure else " (probably)"),
            "unsure": "not told apart from the base",
        }[effect.level]
        beside = _average(row) - _average(best[1])
        sentences.append(
            f"{title[0].upper()}{title[1:]}: {how}, {signed(effect.points)} points beside {base} "
            f"({effect.interval}), and {signed(beside)} points beside the best choice "
            f"{best[0]} (a difference of means, without an interval)."
        )
    return sentences


def _way_table(ways: Sequence[Way]) -> Markup:
    found = [
        (title, row, average_effect(effects(held, str(row["name"])))) for title, row, held in ways
    ]
    ends = [0.0, -1.0, 1.0]
    for _, _, effect in found:
        if effect is not None:
            ends += [e for e in (effect.points, effect.low, effect.high) if e is not None]
    axis = Axis(*widened(ends, 0.06), 4, 236)
    base = reference_row(ways[0][2])
    rows = [["base, λ = 0", _words("0"), *_both(base), "", "", Markup("<td></td>"), ""]]
    rows += [_way_line(axis, *each) for each in found]
    heads = (
        "way",
        words_head("λ"),
        "validation",
        "test",
        "beside the base",
        "interval",
        scale(axis),
        words_head("reading"),
    )
    return table("Averages over tasks and metrics, in points", heads, rows)


def _way_line(axis: Axis, title: str, row: Row, effect: Effect | None) -> list[Any]:
    scales = row.get("scales") or ({} if row["scale"] is None else {"λ": row["scale"]})
    alone = len(set(scales.values())) == 1
    shown = f"{next(iter(scales.values())):.3g}" if alone else place_words(scales) or "–"
    if effect is None:
        return [title, _words(shown), *_both(row), "0", "", Markup("<td></td>"), "is the base"]
    return [
        title,
        _words(shown),
        *_both(row),
        signed(effect.points),
        effect.interval,
        bar(axis, effect),
        element("td", effect.reading, class_=f"words {effect.level}"),
    ]


def _both(row: Row) -> list[str]:
    return [f"{row['averages'][split]['all']['mean'] * POINTS:.1f}" for split in ("valid", "test")]


def _words(content: str) -> Markup:
    return element("td", content, class_="words")


def _average(row: Row) -> float:
    return float(row["averages"]["test"]["all"]["mean"]) * POINTS


def _loss_figure(summary: Summary, place: int) -> Markup:
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


def _history(summary: Summary) -> Markup:
    """Return how the descent went, as numbers."""
    spaces = (summary.get("label_free") or {}).get("spaces") or {}
    rows = [
        [
            space.replace("_", " "),
            f"{each['history'][0]:.4f}",
            f"{each['loss']:.4f}",
            str(len(each["history"]) - 1),
            _words(
                "; ".join(
                    f"{culture} {sum(own.values()) / len(own):.3f}"
                    for culture, own in each["scales"].items()
                )
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
