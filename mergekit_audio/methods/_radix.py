"""Find the n-th largest of any number of streamed float32 values, in two readings."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import Array, Slices, TensorGroup

Keys: TypeAlias = Callable[[TensorGroup], Iterator[Array]]
"""What to choose by: J flat float32 arrays of values >= 0 for each slice."""
Over: TypeAlias = Callable[[Callable[[Slices], Any]], list[Any]]
"""Calls a function with each tensor and returns the results in the tensors' order."""
Counts: TypeAlias = Callable[[list[Any], int], Sequence[Sequence[int]]]
"""For each key how many to choose, once or several times; of the tensors' notes and the size."""

_LOW_BITS = 17  # values >= 0 have 31 bits: 2**14 coarse bins of 2**17 values each
_BINS = 2 ** (31 - _LOW_BITS)
_SAMPLE_STEP = 16
_SAMPLED_SLICE = 2**12
_HELD_CODES = 2**18


@dataclass(frozen=True)
class Threshold:
    """The n-th largest value, how many exceed and equal it; n of how many were asked for."""

    value: float
    greater: int
    equal: int
    wanted: int = 0
    size: int = 0


class _Histogram(NamedTuple):
    """Codes that occur, ascending, and how often."""

    codes: np.ndarray
    numbers: np.ndarray


def thresholds(
    over: Over, keys: Keys, note: Callable[[TensorGroup], Any], counts: Counts
) -> list[list[Threshold]]:
    """Return the n-th largest value for each key and each of its counts n.

    The order of values >= 0 is that of their bits. One reading counts the upper bits of a sample,
    which say about where a threshold is; the next counts each value near it, and those above.
    Where the sample was misleading, both are done again with all values: exact, whatever the
    values and however many are equal, and little but counts is held.

    Parameters
    ----------
    over
        Applies a function to each tensor.
    keys
        J arrays of a slice.
    note
        What ``counts`` must know of a tensor, read from its first slice.
    counts
        Of the tensors' notes and the number of values: for each key its n.
    """
    found: list[list[Threshold | None]] = []
    for step in (_SAMPLE_STEP, 1):
        seen = [
            each
            for each in over(functools.partial(_coarse, keys=keys, note=note, step=step))
            if each
        ]
        if not seen:
            return []
        size = sum(number for number, _, _ in seen)
        wanted = counts([noted for _, noted, _ in seen], size)
        places = [[min(max(n, 1), size) for n in numbers] for numbers in wanted]
        coarse = [_summed(column) for column in zip(*(each for _, _, each in seen), strict=True)]
        bins = [
            [_nth(histogram, n)[0] for n in numbers]
            for histogram, numbers in zip(coarse, places, strict=True)
        ]
        found = _inside(over, keys, places, bins)
        if all(each is not None for row in found for each in row):
            break
    return [
        [replace(each, wanted=n, size=size) for n, each in zip(numbers, row, strict=True) if each]
        for numbers, row in zip(wanted, found, strict=True)
    ]


def _inside(
    over: Over, keys: Keys, places: Sequence[Sequence[int]], bins: Sequence[Sequence[int]]
) -> list[list[Threshold | None]]:
    """Return the n-th largest values that are in the bins supposed; None where one is not."""
    parts = [each for each in over(lambda slices: _fine(slices, keys, bins)) if each]
    fine = [
        (sum(above for above, _ in column), _summed([histogram for _, histogram in column]))
        for column in zip(*parts, strict=True)
    ]
    counted = iter(fine)
    return [[_threshold(n, *next(counted)) for n in numbers] for numbers in places]


def _threshold(n: int, above: int, fine: _Histogram) -> Threshold | None:
    if not above < n <= above + int(fine.numbers.sum()):
        return None
    code, greater, equal = _nth(fine, n - above)
    bits = np.array([code], dtype=np.int32)
    return Threshold(float(bits.view(np.float32)[0]), above + greater, equal)


def _nth(histogram: _Histogram, n: int) -> tuple[int, int, int]:
    """Return the n-th largest code, how many are greater, how many equal it."""
    running = np.cumsum(histogram.numbers[::-1])
    place = int(np.searchsorted(running, n))
    equal = int(histogram.numbers[::-1][place])
    return int(histogram.codes[::-1][place]), int(running[place]) - equal, equal


def _coarse(
    slices: Slices, keys: Keys, note: Callable[[TensorGroup], Any], step: int
) -> tuple[int, Any, list[_Histogram]] | None:
    """Return a tensor's size, its note, and for each key how often the upper bits occur.

    Of long slices only every ``step``-th value is seen, and counts for ``step``.
    """
    size, noted = 0, None
    totals: list[np.ndarray] = []
    for group in slices:
        length = math.prod(group.base.shape)
        each = step if length >= _SAMPLED_SLICE else 1
        values_by_key = list(keys(_thinned(group, each)))
        if not totals:
            noted = note(group)
            totals = [np.zeros(_BINS, dtype=np.int64) for _ in values_by_key]
        for total, values in zip(totals, values_by_key, strict=True):
            seen = to_numpy(_occurrences(_bits(values) >> _LOW_BITS))
            total[: seen.size] += seen * each
        size += length
    if not size:
        return None
    places = [np.flatnonzero(total) for total in totals]
    found = zip(places, totals, strict=True)
    return size, noted, [_Histogram(codes, total[codes]) for codes, total in found]


def _thinned(group: TensorGroup, step: int) -> TensorGroup:
    if step == 1:
        return group
    models = group.models.reshape(len(group.weights), -1)
    return replace(group, base=group.base.reshape(-1)[::step], models=models[:, ::step])


def _fine(
    slices: Slices, keys: Keys, bins: Sequence[Sequence[int]]
) -> list[tuple[int, _Histogram]]:
    """Return for each bin how many are above its neighbours, and the bits of those in the three."""
    above = [0 for each in bins for _ in each]
    parts: list[list[np.ndarray]] = [[] for _ in above]
    sums: list[list[_Histogram]] = [[] for _ in above]
    for group in slices:
        i = 0
        for codes, values in zip(bins, keys(group), strict=True):
            bits = _bits(values)
            upper = bits >> _LOW_BITS
            for code in codes:
                greater = upper > code + 1
                above[i] += int(group.xp.count_nonzero(greater))
                inside = upper >= code - 1
                inside ^= greater
                parts[i].append(to_numpy(bits[inside]))
                if sum(each.size for each in parts[i]) > _HELD_CODES:
                    sums[i] = [_summed([*sums[i], _histogram(parts[i])])]
                    parts[i] = []
                i += 1
    return [
        (number, _summed([*held, _histogram(rest)]))
        for number, held, rest in zip(above, sums, parts, strict=True)
    ]


def _histogram(parts: Sequence[np.ndarray]) -> _Histogram:
    codes = np.concatenate([np.empty(0, dtype=np.int32), *parts])
    return _Histogram(*np.unique(codes, return_counts=True))


def _bits(values: Array) -> Array:
    if isinstance(values, np.ndarray):
        return values.view(np.int32)
    import torch

    return values.view(torch.int32)


def _occurrences(codes: Array) -> Array:
    return np.bincount(codes) if isinstance(codes, np.ndarray) else codes.bincount()


def _summed(parts: Sequence[_Histogram]) -> _Histogram:
    if len(parts) == 1:
        return parts[0]
    codes, places = np.unique(np.concatenate([each.codes for each in parts]), return_inverse=True)
    numbers = np.zeros(codes.size, dtype=np.int64)
    np.add.at(numbers, places, np.concatenate([each.numbers for each in parts]))
    return _Histogram(codes, numbers)
