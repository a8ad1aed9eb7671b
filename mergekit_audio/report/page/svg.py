"""Draw small charts as inline SVG: text is text, colours are the page's own."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mergekit_audio.report.page.markup import Markup

SERIES = 8
"""Colours that series have; after so many they repeat, with another dash and marker."""
MARKERS = ("circle", "square", "triangle", "diamond")
DASHES = ("", "6 3", "2 3", "8 3 2 3")
TICKS = 6


@dataclass(frozen=True)
class Axis:
    """A linear scale from values to places in the drawing.

    Parameters
    ----------
    low, high
        The values at its ends.
    start, end
        Their places.
    """

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int = TICKS) -> list[float]:
        """Return round values between the ends."""
        step = round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [place * step for place in range(first, last + 1)]


@dataclass(frozen=True)
class Panel:
    """Two axes and what is drawn between them.

    Parameters
    ----------
    x, y
        The axes; y grows upwards, so its start is below its end.
    """

    x: Axis
    y: Axis

    @classmethod
    def of(
        cls,
        xs: Iterable[float],
        ys: Iterable[float],
        *,
        width: float,
        height: float,
        left: float = 58,
        right: float = 14,
        top: float = 14,
        bottom: float = 46,
    ) -> Panel:
        """Return a panel around values, with room for the axes' words."""
        across, up = widened(xs, 0.02), widened(ys, 0.06)
        return cls(Axis(*across, left, width - right), Axis(*up, height - bottom, top))

    def frame(self, x_title: str, y_title: str, *, ticks: int = TICKS) -> list[str]:
        """Return grid lines, ticks and the axes' titles."""
        x, y = self.x, self.y
        parts = []
        rising = y.ticks(ticks)
        digits = decimals(rising)
        for value in rising:
            at = y.at(value)
            parts.append(line(x.start, at, x.end, at, "grid"))
            parts.append(label(x.start - 7, at + 4, number(value, digits), "tick", "end"))
        across = x.ticks(ticks)
        digits = decimals(across)
        for value in across:
            at = x.at(value)
            parts.append(line(at, y.start, at, y.start + 4, "axis"))
            parts.append(label(at, y.start + 18, number(value, digits), "tick", "middle"))
        parts.append(line(x.start, y.start, x.end, y.start, "axis"))
        middle = (x.start + x.end) / 2
        parts.append(label(middle, y.start + 38, x_title, "axis-title", "middle"))
        up = (y.start + y.end) / 2
        parts.append(
            f'<text class="axis-title" text-anchor="middle" '
            f'transform="translate(14 {place(up)}) rotate(-90)">{html.escape(y_title)}</text>'
        )
        return parts

    def curve(self, points: Sequence[tuple[float, float]], kind: str, dash: str = "") -> str:
        """Return a line through points."""
        path = " ".join(f"{place(self.x.at(x))},{place(self.y.at(y))}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        return f'<polyline class="line {kind}"{dashed} points="{path}"/>'

    def ribbon(self, points: Sequence[tuple[float, float, float]], kind: str) -> str:
        """Return the area between ``(x, low, high)``."""
        above = [(x, high) for x, _, high in points]
        below = [(x, low) for x, low, _ in reversed(points)]
        path = " ".join(f"{place(self.x.at(x))},{place(self.y.at(y))}" for x, y in [*above, *below])
        return f'<polygon class="area {kind}" points="{path}"/>'

    def upright(self, x: float, kind: str) -> str:
        """Return a line from below to above at a value of x."""
        at = self.x.at(x)
        return line(at, self.y.start, at, self.y.end, f"line {kind}")

    def level(self, y: float, kind: str) -> str:
        """Return a line from left to right at a value of y."""
        at = self.y.at(y)
        return line(self.x.start, at, self.x.end, at, f"line {kind}")

    def bar(self, x: float, low: float, high: float, kind: str) -> str:
        """Return an upright interval at a value of x."""
        at = self.x.at(x)
        return line(at, self.y.at(low), at, self.y.at(high), f"line {kind}")

    def stretch(self, low: float, high: float, kind: str) -> str:
        """Return the area over all y between two values of x, at least 6 wide."""
        start, end = self.x.at(low), self.x.at(high)
        wide = max(6.0, end - start)
        start = (start + end - wide) / 2
        top, tall = self.y.end, self.y.start - self.y.end
        return (
            f'<rect class="area {kind}" x="{place(start)}" y="{place(top)}" '
            f'width="{place(wide)}" height="{place(tall)}"/>'
        )

    def mark(
        self, x: float, y: float, kind: str, said: str, *, shape: str = "circle", size: float = 4
    ) -> str:
        """Return a marker with what it says when it is pointed at."""
        return marker(self.x.at(x), self.y.at(y), kind, shape, size, said)


def drawing(
    key: str, title: str, description: str, width: float, height: float, parts: Iterable[str]
) -> Markup:
    """Return an SVG that names and describes itself to a screen reader.

    Parameters
    ----------
    key
        Its id, unique on the page.
    """
    return Markup(
        f'<svg class="chart" role="img" aria-labelledby="{key}-title {key}-text" '
        f'viewBox="0 0 {width:g} {height:g}" style="--wide:{width:g}px">'
        f'<title id="{key}-title">{html.escape(title)}</title>'
        f'<desc id="{key}-text">{html.escape(description)}</desc>{"".join(parts)}</svg>'
    )


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return what each sign means: pairs of SVG parts within 26 by 14 and words."""
    items = "".join(
        f'<li><svg class="key" aria-hidden="true" viewBox="0 0 26 14">{sign}</svg>'
        f"{html.escape(words)}</li>"
        for sign, words in entries
    )
    return Markup(f'<ul class="legend">{items}</ul>')


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    places = f'x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"'
    return f'<line class="{kind}" {places}/>'


def label(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    """Return text."""
    return (
        f'<text class="{kind}" text-anchor="{anchor}" x="{place(x)}" y="{place(y)}">'
        f"{html.escape(words)}</text>"
    )


def marker(
    x: float, y: float, kind: str, shape: str = "circle", size: float = 4, said: str = ""
) -> str:
    """Return a circle, square, triangle, diamond or star."""
    title = f"<title>{html.escape(said)}</title>" if said else ""
    if shape == "circle":
        return (
            f'<circle class="mark {kind}" cx="{place(x)}" cy="{place(y)}" r="{size:g}">'
            f"{title}</circle>"
        )
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "triangle": [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        "star": [
            (math.sin(turn * math.pi / 5) * far, -math.cos(turn * math.pi / 5) * far)
            for turn, far in zip(range(10), itertools.cycle((1.7, 0.7)), strict=False)
        ],
    }[shape]
    path = " ".join(f"{place(x + size * dx)},{place(y + size * dy)}" for dx, dy in corners)
    return f'<polygon class="mark {kind}" points="{path}">{title}</polygon>'


def widened(values: Iterable[float], share: float) -> tuple[float, float]:
    """Return the ends of values with a share of their range around them; never equal ends."""
    held = [value for value in values if math.isfinite(value)]
    low, high = (min(held), max(held)) if held else (0.0, 1.0)
    room = share * (high - low) or max(abs(high) * share, 0.5 * share)
    return low - room, high + room


def round_step(step: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not below a step."""
    unit = 10.0 ** math.floor(math.log10(step))
    return next((each * unit for each in (1, 2, 5, 10) if each * unit >= step * (1 - 1e-9)), step)


def decimals(values: Sequence[float]) -> int:
    """Return how many decimals tell neighbouring ticks apart."""
    gaps = [abs(b - a) for a, b in itertools.pairwise(values)]
    return max(0, -math.floor(math.log10(min(gaps)) + 1e-9)) if gaps else 2


def number(value: float, digits: int) -> str:
    """Return a number with so many decimals and a true minus sign."""
    shown = f"{value:.{digits}f}"
    if not float(shown):
        shown = shown.lstrip("-")
    return shown.replace("-", "−")


def place(value: float) -> str:
    """Return a coordinate."""
    shown = f"{value:.1f}"
    return shown.removesuffix(".0") if shown != "-0.0" else "0"
