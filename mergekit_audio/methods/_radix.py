"""Find the n-th largest of any number of streamed float32 values, in two readings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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

_LOW_BITS = 18  # values >= 0 have 31 bits: 2**13 coarse bins of 2**18 values each
_LOW_MASK = 2**_LOW_BITS - 1
_BINS = 2 ** (31 - _LOW_BITS)


class Threshold(NamedTuple):
    """How many of ``size`` to choose, the value of the last, how many exceed and equal it."""

    wanted: int
    size: int
    value: float = 0.0
    greater: int = 0
    equal: int = 0


class _Histogram(NamedTuple):
    """Codes that occur, ascending, and how often."""

    codes: np.ndarray
    numbers: np.ndarray


def thresholds(
    over: Over, keys: Keys, note: Callable[[TensorGroup], Any], counts: Counts
) -> list[list[Threshold]]:
    """Return the n-th largest value for each key and each of its counts n.

    The order of values >= 0 is that of their bits. One reading counts the upper bits of all, the
    next the lower bits of those that share a threshold's upper ones: exact, whatever the values
    and however many are equal, and nothing but the counts is held.

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
    seen = [each for each in over(lambda slices: _coarse(slices, keys, note)) if each is not None]
    if not seen:
        return []
    coarse = [_summed(column) for column in zip(*(found for _, found in seen), strict=True)]
    size = int(coarse[0].numbers.sum())
    wanted = counts([noted for noted, _ in seen], size)
    found = [
        [_nth(histogram, min(max(n, 1), size)) for n in numbers]
        for histogram, numbers in zip(coarse, wanted, strict=True)
    ]
    bins = [[code for code, _, _ in each] for each in found]
    parts = [each for each in over(lambda slices: _fine(slices, keys, bins)) if each]
    fine = iter([_summed(column) for column in zip(*parts, strict=True)])
    return [
        [
            _threshold(n, size, code, greater, next(fine))
            for n, (code, greater, _) in zip(numbers, each, strict=True)
        ]
        for numbers, each in zip(wanted, found, strict=True)
    ]


def _threshold(n: int, size: int, code: int, greater: int, fine: _Histogram) -> Threshold:
    low, also_greater, equal = _nth(fine, min(max(n, 1), size) - greater)
    bits = np.array([(code << _LOW_BITS) | low], dtype=np.int32)
    return Threshold(n, size, float(bits.view(np.float32)[0]), greater + also_greater, equal)


def _nth(histogram: _Histogram, n: int) -> tuple[int, int, int]:
    """Return the n-th largest code, how many are greater, how many equal it."""
    running = np.cumsum(histogram.numbers[::-1])
    place = int(np.searchsorted(running, n))
    equal = int(histogram.numbers[::-1][place])
    return int(histogram.codes[::-1][place]), int(running[place]) - equal, equal


def _coarse(
    slices: Slices, keys: Keys, note: Callable[[TensorGroup], Any]
) -> tuple[Any, list[_Histogram]] | None:
    noted: Any = None
    totals: list[np.ndarray] = []
    for group in slices:
        values_by_key = list(keys(group))
        if not totals:
            noted = note(group)
            totals = [np.zeros(_BINS, dtype=np.int64) for _ in values_by_key]
        for total, values in zip(totals, values_by_key, strict=True):
            seen = to_numpy(_occurrences(_bits(values) >> _LOW_BITS))
            total[: seen.size] += seen
    if not totals or not totals[0].any():
        return None
    places = [np.flatnonzero(total) for total in totals]
    return noted, [
        _Histogram(codes, total[codes]) for codes, total in zip(places, totals, strict=True)
    ]


def _fine(slices: Slices, keys: Keys, bins: Sequence[Sequence[int]]) -> list[_Histogram]:
    parts: list[list[_Histogram]] = [[] for each in bins for _ in each]
    for group in slices:
        numbered = iter(parts)
        for codes, values in zip(bins, keys(group), strict=True):
            bits = _bits(values)
            upper = bits >> _LOW_BITS
            for code in codes:
                inside = to_numpy(bits[upper == code] & _LOW_MASK)
                held = next(numbered)
                held.append(_Histogram(*np.unique(inside, return_counts=True)))
                if sum(each.codes.size for each in held) > _LOW_MASK:
                    held[:] = [_summed(held)]
    return [_summed(held) for held in parts] if all(parts) else []


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
