"""Put ways to choose λ side by side: with labels, without them, by similarity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mergekit_audio.report.page.effects import bar, scale
from mergekit_audio.report.page.losses import descent_details, loss_figure
from mergekit_audio.report.page.markup import (
    Markup,
    Section,
    bullets,
    element,
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
    Axis,
    widened,
)

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
            "All ways were scored on the same test tracks by the same probes. Only “with labels” "
            "looks at labels of the validation split; the others use unlabelled audio alone, so "
            "they can also be had where nobody has annotated anything."
        ),
        bullets(way_sentences(ways)),
        _way_table(ways),
    ]
    for place, held in enumerate([summary, *([landscape] if landscape is not None else [])]):
        parts += [part for part in (loss_figure(held, place), descent_details(held)) if part]
    return Section("ways", "Without labels, and beside them", joined(parts))


def found_ways(summary: Summary, landscape: Summary | None) -> list[Way]:
    """Return title, row and sweep of each way to a merge that has test scores.

    Scores of other probes can't stand side by side: where the two sweeps probe in different ways,
    all rows are of the one that has ways without labels, and the other's choice is its row of the
    same weights, left out where there is none.
    """
    sweeps = [held for held in (summary, landscape) if held is not None and chosen_row(held)]
    ways: list[Way] = []
    if len(sweeps) == 2 and _probes(sweeps[0]) != _probes(sweeps[1]):
        main = next((held for held in reversed(sweeps) if _without_labels(held)), sweeps[0])
        other = sweeps[1] if main is sweeps[0] else sweeps[0]
        chosen, sweeps = chosen_row(other), [main]
        twins = [row for row in main["rows"] if chosen and row["digest"] == chosen["digest"] != ""]
        place = {key: chosen.get(key) for key in ("scale", "scales")} if chosen else {}
        ways += [(_title(other), {**row, **place}, main) for row in twins[:1]]
    for held in sweeps:
        chosen = chosen_row(held)
        assert chosen is not None
        ways.append((_title(held), chosen, held))
        named = {row["name"] for _, row, _ in ways}
        ways += [
            (str(row["name"]), row, held)
            for row in _without_labels(held)
            if row["name"] not in named
        ]
        ways += [
            ("weight average", row, held)
            for row in held["rows"]
            if row["weight_average"] and all(title != "weight average" for title, _, _ in ways)
        ]
    return [way for way in ways if is_tested(way[1])]


def _probes(summary: Summary) -> tuple[Any, ...]:
    """Return what scores depend on beside the encoder."""
    return (*((task["name"], task["digest"]) for task in summary["tasks"]), *summary["seeds"])


def _without_labels(summary: Summary) -> list[Row]:
    return [row for row in summary["rows"] if row["kind"] in ("label_free", "similarity")]


def _title(summary: Summary) -> str:
    kind = (summary.get("space") or {}).get("kind", "shared")
    return {
        "shared": "with labels, one λ",
        "per_culture": "with labels, one λ a culture",
        "groups": "with labels, one λ a group",
    }[kind]


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
