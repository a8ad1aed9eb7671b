"""Show task vectors: how large they are, how they lie to each other, in which layers they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mergekit_audio.report.geometry_figure import short_names
from mergekit_audio.report.page.corpora import shade
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
)
from mergekit_audio.report.page.svg import (
    DASHES,
    MARKERS,
    SERIES,
    Panel,
    drawing,
    label,
    legend,
    line,
    marker,
    number,
)

WIDE, TALL = 680, 330
CURVES = {
    "relative_norm": "‖τ‖ / ‖θ‖ of the layer",
    "effective_rank_share": "effective rank / full rank, mean of the layer's matrices",
}


def vectors_section(geometry: Mapping[str, Any] | None) -> Section | None:
    """Return the facts of ``inspect_geometry``, with or without its tensors."""
    if geometry is None:
        return None
    relations, found = geometry["relations"], geometry["pairs"]
    names = short_names(relations["models"])
    parts: list[str] = [
        paragraph(
            "A task vector τ is what training changed: the culture's weights less the base's. "
            "Small cosines mean that cultures change different things, so that a sum of them "
            "disturbs little; sign conflicts count weights that two cultures push in opposite "
            "directions."
        ),
        bullets(_suggestion(geometry.get("suggestion") or {})),
        _sizes(names, relations, found),
    ]
    if len(names) > 1:
        parts += [
            element("h3", "Cosines and sign conflicts"),
            _square("Cosine of task vectors", names, relations["cosine"], 1.0),
            _square("Share of weights with opposite signs", names, relations["sign_conflict"], 0.5),
        ]
    parts.append(element("h3", "By layer"))
    parts += [part for key in CURVES if (part := _layers(names, relations, found, key))]
    return Section("vectors", "Task vectors", joined(parts))


def _suggestion(suggestion: Mapping[str, Any]) -> list[str]:
    if not suggestion or suggestion.get("low") is None:
        return []
    words = (
        f"By their sizes alone λ from {suggestion['low']:.3g} to {suggestion['high']:.3g} is worth "
        "a look (no score went into this)."
    )
    return [words, *(str(reason) for reason in suggestion.get("reasons") or [])]


def _sizes(
    names: Sequence[str], relations: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
) -> Markup:
    has_ranks = any(pair["total"].get("effective_rank") is not None for pair in found)
    rows = []
    for name, pair in zip(names, found, strict=True):
        total = pair["total"]
        cells = [_short(total[key]) for key in ("norm", "relative_norm", "max_abs")]
        share = total["changed_share"]
        rows.append([name, *cells, "–" if share is None else f"{100 * share:.1f} %"])
        if has_ranks:
            rows[-1] += [_short(total[key]) for key in ("effective_rank", "effective_rank_share")]
    heads = ["model", "‖τ‖", "‖τ‖ / ‖θ‖", "largest change", "weights changed"]
    heads += ["effective rank", "of full rank"] if has_ranks else []
    caption = f"Size of each task vector; ‖Σ τ‖ = {_short(relations.get('sum_norm'))}"
    return table(caption, heads, rows)


def _square(
    caption: str, names: Sequence[str], values: Sequence[Sequence[float | None]], reach: float
) -> Markup:
    rows: list[list[object]] = []
    for i, name in enumerate(names):
        cells: list[object] = [name]
        for j, value in enumerate(values[i]):
            if value is None:
                cells.append("–")
            elif i == j:
                cells.append(number(value, 2))
            else:
                kind = "amount" if value >= 0 else "down"
                cells.append(shade(value, reach, kind, number(value, 3)))
        rows.append(cells)
    return table(caption, ["", *names], rows, class_="heat")


def _layers(
    names: Sequence[str],
    relations: Mapping[str, Any],
    found: Sequence[Mapping[str, Any]],
    key: str,
) -> Markup:
    layers = relations["layer_order"]
    held = [{group["name"]: group.get(key) for group in pair["groups"]} for pair in found]
    known = [own[layer] for own in held for layer in layers if own[layer] is not None]
    if not known:
        return Markup("")
    panel = Panel.of(
        [0, max(1, len(layers) - 1)], [0.0, *known], width=WIDE, height=TALL, bottom=110
    )
    parts = [part for part in panel.frame("", CURVES[key]) if 'class="axis"' not in part]
    parts = [part for part in parts if 'text-anchor="middle"' not in part or "rotate" in part]
    step = max(1, -(-len(layers) // 24))
    for at in range(0, len(layers), step):
        x, y = panel.x.at(at), panel.y.start + 12
        parts.append(line(x, panel.y.start, x, panel.y.start + 4, "axis"))
        words = label(0, 0, layers[at], "tick", "end")
        parts.append(f'<g transform="translate({x:.1f} {y:.1f}) rotate(-50)">{words}</g>')
    signs = []
    for order, (name, own) in enumerate(zip(names, held, strict=True)):
        colour, dash = f"s{order % SERIES}", DASHES[order % len(DASHES)]
        shape = MARKERS[order % len(MARKERS)]
        points = [(at, own[layer]) for at, layer in enumerate(layers) if own[layer] is not None]
        parts.append(panel.curve(points, colour, dash))
        parts += [
            panel.mark(at, y, colour, f"{name}, {layers[at]}: {_short(y)}", shape=shape, size=3.2)
            for at, y in points
        ]
        drawn = (
            f'<line class="line {colour}" x1="0" y1="7" x2="26" y2="7" stroke-dasharray="{dash}"/>'
        )
        signs.append((drawn + marker(13, 7, colour, shape), name))
    highest = max(
        (
            (own[layer], name, layer)
            for name, own in zip(names, held, strict=True)
            for layer in layers
            if own[layer] is not None
        ),
        key=lambda each: float(each[0]),
    )
    said = f"Highest: {highest[1]} in {highest[2]}, {_short(highest[0])}. The numbers are below."
    chart = drawing(f"layers-{key.replace('_', '-')}", CURVES[key], said, WIDE, TALL, parts)
    rows = [[layer, *(_short(own[layer]) for own in held)] for layer in layers]
    numbers = details("The numbers of this figure", table(CURVES[key], ["layer", *names], rows))
    caption = f"{CURVES[key][0].upper()}{CURVES[key][1:]}, in the order in which signals pass them."
    return figure(chart, caption, numbers, legend(signs))


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}".replace("-", "−")
