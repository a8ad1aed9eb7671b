"""Join task vectors into one: their weighted sum or mean, with or without an elected sign."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from types import ModuleType

from mergekit_audio.methods.base import Array

_SMALLEST_SUM = 1e-8


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
    sign = elected_sign(xp, task_vectors)
    total: Array = None
    divisor: Array = None
    for delta, weight in zip(task_vectors, weights, strict=True):
        delta *= sign
        agrees = xp.astype(delta > 0, xp.float64)
        delta *= agrees
        total = delta if total is None else _added(total, delta)
        if normalize:
            agrees *= weight
            divisor = agrees if divisor is None else _added(divisor, agrees)
    total *= sign
    if normalize:
        divisor += divisor == 0
        total /= divisor
    return total


def elected_sign(xp: ModuleType, task_vectors: Sequence[Array]) -> Array:
    """Return +1 where Σᵢ dᵢ >= 0, else −1, float64, flat."""
    total = task_vectors[0]
    for delta in task_vectors[1:]:
        total = total + delta
    return xp.astype(total >= 0, xp.float64) * 2.0 - 1.0


def _added(total: Array, term: Array) -> Array:
    total += term
    return total
