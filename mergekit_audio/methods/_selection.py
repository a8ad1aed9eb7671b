"""Choose the largest elements of a tensor or of a whole model exactly, without a sort."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from mergekit_audio.methods._arrays import kth_largest, to_numpy
from mergekit_audio.methods._radix import Counts, Keys, Threshold, thresholds
from mergekit_audio.methods.base import Array, Slices, TensorGroup, Tensors

_ALL = sys.maxsize
_HELD_VALUES = 2**18  # of one key of a tensor: 1 MiB; a larger one is read again instead


@dataclass(frozen=True)
class Cut:
    """A chosen part: all elements above ``value``, and those equal to it up to place ``last``."""

    value: float
    last: int = _ALL

    def contains(self, keys: Array, start: int) -> Array:
        """Return a new mask of the chosen among flat keys, the first of which is at ``start``."""
        if self.last >= start + keys.shape[0] - 1:
            return keys >= self.value
        mask = keys > self.value
        if self.last >= start:
            head = self.last + 1 - start
            mask[:head] = keys[:head] >= self.value
        return mask


EVERYTHING = Cut(0.0)
NOTHING = Cut(math.inf, -1)


def flat_task_vectors(group: TensorGroup) -> Iterator[Array]:
    """Yield τᵢ = θᵢ − θ_base of each model, flat, each a new array."""
    count = len(group.weights)
    base, models = group.base.reshape(-1), group.models.reshape(count, -1)
    for i in range(count):
        yield models[i, ...] - base


def magnitude(xp: ModuleType, tau: Array) -> Array:
    """Return abs(τ), rounded to float32."""
    return xp.abs(xp.astype(tau, xp.float32))


def magnitudes(group: TensorGroup) -> Iterator[Array]:
    """Yield abs(τᵢ) of each model, flat, rounded to float32."""
    if not isinstance(group.base, np.ndarray):
        for tau in flat_task_vectors(group):
            yield magnitude(group.xp, tau)
        return
    base = group.base.reshape(-1)
    for model in group.models.reshape(len(group.weights), -1):
        values = np.empty(base.shape, np.float32)
        np.subtract(model, base, out=values, casting="same_kind")  # in float64, then rounded
        yield np.abs(values, out=values)


def largest_of_tensor(
    slices: Slices, keys: Keys, counts: Callable[[TensorGroup], Sequence[Sequence[int]]]
) -> list[list[Cut]]:
    """Return for each key and each of its counts the cut that holds so many elements of a tensor.

    Among equals the first in the tensor's order are chosen, so that the number is exact.

    Parameters
    ----------
    slices
        The tensor.
    keys
        J arrays of a slice; the larger an element's, the sooner it is chosen.
    counts
        Of the first slice: for each key how many elements to choose, once or several times.
    """
    size = math.prod(slices.shape)
    if size > _HELD_VALUES:
        return _in_order(slices, keys, counts, size)
    held: list[list[Array]] = []
    wanted: Sequence[Sequence[int]] = []
    xp: ModuleType = np
    for group in slices:
        values = list(keys(group))
        if not held:
            wanted, held, xp = counts(group), [[] for _ in values], group.xp
        for parts, each in zip(held, values, strict=True):
            parts.append(each)
    return [
        _cuts_of_held(xp, parts, numbers, size) for parts, numbers in zip(held, wanted, strict=True)
    ]


def largest_of_model(
    tensors: Tensors, keys: Keys, note: Callable[[TensorGroup], Any], counts: Counts
) -> list[list[Cut]]:
    """Return for each key and each of its counts the cut over all elements of a model.

    All that equal the smallest chosen one are chosen, too. Reads a sample of the model, then all
    of it, and holds little.

    Parameters
    ----------
    tensors
        The model's tensors.
    keys
        J arrays of a slice; the larger an element's, the sooner it is chosen.
    note
        What ``counts`` must know of a tensor, read from its first slice.
    counts
        Of the tensors' notes and the number of elements: for each key how many to choose.
    """
    found = thresholds(tensors.map, keys, note, counts, tensors.size)
    return [[_cut(each) for each in row] for row in found]


def _trivial(count: int, size: int) -> Cut | None:
    if count <= 0:
        return NOTHING
    return EVERYTHING if count >= size else None


def _cut(threshold: Threshold) -> Cut:
    """Return the cut with all that equal the smallest chosen element."""
    return _trivial(threshold.wanted, threshold.size) or Cut(threshold.value)


def _exact_cut(threshold: Threshold) -> Cut | None:
    """Return the cut with the first of equals; None where their places are not known."""
    trivial = _trivial(threshold.wanted, threshold.size)
    missing = threshold.wanted - threshold.greater
    if trivial or missing == threshold.equal:
        return trivial or Cut(threshold.value)
    if threshold.places is None:
        return None
    return Cut(threshold.value, int(threshold.places[missing - 1]))


def _cuts_of_held(
    xp: ModuleType, parts: list[Array], counts: Sequence[int], size: int
) -> list[Cut]:
    """Return the cuts of values that are in memory."""
    if all(_trivial(count, size) for count in counts):
        return [_trivial(count, size) or EVERYTHING for count in counts]
    values = parts[0] if len(parts) == 1 else xp.concat(parts)
    return [_trivial(count, size) or cut_of_held(xp, values, count) for count in counts]


def cut_of_held(xp: ModuleType, values: Array, count: int) -> Cut:
    """Return the cut of the ``count`` largest (1 or more) of values that are in memory."""
    value = kth_largest(values, count)
    missing = count - int(xp.count_nonzero(values > value))
    equal = values == value
    if missing == int(xp.count_nonzero(equal)):
        return Cut(value)
    return Cut(value, int(xp.nonzero(equal)[0][missing - 1]))


def _in_order(
    slices: Slices,
    keys: Keys,
    counts: Callable[[TensorGroup], Sequence[Sequence[int]]],
    size: int,
) -> list[list[Cut]]:
    """Return cuts of a large tensor; another reading where many equals must be told apart."""
    found = thresholds(
        lambda function: [function(slices)],
        keys,
        counts,
        lambda noted, size: noted[0],
        size,
        places=True,
    )
    cuts = [[_exact_cut(each) for each in row] for row in found]
    missing = {
        (j, c): found[j][c].wanted - found[j][c].greater
        for j, row in enumerate(cuts)
        for c, cut in enumerate(row)
        if cut is None
    }
    if missing:
        for group in slices:
            for j, values in enumerate(keys(group)):
                for c, threshold in enumerate(found[j]):
                    if missing.get((j, c), 0) > 0:
                        places = to_numpy(group.xp.nonzero(values == threshold.value)[0])
                        if places.size >= missing[j, c]:
                            last = group.start + int(places[missing[j, c] - 1])
                            cuts[j][c] = Cut(threshold.value, last)
                        missing[j, c] -= places.size
    return [[cut for cut in row if cut is not None] for row in cuts]
