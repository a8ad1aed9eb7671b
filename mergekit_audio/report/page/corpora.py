"""Show how models and corpora lie to each other: transfer, and how alike corpora sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
    text,
)
from mergekit_audio.report.page.reading import POINTS, Summary, reference_row, signed, task_names
from mergekit_audio.report.page.svg import MARKERS, SERIES, Panel, drawing, legend, marker
from mergekit_audio.report.similarity import TITLES, gain_sentences
from mergekit_audio.report.transfer_figure import MEAN, SMALLEST_RANGE, transfer_table

DEEPEST = 0.55
"""Opacity of the strongest colour, so that numbers stay readable on it."""


def transfer_section(summary: Summary) -> Section | None:
    """Return every model's score on every task, and the difference from the reference."""
    if len(summary["rows"]) < 2:
        return None
    name = reference_row(summary)["name"]
    tasks = task_names(summary)
    held: dict[str, dict[str, tuple[float, float]]] = {}
    for title, task, metric, score, gain in transfer_table(summary).values:
        if metric == MEAN:
            held.setdefault(title, {})[task] = (score * POINTS, gain * POINTS)
    reach = max(SMALLEST_RANGE, *(abs(gain) for row in held.values() for _, gain in row.values()))
    rows = [
        [title, *(_gain_cell(*own[task], reach, is_same=title == name) for task in tasks)]
        for title, own in held.items()
    ]
    caption = (
        f"Mean of each task's metrics on the test split, below it the difference from {name} in "
        "points. Blue with + is above it, orange with − below."
    )
    return Section(
        "transfer",
        "Transfer between cultures",
        table(caption, ["model", *tasks], rows, class_="heat"),
    )


def similarity_section(similarity: Mapping[str, Any] | None) -> Section | None:
    """Return the divergences between corpora with intervals, the λ they suggest, and the gains."""
    if similarity is None:
        return None
    names = [each["name"] for each in similarity["corpora"]]
    parts: list[str] = [
        paragraph(
            f"How far the acoustic tokens of two corpora ({similarity['teacher']['name']}, "
            f"{similarity['codebooks']} codebooks) are apart: 0 is the same. Below each value the "
            f"95 % interval without the bias of finite corpora, over {similarity['resamples']} "
            "resamples of tracks; where that reaches 0, two corpora can't be told apart. In "
            "parentheses: how far random halves of one corpus are apart."
        )
    ]
    for measure, title in TITLES.items():
        parts += [
            element("h3", _capital(title)),
            _matrix(similarity["measures"][measure], names, title),
        ]
    parts += _suggested(similarity)
    if similarity["gains"] is not None:
        parts += [element("h3", "Do cultures help what sounds like them?")]
        parts += [bullets(gain_sentences(similarity["gains"])), _gain_figure(similarity["gains"])]
    return Section("similarity", "How alike the corpora sound", joined(parts))


def shade(value: float, reach: float, kind: str, content: object) -> Markup:
    """Return a cell whose colour is as deep as a value's share of the largest one."""
    deep = DEEPEST * min(1.0, abs(value) / reach) if reach else 0.0
    return Markup(f'<td class="shade {kind}" style="--deep:{deep:.2f}">{text(content)}</td>')


def _gain_cell(score: float, gain: float, reach: float, *, is_same: bool) -> Markup:
    if is_same:
        return element("td", f"{score:.1f}")
    content = Markup(f"{score:.1f}<small>{signed(gain)}</small>")
    return shade(gain, reach, "up" if gain >= 0 else "down", content)


def _matrix(found: Mapping[str, Any], names: Sequence[str], title: str) -> Markup:
    reach = max(max(row) for row in found["values"])
    rows = []
    for i, name in enumerate(names):
        cells: list[object] = [name]
        for j in range(len(names)):
            if i == j:
                cells.append(f"({found['floors'][i]:.3f})")
                continue
            low, high = found["low"][i][j], found["high"][i][j]
            content = Markup(f"{found['values'][i][j]:.3f}<small>{low:.3f} to {high:.3f}</small>")
            cells.append(shade(found["values"][i][j], reach, "amount", content))
        rows.append(cells)
    return table(f"{_capital(title)}: deeper is farther apart", ["", *names], rows, class_="heat")


def _suggested(similarity: Mapping[str, Any]) -> list[Markup]:
    suggested = similarity["suggested_scales"]
    targets = suggested["targets"]
    cultures = list(next(iter(targets.values())))
    rows = [[target, *(f"{own[name]:.3f}" for name in cultures)] for target, own in targets.items()]
    caption = (
        f"λ for a target corpus: softmax(−JSD / {suggested['temperature']:g}) times "
        f"{suggested['scale']:g}, a guess from sound alone"
    )
    heads = ["for", *(f"λ {name}" for name in cultures)]
    return [element("h3", "Suggested λ"), table(caption, heads, rows)]


def _gain_figure(gains: Mapping[str, Any]) -> Markup:
    pairs = gains["pairs"]
    if len(pairs) < 2:
        return Markup("")
    cultures = sorted({pair["culture"] for pair in pairs})
    panel = Panel.of(
        [pair["jensen_shannon"] for pair in pairs],
        [0.0, *(pair["gain"] * POINTS for pair in pairs)],
        width=620,
        height=320,
    )
    parts = panel.frame("Jensen-Shannon divergence, bits", "gain over the base, points")
    parts.append(panel.level(0.0, "base"))
    for pair in pairs:
        order = cultures.index(pair["culture"])
        said = f"{pair['culture']} on {pair['corpus']}: {signed(pair['gain'] * POINTS)} points"
        parts.append(
            panel.mark(
                pair["jensen_shannon"],
                pair["gain"] * POINTS,
                f"s{order % SERIES}",
                said,
                shape=MARKERS[order % len(MARKERS)],
                size=5,
            )
        )
    signs = [
        (marker(13, 7, f"s{at % SERIES}", MARKERS[at % len(MARKERS)]), f"model of {name}")
        for at, name in enumerate(cultures)
    ]
    said = f"{len(pairs)} pairs of a model and another culture's corpus; the numbers are below."
    chart = drawing("gains", "Gain against divergence", said, 620, 320, parts)
    rows = [
        [
            pair["culture"],
            pair["corpus"],
            f"{pair['jensen_shannon']:.4f}",
            f"{pair['cosine']:.4f}",
            signed(pair["gain"] * POINTS, 2),
        ]
        for pair in pairs
    ]
    heads = ("model of", "corpus", "Jensen-Shannon", "cosine", "gain, points")
    caption = "Each point is a single-culture model on another culture's task."
    numbers = details("The numbers of this figure", table("Pairs", heads, rows))
    return figure(chart, caption, numbers, legend(signs))


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
