"""Search λ along one direction after the other, each by a golden section."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.searches.trials import Point, Score

GOLDEN = (math.sqrt(5) - 1) / 2
"""What a golden section keeps of its range: of two points inside, the better one is an inner point
of the smaller range again."""


def coordinate(evaluate: Score, box: Box, start: Sequence[Point], steps: int) -> None:
    """Look along one direction after the other, through the best point so far, without an end.

    Parameters
    ----------
    evaluate
        Scores a point; ends the search by an exception.
    box
        Where to look.
    start
        Points to begin with, the best of them first; without any the middle of the box.
    steps
        Points of each line.
    """
    middle = tuple((low + high) / 2 for low, high in zip(box.low, box.high, strict=True))
    value, here = max(
        ((evaluate(point)[0], point) for point in start or [middle]), key=lambda each: each[0]
    )
    for direction in itertools.cycle(range(len(box.low))):
        line = _Line(evaluate, here, direction)
        golden_section(line.value_at, box.low[direction], box.high[direction], steps)
        if line.best > value:
            value, here = line.best, line.point


def golden_section(
    value_at: Callable[[float], float], low: float, high: float, steps: int
) -> tuple[float, float]:
    """Narrow a range around the maximum of a function with one peak; return what is left of it.

    Two inner points cut the range by the golden ratio from either end. The part beyond the worse
    one is given up; the better one stays an inner point, so that each step evaluates one.

    Parameters
    ----------
    value_at
        The function.
    low, high
        The range.
    steps
        Evaluations, at least two.
    """
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = value_at(left), value_at(right)
    for _ in range(steps - 2):
        if at_left >= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = value_at(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = value_at(right)
    return low, high


class _Line:
    """The points through ``here`` along one direction, with the best that was evaluated."""

    def __init__(self, evaluate: Score, here: Point, direction: int) -> None:
        self.evaluate, self.here, self.direction = evaluate, here, direction
        self.best, self.point = -math.inf, here

    def value_at(self, scale: float) -> float:
        point = (*self.here[: self.direction], scale, *self.here[self.direction + 1 :])
        value = self.evaluate(point)[0]
        if value > self.best:
            self.best, self.point = value, point
        return value
