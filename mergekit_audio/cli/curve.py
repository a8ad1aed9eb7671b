"""Draw the curve of a search for λ in one line of text, as far as it is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mergekit_audio.progress import CurvePoint

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-~=+*#"
"""Heights for terminals that have no blocks."""
EMPTY = " "
WIDTH = 40


class Curve:
    """The points so far, the best of them, and their sparkline."""

    def __init__(self) -> None:
        self.points: dict[str, CurvePoint] = {}

    def add(self, point: CurvePoint) -> None:
        """Take a point; one that is scored again takes the earlier one's place."""
        self.points = {**self.points, point.name: point}  # another thread may be drawing

    def best(self) -> CurvePoint | None:
        """Return the best point: constraints kept, the highest goal, of equals the smallest |λ|."""
        known = [each for each in self.points.values() if math.isfinite(each.goal)]
        return min(
            known, key=lambda each: (each.broken, -each.goal, abs(each.scale or 0.0)), default=None
        )

    def text(self, encoding: str = "utf-8", width: int = WIDTH) -> str:
        """Return ``λ 0 ▁▃█▅▂ 1  best λ = 0.3: 72.10, base 70.00 +2.10 (5 points)``.

        The line rises from the lowest goal to the highest; a place without a point is empty. With
        several λ the points stand in the order in which they came. The base's λ is 0.

        Parameters
        ----------
        encoding
            The terminal's: without blocks in it heights are plain signs, and λ is ``lambda``.
        width
            The most places of the sparkline.
        """
        best, found = self.best(), list(self.points.values())
        if best is None:
            return ""
        has_blocks = _can_write(BLOCKS + "λ", encoding)
        scales = [each.scale for each in found if each.scale is not None]
        if len(scales) == len(found):
            low, high = min(scales), max(scales)
            places = _binned(found, low, high, width)
            ends = (f"λ {low:g} ", f" {high:g}")
        else:
            places = [each.goal for each in found][-width:]
            ends = ("", "")
        line = ends[0] + _sparkline(places, BLOCKS if has_blocks else PLAIN) + ends[1]
        count = len(found)
        text = (
            f"{line}  best {best.name}: {best.goal:.2f}, base {best.base:.2f} "
            f"{best.goal - best.base:+.2f} ({count} point{'s' if count > 1 else ''})"
        )
        return text if has_blocks else text.replace("λ", "lambda")


def _binned(points: Sequence[CurvePoint], low: float, high: float, width: int) -> list[float]:
    """Return the highest goal in each of up to ``width`` equal parts of λ; NaN where none is."""
    count = min(width, max(1, len(points)))
    if high > low:
        scales = sorted({each.scale for each in points if each.scale is not None})
        gaps = [after - before for before, after in itertools.pairwise(scales)]
        count = min(width, round((high - low) / min(gaps)) + 1) if gaps else count
    places = [math.nan] * count
    for point in points:
        assert point.scale is not None
        share = (point.scale - low) / (high - low) if high > low else 0.0
        place = min(count - 1, round(share * (count - 1)))
        if math.isfinite(point.goal) and not places[place] >= point.goal:
            places[place] = point.goal
    return places


def _sparkline(values: Sequence[float], signs: str) -> str:
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)

    def sign(value: float) -> str:
        if not math.isfinite(value):
            return EMPTY
        share = (value - low) / (high - low) if high > low else 0.0
        return signs[min(len(signs) - 1, int(share * len(signs)))]

    return "".join(map(sign, values))


def _can_write(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True
