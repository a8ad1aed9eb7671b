"""Regression of one linear layer on the outputs of several: the solver of RegMean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_audio.methods._arrays import namespace
from mergekit_audio.methods._averaging import mean_delta
from mergekit_audio.methods.base import Array, TensorGroup

_LEAST_RIDGE = 1e-5
"""Below this 1 − α rounding of float32 Grams decides directions that hardly any input has."""
_FLOAT32_EPSILON = 2.0**-23


def regression_delta(group: TensorGroup, kind: str, alpha: float) -> Array:
    """Return Δ of RegMean for a linear weight, or the weighted mean where there are no Grams.

    Parameters
    ----------
    group
        A whole tensor.
    kind
        Which of the group's statistics holds the Grams, shape ``[K, in, in]``.
    alpha
        Factor of the Grams' off-diagonal elements, 0 to 1.
    """
    grams = group.statistics.get(kind)
    if grams is None:
        return mean_delta(group.base, group.models, group.weights)
    return solve(group.task_vectors, grams, group.weights, alpha)


def solve(task_vectors: Array, grams: Array, weights: Sequence[float], alpha: float) -> Array:
    """Return the Δ whose outputs are nearest to all models' own on their own inputs.

    Δᵀ = S⁻¹ Σᵢ wᵢ G̃ᵢ τᵢᵀ with G̃ᵢ = α Gᵢ + (1 − α) diag(Gᵢ) and S = Σᵢ wᵢ G̃ᵢ. It is computed as
    m + S⁻¹ Σᵢ wᵢ G̃ᵢ (τᵢ − m)ᵀ around the weighted mean m, which is the same where S can be inverted
    and gives the mean where no model ever has an input.

    Parameters
    ----------
    task_vectors
        τ₁ … τ_K of a linear weight, float64, shape ``[K, out, in]``.
    grams
        G₁ … G_K, float64, shape ``[K, in, in]``.
    weights
        w₁ … w_K, none negative, one above zero.
    alpha
        α, 0 to 1.
    """
    xp = namespace(task_vectors)
    total, mean, right = 0.0 * grams[0, ...], 0.0 * task_vectors[0, ...], None
    for i, weight in enumerate(weights):
        total = total + weight * grams[i, ...]
        mean = mean + weight * task_vectors[i, ...]
    mean = mean * (1.0 / math.fsum(weights))
    for i, weight in enumerate(weights):
        apart = (task_vectors[i, ...] - mean).T
        diagonal = xp.linalg.diagonal(grams[i, ...])
        term = alpha * (grams[i, ...] @ apart) + (1.0 - alpha) * diagonal[:, None] * apart
        right = weight * term if right is None else right + weight * term
    diagonal = xp.linalg.diagonal(total)
    seen = diagonal > 0.0
    unit = xp.ones_like(diagonal)
    size = xp.where(seen, 1.0 / xp.sqrt(xp.where(seen, diagonal, unit)), unit)
    # Scaled to a unit diagonal, S has no eigenvalue below 1 − α, whatever the inputs' sizes are.
    ridge = xp.where(seen, (1.0 - alpha) * unit, unit)
    scaled = alpha * (size[:, None] * total * size[None, :]) + _diagonal(xp, ridge)
    return mean + (size[:, None] * _solved(xp, scaled, size[:, None] * right, alpha)).T


def _solved(xp: Array, matrix: Array, right: Array, alpha: float) -> Array:
    """Return matrix⁻¹ right; by the eigenvectors that inputs have where nothing else bounds it."""
    if 1.0 - alpha >= _LEAST_RIDGE:
        return xp.linalg.solve(matrix, right)
    values, vectors = xp.linalg.eigh(matrix)
    kept = values > xp.max(values) * (values.shape[0] * _FLOAT32_EPSILON)
    inverse = xp.where(kept, 1.0 / xp.where(kept, values, xp.ones_like(values)), 0.0 * values)
    return vectors @ (inverse[:, None] * (vectors.T @ right))


def _diagonal(xp: Array, values: Array) -> Array:
    return xp.eye(values.shape[0], dtype=values.dtype, device=values.device) * values[None, :]
