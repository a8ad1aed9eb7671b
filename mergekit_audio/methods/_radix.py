"""Find the n-th largest of any number of streamed float32 values: a sample, then one reading."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
_SAMPLE_SHARE = 32  # of n values about this times √n are in the sample
_MARGIN = 5.0  # standard deviations of the sample's guess on each side
_HELD_CODES = 2**18
_LARGEST_CODE = 2**31 - 1


@dataclass(frozen=True)
class Threshold:
    """The n-th largest value, how many exceed and equal it; n of how many were asked for.

    ``places`` are the equal ones' where they were noted: the order in the tensor, ascending.
    """

    value: float = 0.0
    greater: int = 0
    equal: int = 0
    wanted: int = 0
    size: int = 0
    places: np.ndarray | None = None


class _Wanted(NamedTuple):
    """The n-th largest of a key, supposed to be one of the codes from ``low`` to ``high``."""

    key: int
    n: int
    low: int
    high: int


class _Count(NamedTuple):
    """How many codes are > high, > low and >= low, and those > low and <= high.

    ``numbers`` tell how often each of ``codes`` occurs (None: once), ``places`` where.
    """

    over_high: int
    over_low: int
    from_low: int
    codes: np.ndarray
    numbers: np.ndarray | None = None
    places: np.ndarray | None = None


def thresholds(
    over: Over,
    keys: Keys,
    note: Callable[[TensorGroup], Any],
    counts: Counts,
    size: int,
    *,
    places: bool = False,
) -> list[list[Threshold]]:
    """Return the n-th largest value for each key and each of its counts n.

    The order of values >= 0 is that of their bits. A regular sample brackets each threshold; one
    reading counts what is above the bracket and selects among the few values in it. Where the
    sample was misleading, another reading counts the upper bits of all values, which bracket the
    threshold surely: exact, whatever the values and however many are equal.

    Parameters
    ----------
    over
        Applies a function to each tensor.
    keys
        J arrays of a slice.
    note
        What ``counts`` must know of a tensor, read from its sample.
    counts
        Of the tensors' notes and the number of values: for each key its n.
    size
        The number of values of a key.
    places
        Note where the equal values are, of one tensor; they may be unknown even so.
    """
    if not size:
        return []
    step = math.isqrt(size) // _SAMPLE_SHARE | 1
    seen = [each for each in over(partial(_sampled, keys=keys, note=note, step=step)) if each]
    numbers = counts([noted for noted, _ in seen], size)
    samples = [
        np.sort(np.concatenate(column))
        for column in zip(*(codes for _, codes in seen), strict=True)
    ]
    asked = [(key, n) for key, each in enumerate(numbers) for n in each]
    wanted = [_supposed(samples[key], key, n, size) for key, n in asked if 0 < n < size]
    found = _found(over, keys, wanted, places)
    missed = [each for each in wanted if (each.key, each.n) not in found]
    if missed:
        histograms = over(partial(_occurrences, keys=keys))
        totals = [sum(column) for column in zip(*histograms, strict=True)]
        sure = [_binned(totals[each.key], each) for each in missed]
        found |= _found(over, keys, sure, places)
    return [
        [replace(found.get((key, n), Threshold()), wanted=n, size=size) for n in each]
        for key, each in enumerate(numbers)
    ]


def codes_of(values: Array) -> Array:
    """Return the bits of float32 values as integers."""
    if isinstance(values, np.ndarray):
        return values.view(np.int32)
    import torch

    return values.view(torch.int32)


def _sampled(
    slices: Slices, keys: Keys, note: Callable[[TensorGroup], Any], step: int
) -> tuple[Any, list[np.ndarray]] | None:
    """Return a tensor's note, and for each key the codes of every ``step``-th element."""
    noted: Any = None
    parts: list[list[np.ndarray]] = []
    for group in slices.sampled(step):
        values = [to_numpy(codes_of(each)) for each in keys(group)]
        if not parts:
            noted, parts = note(group), [[] for _ in values]
        for held, each in zip(parts, values, strict=True):
            held.append(each)
    return (noted, [np.concatenate(held) for held in parts]) if parts else None


def _supposed(sample: np.ndarray, key: int, n: int, size: int) -> _Wanted:
    """Return the bracket that the sorted sample suggests."""
    share = (size - n + 0.5) / size
    middle = share * sample.size
    margin = _MARGIN * math.sqrt(sample.size * share * (1 - share)) + 3
    first, last = math.floor(middle - margin), math.ceil(middle + margin)
    low = int(sample[first]) if first >= 0 else -1
    high = int(sample[last]) if last < sample.size else _LARGEST_CODE
    return _Wanted(key, n, low, high)


def _binned(totals: np.ndarray, wanted: _Wanted) -> _Wanted:
    """Return the bracket that is the bin with the n-th largest code."""
    running = np.cumsum(totals[::-1])
    place = _BINS - 1 - int(np.searchsorted(running, wanted.n))
    low = (place << _LOW_BITS) - 1
    return wanted._replace(low=low, high=low + 2**_LOW_BITS)


def _occurrences(slices: Slices, keys: Keys) -> list[np.ndarray]:
    """Return for each key how often each combination of upper bits occurs."""
    totals: list[np.ndarray] = []
    for group in slices:
        for j, values in enumerate(keys(group)):
            upper = codes_of(values) >> _LOW_BITS
            if isinstance(upper, np.ndarray):
                seen = np.bincount(upper, minlength=_BINS)
            else:
                seen = to_numpy(upper.bincount(minlength=_BINS))
            if j == len(totals):
                totals.append(seen)
            else:
                totals[j] += seen
    return totals


def _found(
    over: Over, keys: Keys, wanted: Sequence[_Wanted], places: bool
) -> dict[tuple[int, int], Threshold]:
    """Return the thresholds that are in their brackets, by key and n."""
    if not wanted:
        return {}
    parts = [each for each in over(partial(_counted, keys=keys, wanted=wanted, places=places))]
    columns = zip(*(each for each in parts if each), strict=True)
    found = {}
    for each, column in zip(wanted, columns, strict=True):
        threshold = _threshold(each, _together(column))
        if threshold:
            found[each.key, each.n] = threshold
    return found


def _counted(
    slices: Slices, keys: Keys, wanted: Sequence[_Wanted], places: bool
) -> list[_Count] | None:
    """Return the counts of one tensor for each bracket."""
    parts: list[list[_Count]] = [[] for _ in wanted]
    limits = [_HELD_CODES for _ in wanted]
    for group in slices:
        codes_by_key = [codes_of(values) for values in keys(group)]
        for i, (held, each) in enumerate(zip(parts, wanted, strict=True)):
            held.append(_count(group, codes_by_key[each.key], each.low, each.high, places))
            if sum(count.codes.size for count in held) > limits[i]:
                held[:] = [_compressed(_together(held))]
                limits[i] = max(_HELD_CODES, 2 * held[0].codes.size)
    counts = [_together(held) for held in parts if held]
    return counts or None


def _count(group: TensorGroup, codes: Array, low: int, high: int, places: bool) -> _Count:
    xp = group.xp
    over_high, over_low = codes > high, codes > low
    number = int(xp.count_nonzero(over_high)), int(xp.count_nonzero(over_low))
    from_low = int(xp.count_nonzero(codes >= low))
    over_low ^= over_high
    if not places:
        return _Count(*number, from_low, to_numpy(codes[over_low]))
    inside = xp.nonzero(over_low)[0]
    values = to_numpy(codes[inside])
    return _Count(*number, from_low, values, None, to_numpy(inside) + group.start)


def _together(counts: Sequence[_Count]) -> _Count:
    """Return the counts of what several parts hold together."""
    if len(counts) == 1:
        return counts[0]
    numbers = places = None
    if any(each.numbers is not None for each in counts):
        ones = [np.ones(each.codes.size, np.int64) for each in counts]
        numbers = np.concatenate(
            [
                one if each.numbers is None else each.numbers
                for one, each in zip(ones, counts, strict=True)
            ]
        )
    elif all(each.places is not None for each in counts):
        places = np.concatenate([each.places for each in counts if each.places is not None])
    return _Count(
        sum(each.over_high for each in counts),
        sum(each.over_low for each in counts),
        sum(each.from_low for each in counts),
        np.concatenate([each.codes for each in counts]),
        numbers,
        places,
    )


def _compressed(count: _Count) -> _Count:
    """Return the counts with each code once."""
    codes, inverse = np.unique(count.codes, return_inverse=True)
    numbers = np.bincount(inverse, count.numbers).astype(np.int64)
    return count._replace(codes=codes, numbers=numbers, places=None)


def _threshold(wanted: _Wanted, count: _Count) -> Threshold | None:
    n = wanted.n - count.over_high
    if count.over_low < wanted.n <= count.from_low:
        value = _value(wanted.low)
        return Threshold(value, count.over_low, count.from_low - count.over_low)
    if not 0 < n <= count.over_low - count.over_high:
        return None
    codes, numbers = count.codes, count.numbers
    if numbers is None:
        code = int(np.partition(codes, codes.size - n)[codes.size - n])
        greater, same = int(np.count_nonzero(codes > code)), codes == code
        places = None if count.places is None else count.places[same]
        equal = int(np.count_nonzero(same))
        return Threshold(_value(code), count.over_high + greater, equal, places=places)
    order = np.argsort(codes)
    running = np.cumsum(numbers[order][::-1])
    code = int(codes[order][::-1][np.searchsorted(running, n)])
    greater, equal = int(numbers[codes > code].sum()), int(numbers[codes == code].sum())
    return Threshold(_value(code), count.over_high + greater, equal)


def _value(code: int) -> float:
    return float(np.array([code], dtype=np.int32).view(np.float32)[0])
