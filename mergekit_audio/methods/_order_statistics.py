"""Exact order statistics of a whole model's values that are never all held at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import Array, Slices, TensorGroup, Tensors

_SAMPLE = 1 << 20  # values of each model that the first guess is made from
_MARGIN = 6.0  # standard deviations of the guess on each side
_WIDENING = 8.0  # of the margin after a miss

Scores = Callable[[TensorGroup], Array | Sequence[Array]]
"""From a slice to its values, float64, shape ``[K, …]``, as many as elements or fewer."""
Ranks = Callable[[int, int], Sequence[Sequence[int]]]
"""From (number of models, number of values of each) to the ranks of each model."""


@dataclass(frozen=True)
class _Bracket:
    """One wanted order statistic and the values that it is guessed, or known, to lie between."""

    model: int
    rank: int
    low: float
    high: float
    margin: float


@dataclass(frozen=True)
class _Count:
    """What one tensor, or all, has below, at and strictly inside a bracket."""

    below: int
    at_low: int
    at_high: int
    inside: np.ndarray


def order_statistics(
    tensors: Tensors,
    scores: Scores,
    ranks: Ranks,
    sample: int = _SAMPLE,
    *,
    elementwise: bool = False,
) -> list[list[float]]:
    """Return for each model its values of certain ranks over all tensors; rank 0 is the smallest.

    A regular sample of about ``sample`` values of each model brackets each statistic; a second pass
    counts what lies below and at the ends of the bracket and sorts only what lies inside. Where the
    bracket misses, a wider one on the side that the counts tell is tried in another pass: the
    result is exact, and what is held at once stays small however many values are equal.

    Parameters
    ----------
    tensors
        All tensors of the models.
    scores
        The values, finite, in which ranks are counted.
    ranks
        From the numbers of models and of values to the ranks asked for, each from 0 to the number
        of values less 1. Not called, and the result is empty, where there is no value.
    sample
        About how many values of each model the guess is made from.
    elementwise
        Each element has a value that depends on nothing else: a sample is read by itself.
    """
    stride = max(1, tensors.size // sample) | 1
    sampled = partial(_sampled, scores=scores, stride=stride, elementwise=elementwise)
    read = [each for each in tensors.map(sampled) if each]
    total = sum(size for size, _ in read)
    if not total:
        return []
    guesses = np.sort(np.concatenate([values for _, values in read], axis=1), axis=1)
    ranks_by_model = ranks(len(guesses), total)
    wanted = [
        _guess(guesses[model], _Bracket(model, rank, -math.inf, math.inf, _MARGIN), total)
        for model, each in enumerate(ranks_by_model)
        for rank in each
    ]
    found: dict[tuple[int, int], float] = {}
    while wanted:
        brackets = tuple(wanted)
        parts_by_tensor = tensors.map(partial(_counted, scores=scores, brackets=brackets))
        wanted = []
        for place, bracket in enumerate(brackets):
            count = _together([part[place] for part in parts_by_tensor])
            value = _resolved(bracket, count)
            if isinstance(value, float):
                found[bracket.model, bracket.rank] = value
            else:
                wanted.append(_guess(guesses[bracket.model], value, total))
    return [[found[model, rank] for rank in each] for model, each in enumerate(ranks_by_model)]


def _resolved(bracket: _Bracket, count: _Count) -> float | _Bracket:
    """Return the value, or the side of the bracket where it must lie."""
    rank, margin = bracket.rank - count.below, _WIDENING * bracket.margin
    if rank < 0:
        return dataclasses.replace(bracket, low=-math.inf, high=bracket.low, margin=margin)
    if rank < count.at_low:
        return bracket.low
    rank -= count.at_low
    if rank < count.inside.size:
        return float(np.partition(count.inside, rank)[rank])
    if rank - count.inside.size < count.at_high:
        return bracket.high
    return dataclasses.replace(bracket, low=bracket.high, high=math.inf, margin=margin)


def _sampled(
    slices: Slices, scores: Scores, stride: int, elementwise: bool
) -> tuple[int, np.ndarray] | None:
    """Return how many values a tensor has and every ``stride``-th, shape ``[K, …]``."""
    if elementwise:
        parts = [np.stack(_rows(scores(group))) for group in slices.sampled(stride)]
        return (math.prod(slices.shape), np.concatenate(parts, axis=1)) if parts else None
    size, parts = 0, []
    for group in slices:
        values = _rows(scores(group))
        size += values[0].size
        parts.append(np.stack([row[-group.start % stride :: stride] for row in values]))
    return (size, np.concatenate(parts, axis=1)) if parts else None


def _counted(slices: Slices, scores: Scores, brackets: Sequence[_Bracket]) -> list[_Count]:
    """Return the counts of one tensor for each bracket."""
    counts: list[list[_Count]] = [[] for _ in brackets]
    for group in slices:
        values = _rows(scores(group))
        for place, bracket in enumerate(brackets):
            own, low, high = values[bracket.model], bracket.low, bracket.high
            below = int(np.count_nonzero(own < low))
            to_low, inside = own <= low, own < high
            at_low = int(np.count_nonzero(to_low)) - below
            at_high = 0
            if high != low:
                at_high = int(np.count_nonzero(own <= high)) - int(np.count_nonzero(inside))
            inside &= ~to_low
            counts[place].append(_Count(below, at_low, at_high, own[inside]))
    return [_together(each) for each in counts]


def _together(counts: Sequence[_Count]) -> _Count:
    return _Count(
        sum(count.below for count in counts),
        sum(count.at_low for count in counts),
        sum(count.at_high for count in counts),
        np.concatenate([np.empty(0), *(count.inside for count in counts)]),
    )


def _guess(sample: np.ndarray, bracket: _Bracket, total: int) -> _Bracket:
    """Return the bracket cut to the values of the sorted sample around its rank."""
    share = (bracket.rank + 0.5) / total
    middle = share * sample.size
    margin = bracket.margin * (math.sqrt(sample.size * share * (1 - share)) + 1)
    first, last = math.floor(middle - margin), math.ceil(middle + margin)
    low = float(sample[first]) if first >= 0 else -math.inf
    high = float(sample[last]) if last < sample.size else math.inf
    return dataclasses.replace(bracket, low=max(low, bracket.low), high=min(high, bracket.high))


def _rows(values: Array | Sequence[Array]) -> list[np.ndarray]:
    return [to_numpy(each).reshape(-1) for each in values]
