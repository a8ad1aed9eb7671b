"""Arrays of either library: their namespace, conversion, selection and keyed random numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

_NUMBERS_PER_BLOCK = 4  # of Philox4x64
_SAMPLED_VALUES = 2**16  # fewer are partitioned at once
_SAMPLE_SHARE = 32  # of n values about this times √n are sampled
_MARGIN = 5.0  # standard deviations of the guess on each side


def namespace(array: Any) -> ModuleType:
    """Return the array-API namespace: numpy itself, or array_api_compat's view of torch."""
    if isinstance(array, np.ndarray | np.generic):
        return np
    import array_api_compat.torch

    module: ModuleType = array_api_compat.torch
    return module


def like(values: np.ndarray, reference: Any) -> Any:
    """Return numpy values as the reference's kind of array, on its device."""
    if isinstance(reference, np.ndarray | np.generic):
        return values
    import torch

    return torch.from_numpy(values).to(reference.device)


def to_numpy(array: Any) -> np.ndarray:
    """Return an array of either library as numpy's, on the CPU."""
    if isinstance(array, np.ndarray | np.generic):
        return np.asarray(array)
    result: np.ndarray = array.detach().cpu().numpy()
    return result


def uniform(key: Sequence[str], start: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers ``start …`` of the stream that ``key`` names, uniform in [0, 1), float64.

    Philox4x64 with the key's sha256 as its 128-bit key; number n is the n-th of the stream, so that
    any cut of a tensor gives the same numbers (Salmon et al., 2011, Parallel random numbers).
    """
    digest = hashlib.sha256("\0".join(key).encode()).digest()
    skip = start % _NUMBERS_PER_BLOCK
    bits = np.random.Philox(key=int.from_bytes(digest[:16], "little"))
    bits.advance(start // _NUMBERS_PER_BLOCK)
    count = math.prod(shape)
    return np.random.Generator(bits).random(skip + count)[skip:].reshape(shape)


def kth_largest(values: Any, count: int) -> float:
    """Return the ``count``-th largest value (1 ≤ count ≤ size) by selection, without sorting."""
    if isinstance(values, np.ndarray):
        return _nth_smallest(values.reshape(-1), values.size - count)
    flat = values.reshape(-1)
    return float(flat.kthvalue(flat.numel() - count + 1).values)


def _nth_smallest(values: np.ndarray, rank: int) -> float:
    """Return the value of a rank (from 0): among the few in a bracket that a sample suggests."""
    if values.size >= _SAMPLED_VALUES:
        sample = np.sort(values[:: math.isqrt(values.size) // _SAMPLE_SHARE | 1])
        share = (rank + 0.5) / values.size
        margin = _MARGIN * math.sqrt(sample.size * share * (1 - share)) + 3
        low = sample[max(0, math.floor(share * sample.size - margin))]
        high = sample[min(sample.size - 1, math.ceil(share * sample.size + margin))]
        inside = values >= low
        inside &= values <= high
        below = int(np.count_nonzero(values < low))
        few = values[inside]
        if below <= rank < below + few.size:
            return float(np.partition(few, rank - below)[rank - below])
    return float(np.partition(values, rank)[rank])
