"""One pass over a base and K models: products, sign conflicts and sizes of their task vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from threadpoolctl import threadpool_limits

from mergekit_audio.cores import core_count
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import is_floating, to_float64, to_values

T = TypeVar("T")
R = TypeVar("R")

_ELEMENTS_AT_ONCE = 1 << 16  # a few slices in float64 stay in a core's own cache
_ELEMENTS_A_TASK = 1 << 20
_BITS_A_WORD = 64


@dataclass(frozen=True)
class Sums:
    """Sums over the elements of one tensor, or of several, for K task vectors τᵢ = θᵢ − θ_base.

    Parameters
    ----------
    elements
        Number of elements.
    base_squares
        Σ θ_base².
    products
        ``[K, K]`` Σ τᵢ τⱼ.
    opposite, changed
        ``[K, K]`` number of elements where τᵢ and τⱼ have opposite signs; where neither is 0.
    disagreeing, shared
        Number of elements where some τ is positive and another negative; where two or more are
        not 0.
    zeros
        ``[K]`` number of elements where τᵢ is exactly 0.
    max_abs
        ``[K]`` largest absolute value of τᵢ.
    """

    elements: int
    base_squares: float
    products: np.ndarray
    opposite: np.ndarray
    changed: np.ndarray
    disagreeing: int
    shared: int
    zeros: np.ndarray
    max_abs: np.ndarray

    @classmethod
    def total(cls, parts: Sequence[Sums], count: int) -> Sums:
        """Return the sums over all parts, which are of ``count`` task vectors each."""
        counts = np.zeros((count, count), dtype=np.int64)
        return cls(
            elements=sum(part.elements for part in parts),
            base_squares=math.fsum(part.base_squares for part in parts),
            products=sum((part.products for part in parts), np.zeros((count, count))),
            opposite=sum((part.opposite for part in parts), counts),
            changed=sum((part.changed for part in parts), counts),
            disagreeing=sum(part.disagreeing for part in parts),
            shared=sum(part.shared for part in parts),
            zeros=sum((part.zeros for part in parts), np.zeros(count, dtype=np.int64)),
            max_abs=np.max([np.zeros(count), *(part.max_abs for part in parts)], axis=0),
        )


def measure(
    base: Checkpoint,
    models: Sequence[Checkpoint],
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> dict[str, Sums]:
    """Return the sums of every floating-point tensor, by name, from one pass over the checkpoints.

    The same for any number of threads: slices have one length, and are added in order.

    Parameters
    ----------
    base, models
        Checkpoints of one layout.
    workers
        Threads; None: one for each core that this process may use.
    progress
        Told of every 2²⁰ elements.

    Raises
    ------
    InputError
        A tensor holds a value that is not finite, and its checkpoint does not allow that.
    """
    tasks = [
        (name, start, min(start + _ELEMENTS_A_TASK, size))
        for name, info in base.index.items()
        if is_floating(info.dtype)
        for size in [math.prod(info.shape)]
        for start in range(0, size, _ELEMENTS_A_TASK)
    ]

    def summed(task: tuple[str, int, int]) -> Sums:
        return _summed(base, models, *task)

    parts: dict[str, list[Sums]] = {}
    for (name, _, _), sums in in_threads(summed, tasks, workers, "compare tensors", progress):
        parts.setdefault(name, []).append(sums)
    return {name: Sums.total(each, len(models)) for name, each in parts.items()}


def in_threads(
    work: Callable[[T], R],
    tasks: Sequence[T],
    workers: int | None,
    label: str,
    progress: Progress,
) -> Iterator[tuple[T, R]]:
    """Yield (task, result) in the order of the tasks; each BLAS call stays in its own thread."""
    pool = ThreadPoolExecutor(workers or core_count())
    progress(ProgressEvent(label, 0, len(tasks)))
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            for done, pair in enumerate(zip(tasks, pool.map(work, tasks), strict=True), start=1):
                yield pair
                progress(ProgressEvent(label, done, len(tasks)))
    finally:
        pool.shutdown(cancel_futures=True)


def same_content(base: Checkpoint, model: Checkpoint, sums: Mapping[str, Sums], place: int) -> bool:
    """Say whether a model of the base's layout has the base's bits, from its sums and the rest."""
    if any(each.zeros[place] != each.elements for each in sums.values()):
        return False
    return all(np.array_equal(base.bits(name), model.bits(name)) for name in base.index)


def _summed(
    base: Checkpoint, models: Sequence[Checkpoint], name: str, start: int, stop: int
) -> Sums:
    count = len(models)
    dtypes = [base.index[name].dtype, *(model.index[name].dtype for model in models)]
    stored = [each.bits(name).reshape(-1)[start:stop] for each in (base, *models)]
    tau = np.empty((count, min(_ELEMENTS_AT_ONCE, stop - start)))
    parts = []
    with np.errstate(invalid="ignore", over="ignore"):  # infinite values, where allowed
        for begin in range(0, stop - start, _ELEMENTS_AT_ONCE):
            here = slice(begin, begin + _ELEMENTS_AT_ONCE)
            zero = to_float64(stored[0][here], dtypes[0])
            for row, bits, dtype in zip(tau, stored[1:], dtypes[1:], strict=True):
                np.subtract(to_values(bits[here], dtype), zero, out=row[: zero.size])
            parts.append(_of_slice(zero, tau[:, : zero.size]))
        total = Sums.total(parts, count)
    if not (math.isfinite(total.base_squares) and np.isfinite(total.max_abs).all()):
        for each in (base, *models):
            each.require_finite(name)
    return total


def _of_slice(zero: np.ndarray, tau: np.ndarray) -> Sums:
    """Return the sums of one slice: θ_base ``[n]`` and τ ``[K, n]``."""
    positive, negative = _packed(tau > 0), _packed(tau < 0)
    signed = positive | negative
    conflicts = _common(positive, negative)
    changed = _common(signed, signed)
    once = np.zeros_like(signed[0]) if len(signed) else np.zeros(0, dtype=np.uint64)
    twice = once.copy()
    for row in signed:
        twice |= once & row
        once |= row
    either = np.bitwise_or.reduce(positive, axis=0) & np.bitwise_or.reduce(negative, axis=0)
    largest = np.maximum(np.max(tau, axis=1), -np.min(tau, axis=1))  # keeps a NaN
    zeros = tau.shape[1] - np.diagonal(changed)
    if np.isnan(largest).any():
        zeros = np.count_nonzero(tau == 0, axis=1)
    return Sums(
        elements=zero.size,
        base_squares=float(zero @ zero),
        products=tau @ tau.T,
        opposite=conflicts + conflicts.T,
        changed=changed,
        disagreeing=_ones(either),
        shared=_ones(twice),
        zeros=zeros,
        max_abs=largest,
    )


def _packed(flags: np.ndarray) -> np.ndarray:
    """Return booleans ``[K, n]`` as bits in words of 64, ``[K, ⌈n / 64⌉]``, filled up with 0."""
    rows, size = flags.shape
    words = np.zeros((rows, -(-size // _BITS_A_WORD)), dtype=np.uint64)
    packed = np.packbits(flags, axis=1)
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words


def _common(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return ``[K, K]``: how many bits row i of one and row j of the other have in common."""
    counts = np.zeros((len(first), len(second)), dtype=np.int64)
    for i, row in enumerate(first):
        counts[i] = np.bitwise_count(second & row).sum(axis=1, dtype=np.int64)
    return counts


def _ones(words: np.ndarray) -> int:
    return int(np.bitwise_count(words).sum(dtype=np.int64))
