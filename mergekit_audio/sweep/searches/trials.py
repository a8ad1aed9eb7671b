"""What a search evaluates: points, their values, the best of them and their Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Point = tuple[float, ...]
Score = Callable[[Point], Sequence[float]]
"""The values to maximise at a point: one, or two for a Pareto front."""


@dataclass(frozen=True)
class Trial:
    """One evaluated point.

    Parameters
    ----------
    number
        Its place, from 0.
    point
        λ in each direction.
    values
        What is maximised.
    """

    number: int
    point: Point
    values: tuple[float, ...]


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest first value; of equals the one nearest to 0."""
    return min(trials, key=lambda each: (-each.values[0], math.hypot(*each.point), each.point))


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in one value without losing in another.

    Of equal values the point nearest to 0 stands for all; sorted by the first value.
    """
    front: dict[tuple[float, ...], Trial] = {}
    for one in sorted(trials, key=lambda each: (math.hypot(*each.point), each.point)):
        beaten = any(
            other.values != one.values
            and all(a >= b for a, b in zip(other.values, one.values, strict=True))
            for other in trials
        )
        if not beaten:
            front.setdefault(one.values, one)
    return sorted(front.values(), key=lambda each: each.values)
