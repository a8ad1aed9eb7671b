"""Pure functions of arrays that merge methods share; numpy's or torch's, by the array API."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_audio.methods.base import Array


def weighted_sum(arrays: Array, weights: Sequence[float]) -> Array:
    """Return Σᵢ wᵢ xᵢ, summed in the order of the models.

    Product and sum are rounded one after the other (no fused multiply-add), so that the bits are
    the same for any slicing.

    Parameters
    ----------
    arrays
        x₁ … x_K, float64, shape ``[K, *S]``.
    weights
        w₁ … w_K.
    """
    total: Array = None
    for i, weight in enumerate(weights):
        term = arrays[i, ...] if weight == 1.0 else arrays[i, ...] * weight
        total = term if total is None else total + term
    return total


def weighted_task_sum(base: Array, models: Array, weights: Sequence[float]) -> Array:
    """Return Σᵢ wᵢ (θᵢ − θ_base), summed in the order of the models.

    Parameters
    ----------
    base
        θ_base, float64, shape ``[*S]``.
    models
        θ₁ … θ_K, float64, shape ``[K, *S]``.
    weights
        w₁ … w_K.
    """
    total: Array = None
    for i, weight in enumerate(weights):
        term = models[i, ...] - base
        if weight != 1.0:
            term *= weight
        if total is None:
            total = term
        else:
            total += term
    return total
