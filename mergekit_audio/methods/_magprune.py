"""MAGPRUNE: keep changes at random, with probabilities by rank of magnitude in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np

from mergekit_audio.methods._selection import flat_task_vectors, magnitude, magnitudes
from mergekit_audio.methods.base import Array, Slices, TensorGroup

_INDEX_BITS = 32


def probabilities_of_vector(
    slices: Slices, densities: Sequence[float], epsilons: Sequence[float]
) -> list[Array]:
    """Return pᵢ of each model for a whole tensor of at most one axis, float64, flat."""
    parts: list[list[Array]] = [[] for _ in densities]
    for group in slices:
        xp = group.xp
        for held, values in zip(parts, magnitudes(group), strict=True):
            held.append(values)
    return [
        _probabilities(xp, xp.concat(held).reshape(1, -1), density, epsilon).reshape(-1)
        for held, density, epsilon in zip(parts, densities, epsilons, strict=True)
    ]


def pruned(
    group: TensorGroup,
    densities: Sequence[float],
    epsilons: Sequence[float],
    of_vector: Sequence[Array] | None,
    *,
    axis: int | None,
    divide: bool,
) -> Iterator[Array]:
    """Yield τᵢ where uᵢ < pᵢ, else 0; flat, each a new array.

    pⱼ = (density − ε) + 2 ε r / (n − 1) for the element of rank r = 0 … n − 1 by magnitude; of
    equals the first has the lower rank.

    Parameters
    ----------
    group
        Whole rows of a tensor, or any run of a vector.
    densities, epsilons
        Of each model.
    of_vector
        pᵢ of the whole vector, where the tensor is one.
    axis
        The axis that ranks run along; None: all but the first together.
    divide
        Divide what is kept by its probability.
    """
    xp, shape = group.xp, tuple(group.base.shape)
    for i, (tau, density, epsilon) in enumerate(
        zip(flat_task_vectors(group), densities, epsilons, strict=True)
    ):
        if density == 0:
            tau *= 0.0
        elif density < 1:
            if of_vector is not None:
                chance = of_vector[i][group.start : group.start + tau.shape[0]]
            else:
                rows = _rows(xp, magnitude(xp, tau).reshape(shape), axis)
                chance = _unrolled(xp, _probabilities(xp, rows, density, epsilon), shape, axis)
            tau *= group.uniform(i).reshape(-1) < chance
            if divide:
                tau /= chance
        yield tau


def _rows(xp: ModuleType, values: Array, axis: int | None) -> Array:
    """Return values as a matrix whose rows are ranked."""
    if axis is None or values.ndim == 2:
        return values.reshape(values.shape[0], -1)
    return xp.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])


def _unrolled(xp: ModuleType, rows: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """Return a matrix of rows in the order of the flat tensor."""
    if axis is None or len(shape) == 2:
        return rows.reshape(-1)
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return xp.moveaxis(rows.reshape(moved), -1, axis).reshape(-1)


def _probabilities(xp: ModuleType, rows: Array, density: float, epsilon: float) -> Array:
    """Return p of each element of a float32 matrix by its rank in its row, float64."""
    size = rows.shape[1]
    if size <= 1 or epsilon == 0:
        return xp.zeros_like(rows, dtype=xp.float64) + density
    order = _order(xp, rows)
    if isinstance(rows, np.ndarray):
        chance = np.empty(rows.size)
        chance[order] = _by_rank(density - epsilon, density + epsilon, size)
        return chance.reshape(rows.shape)
    by_rank = xp.linspace(density - epsilon, density + epsilon, size, dtype=xp.float64)
    chance = xp.empty(rows.numel(), dtype=xp.float64, device=rows.device)
    chance[order] = by_rank.to(rows.device).expand(rows.shape)
    return chance.reshape(rows.shape)


@lru_cache(maxsize=4)
def _by_rank(least: float, most: float, size: int) -> np.ndarray:
    chances = np.linspace(least, most, size)
    chances.flags.writeable = False
    return chances


def _order(xp: ModuleType, rows: Array) -> Array:
    """Return the flat places of each row's smallest, second smallest …: a sort of value, place.

    The keys differ all, so that the order of equals is the same on any processor.
    """
    if isinstance(rows, np.ndarray):
        keys = np.empty(rows.shape, "<i8")
        halves = keys.view("<u4").reshape(*rows.shape, 2)  # low bits, high bits
        halves[..., 0] = np.arange(rows.size, dtype=np.uint32).reshape(rows.shape)
        halves[..., 1] = rows.view(np.uint32)
        keys.sort(axis=-1)
    else:
        keys = xp.astype(rows.view(xp.int32), xp.int64) << _INDEX_BITS
        keys |= xp.arange(rows.numel(), dtype=xp.int64).to(rows.device).reshape(rows.shape)
        keys = xp.sort(keys, axis=-1)
    keys &= 2**_INDEX_BITS - 1
    return keys
