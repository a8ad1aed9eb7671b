"""A greedy soup of task vectors: one culture after the other, at the λ that helps most."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.searches.trials import Point, Score


def greedy(evaluate: Score, box: Box, start: Sequence[Point], steps: int) -> Point:
    """Add the direction and λ that improve the value most, each direction once; return the soup.

    From λ = 0 on: of all directions that are still 0, at each of their λ, the best point is kept if
    it is better than the one before; of equals the first direction and its smallest |λ|. Ends where
    nothing improves or every direction is in: after ``Σ_{k=1..K} k · L`` points at most, with K
    directions of L λ each.

    Parameters
    ----------
    evaluate
        Scores a point; may end the search by an exception.
    box
        Where to look.
    start
        Points that are evaluated first, for comparison.
    steps
        λ on each side of 0, at even distances up to the end of the box.

    References
    ----------
    Greedy soups add models to an average while validation improves (Wortsman et al., arXiv
    2203.05482, recipe 1); here task vectors are added at one of several λ.
    """
    known = {point: evaluate(point)[0] for point in start}
    here = tuple(min(max(0.0, low), high) for low, high in zip(box.low, box.high, strict=True))
    value = known[here] if here in known else evaluate(here)[0]
    left = list(range(len(here)))
    while left:
        tried = [
            (evaluate(point)[0], direction, point)
            for direction in left
            for scale in scales_of(box, direction, steps)
            for point in [(*here[:direction], scale, *here[direction + 1 :])]
        ]
        best, direction, point = max(tried, key=lambda each: each[0])
        if best <= value:
            break
        value, here = best, point
        left.remove(direction)
    return here


def scales_of(box: Box, direction: int, steps: int) -> list[float]:
    """Return the λ of a direction: ``end · i / steps`` for both ends but 0, by rising |λ|."""
    ends = [end for end in (box.high[direction], box.low[direction]) if end != 0]
    found = [end * place / steps for end in ends for place in range(1, steps + 1)]
    return sorted(found, key=abs)
