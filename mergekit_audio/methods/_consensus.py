"""Join task vectors into one: their weighted sum or mean, with or without an elected sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType

import numpy as np

from mergekit_audio.methods._arrays import like
from mergekit_audio.methods.base import Array

_SMALLEST_SUM = 1e-8
_SUBSET_MODELS = 8


def joined(
    xp: ModuleType,
    task_vectors: Iterable[Array],
    weights: Sequence[float],
    factors: Sequence[float],
    *,
    elect: bool,
    normalize: bool,
) -> Array:
    """Return Δ of sparse task vectors dᵢ = wᵢ fᵢ τᵢ.

    ``elect``: s = sign(Σᵢ dᵢ) with sign(0) = +1, mᵢ = [sign(dᵢ) = s], Δ = Σᵢ mᵢ dᵢ, and with
    ``normalize`` divided by Σᵢ mᵢ wᵢ (by 1 where that is 0). Otherwise Δ = Σᵢ dᵢ, divided by
    Σᵢ wᵢ (by 1 where abs(Σᵢ wᵢ) < 1e-8).

    Parameters
    ----------
    xp
        The array namespace.
    task_vectors
        τ₁ … τ_K, float64, flat; they are overwritten.
    weights, factors
        wᵢ, and fᵢ that make up for what was dropped.
    elect, normalize
        As above.
    """
    if elect:
        return _elected(xp, list(task_vectors), weights, factors, normalize)
    total: Array = None
    for tau, weight, factor in zip(task_vectors, weights, factors, strict=True):
        if weight * factor != 1.0:
            tau *= weight * factor
        if total is None:
            total = tau
        else:
            total += tau
    divisor = math.fsum(weights)
    if normalize and abs(divisor) >= _SMALLEST_SUM:
        total /= divisor
    return total


def _elected(
    xp: ModuleType,
    task_vectors: list[Array],
    weights: Sequence[float],
    factors: Sequence[float],
    normalize: bool,
) -> Array:
    for i, (weight, factor) in enumerate(zip(weights, factors, strict=True)):
        if weight * factor != 1.0:
            task_vectors[i] *= weight * factor
    agreements = agreeing(xp, task_vectors)
    total: Array = None
    for delta, agrees in zip(task_vectors, agreements, strict=True):
        delta *= agrees
        if total is None:
            total = delta
        else:
            total += delta
    if normalize:
        total /= sums_where(xp, agreements, weights, lambda sums: sums + (sums == 0))
    return total


def agreeing(xp: ModuleType, task_vectors: Sequence[Array]) -> list[Array]:
    """Return masks mᵢ = [sign(dᵢ) = s], s = +1 where Σⱼ dⱼ >= 0, else −1; flat."""
    total = task_vectors[0] + task_vectors[1] if len(task_vectors) > 1 else task_vectors[0]
    for delta in task_vectors[2:]:
        total += delta
    positive = total >= 0
    negative = ~positive
    masks = []
    for delta in task_vectors:
        mask = delta > 0
        mask &= positive
        below = delta < 0
        below &= negative
        mask |= below
        masks.append(mask)
    return masks


def sums_where(
    xp: ModuleType,
    masks: Sequence[Array],
    numbers: Sequence[float],
    finish: Callable[[Array], Array],
) -> Array:
    """Return finish(Σᵢ mᵢ nᵢ), float64, flat: summed in the models' order.

    Of up to 8 models the sums of all subsets are computed, and each place looks its own up.
    """
    if len(masks) > _SUBSET_MODELS:
        total = xp.astype(masks[0], xp.float64) * numbers[0]
        for mask, number in zip(masks[1:], numbers[1:], strict=True):
            total += xp.astype(mask, xp.float64) * number
        return finish(total)
    sums = np.zeros(2 ** len(masks))
    for i, number in enumerate(numbers):
        sums += np.where(np.arange(sums.size) >> i & 1, number, 0.0)
    codes = xp.astype(masks[0], xp.uint8)
    for i, mask in enumerate(masks[1:], start=1):
        codes |= xp.astype(mask, xp.uint8) << i
    if isinstance(codes, np.ndarray):
        found: Array = finish(sums).take(codes)
        return found
    return like(finish(sums), codes)[xp.astype(codes, xp.int64)]
