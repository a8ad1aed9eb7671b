"""Spherical means of tensors from their norms and inner products alone.

A combination of the models on a sphere is a linear one whose coefficients follow from the Gram
matrix: one pass over the tensor reads the matrix, the merge itself is elementwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import Array, Slices, TensorGroup
from mergekit_audio.methods.ops import weighted_sum, weighted_task_sum

_LINEAR_SLERP_COSINE = 0.9995
_ZERO_SLERP_NORM = 1e-8
_SMALLEST_NUSLERP_NORM = 1e-7
_COLLINEAR_SQUARED_SINE = 1e-12
_SMALLEST_GRAM_LENGTH = 1e-4


@dataclass(frozen=True)
class Span:
    """A combination Δ = Σᵢ cᵢ (θᵢ − θ_base) + e θ_base.

    Parameters
    ----------
    coefficients
        c₁ … c_K.
    excess
        e; Σᵢ cᵢ − 1 where Σᵢ cᵢ θᵢ is to be the merged tensor, 0 for a sum of task vectors.
    """

    coefficients: tuple[float, ...]
    excess: float = 0.0

    def apply(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        delta = weighted_task_sum(group.base, group.models, self.coefficients)
        return delta if self.excess == 0.0 else delta + self.excess * group.base


def weights_span(coefficients: Sequence[float]) -> Span:
    """Return the span whose merged tensor is θ* = Σᵢ cᵢ θᵢ."""
    return Span(tuple(coefficients), math.fsum([*coefficients, -1.0]))


@dataclass(frozen=True)
class Gram:
    """What one pass over a tensor tells of its vectors x₁ … x_N.

    Parameters
    ----------
    products
        ⟨xᵢ, xⱼ⟩, float64, shape ``[N, N]``.
    weights
        The models' weights w₁ … w_K.
    unchanged
        Every model's tensor is the base's, element for element.
    """

    products: np.ndarray
    weights: tuple[float, ...]
    unchanged: bool


def gram(slices: Slices, vectors: Callable[[TensorGroup], Array]) -> Gram:
    """Return the inner products of a tensor's vectors, summed slice by slice.

    Parameters
    ----------
    slices
        The tensor, slice by slice.
    vectors
        x₁ … x_N of one slice, shape ``[N, *S]``.
    """
    found: Gram | None = None
    for group in slices:
        x = vectors(group)
        x = x.reshape(x.shape[0], -1) if x.ndim > 1 else x.reshape(-1, 1)
        products = to_numpy(x @ x.T)
        before = found or Gram(np.zeros_like(products), group.weights, True)
        unchanged = before.unchanged and bool((group.models == group.base[None, ...]).all())
        found = Gram(before.products + products, group.weights, unchanged)
    if found is None:
        raise ValueError(f"{slices.name}: no slices")
    return found


def combination_norm(
    slices: Slices, vectors: Callable[[TensorGroup], Array], coefficients: Sequence[float]
) -> float:
    """Return ‖Σᵢ cᵢ xᵢ‖ of a tensor's vectors, summed before it is squared."""
    total = 0.0
    for group in slices:
        combined = weighted_sum(vectors(group), coefficients)
        total += float(group.xp.sum(combined * combined))
    return math.sqrt(total)


def slerp_coefficients(products: np.ndarray, t: float) -> tuple[float, float, float]:
    """Return cₐ, c_b and cₐ + c_b − 1 of SLERP from a to b.

    cₐ = sin((1 − t) Ω) / sin Ω, c_b = sin(t Ω) / sin Ω, cos Ω = ⟨a, b⟩ / (‖a‖ ‖b‖); beyond
    |cos Ω| > 0.9995 linear, cₐ = 1 − t and c_b = t. A norm of at most 1e-8 counts as 1.

    Parameters
    ----------
    products
        The Gram matrix of a and b, shape ``[2, 2]``.
    t
        The place between a (0) and b (1).
    """
    norms = [math.sqrt(max(float(products[i, i]), 0.0)) for i in range(2)]
    norm_a, norm_b = (norm if norm > _ZERO_SLERP_NORM else 1.0 for norm in norms)
    cosine = min(max(float(products[0, 1]) / norm_a / norm_b, -1.0), 1.0)
    if abs(cosine) > _LINEAR_SLERP_COSINE:
        return 1.0 - t, t, 0.0
    angle = math.acos(cosine)
    first = math.sin((1.0 - t) * angle) / math.sin(angle)
    second = math.sin(t * angle) / math.sin(angle)
    return first, second, first + second - 1.0


def nuslerp_coefficients(
    squares_a: Array, squares_b: Array, products: Array, t: float, xp: ModuleType
) -> tuple[Array, Array, Array]:
    """Return cₐ, c_b and cₐ + c_b − 1 of NuSLERP for each pair of vectors.

    As SLERP, but linear only where sin² Ω ≤ 1e-12, and with norms of at least 1e-7.

    Parameters
    ----------
    squares_a, squares_b, products
        ‖a‖², ‖b‖² and ⟨a, b⟩ of each pair, float64, any one shape.
    t
        The place between a (0) and b (1).
    xp
        The namespace of the arrays.
    """
    norm_a = xp.clip(xp.sqrt(squares_a), _SMALLEST_NUSLERP_NORM, None)
    norm_b = xp.clip(xp.sqrt(squares_b), _SMALLEST_NUSLERP_NORM, None)
    cosine = xp.clip(products / norm_a / norm_b, -1.0, 1.0)
    collinear = (1.0 - cosine) * (1.0 + cosine) <= _COLLINEAR_SQUARED_SINE
    zero = xp.zeros_like(cosine)
    angle = xp.acos(xp.where(collinear, zero, cosine))
    sine = xp.sin(angle)
    first = xp.where(collinear, zero + (1.0 - t), xp.sin((1.0 - t) * angle) / sine)
    second = xp.where(collinear, zero + t, xp.sin(t * angle) / sine)
    return first, second, xp.where(collinear, zero, first + second - 1.0)


def multislerp_coefficients(
    products: np.ndarray,
    weights: Sequence[float],
    eps: float,
    norm: Callable[[Sequence[float]], float],
) -> tuple[float, ...]:
    """Return c₁ … c_K of Multi-SLERP, Σᵢ cᵢ xᵢ.

    uᵢ = xᵢ / (‖xᵢ‖ + eps), m = Σᵢ wᵢ uᵢ / ‖Σᵢ wᵢ uᵢ‖, result (Σᵢ wᵢ ‖xᵢ‖) m. The tangent step from
    m, Σᵢ wᵢ (uᵢ − ⟨uᵢ, m⟩ m), is zero: m is the direction of the very sum that it projects. Where
    ‖Σᵢ wᵢ uᵢ‖ < eps there is no direction and the result is linear, cᵢ = wᵢ.

    Parameters
    ----------
    products
        The Gram matrix of x₁ … x_K, shape ``[K, K]``.
    weights
        w₁ … w_K.
    eps
        What keeps the quotients finite.
    norm
        Measures ‖Σᵢ cᵢ xᵢ‖ on the vectors themselves; asked where the directions nearly cancel, so
        that the matrix has not enough digits.
    """
    w = np.asarray(weights, dtype=np.float64)
    norms = np.sqrt(np.clip(np.diagonal(products), 0.0, None))
    unit = w / (norms + eps)
    length = math.sqrt(max(float(unit @ products @ unit), 0.0))
    if length < _SMALLEST_GRAM_LENGTH:
        length = norm(unit.tolist())
    if length < eps:
        return tuple(w.tolist())
    return tuple((unit * (float(w @ norms) / length)).tolist())


def karcher_coefficients(
    products: np.ndarray, weights: Sequence[float], max_iter: int, tol: float
) -> tuple[float, ...]:
    """Return c₁ … c_K of the Karcher mean, Σᵢ cᵢ θᵢ.

    uᵢ = θᵢ / ‖θᵢ‖, αᵢ = wᵢ / Σ w; from m = Σᵢ αᵢ uᵢ / ‖…‖ repeat φᵢ = acos ⟨m, uᵢ⟩,
    v = Σᵢ αᵢ φᵢ / sin φᵢ (uᵢ − cos φᵢ m), m ← m cos ‖v‖ + v sin ‖v‖ / ‖v‖ until ‖v‖ < tol; the
    result is (Σᵢ αᵢ ‖θᵢ‖) m. Vectors with a norm of at most ``tol`` have no direction and count
    only in the mean norm; where all are so short, cᵢ = αᵢ.

    Parameters
    ----------
    products
        The Gram matrix of θ₁ … θ_K, shape ``[K, K]``.
    weights
        w₁ … w_K, not negative.
    max_iter
        The largest number of steps.
    tol
        The length of a step, and the angle in radians, that counts as zero.
    """
    alphas = np.asarray(weights, dtype=np.float64) / math.fsum(weights)
    norms = np.sqrt(np.clip(np.diagonal(products), 0.0, None))
    valid = np.flatnonzero((norms > tol) & (alphas > 0.0))
    if valid.size == 0:
        return tuple(alphas.tolist())
    cosines = products[np.ix_(valid, valid)] / np.outer(norms[valid], norms[valid])
    mean = _karcher_mean(cosines, alphas[valid] / alphas[valid].sum(), max_iter, tol)
    coefficients = np.zeros(len(norms))
    coefficients[valid] = mean * float(alphas @ norms) / norms[valid]
    return tuple(coefficients.tolist())


def _karcher_mean(cosines: np.ndarray, alphas: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
    """Return the mean's coefficients of the unit vectors whose inner products are ``cosines``."""

    def length(x: np.ndarray) -> float:
        return math.sqrt(max(float(x @ cosines @ x), 0.0))

    mean = alphas.copy()
    if length(mean) < tol:
        mean = np.eye(len(alphas))[0]
    mean = mean / length(mean)
    for _ in range(max_iter):
        dots = np.clip(cosines @ mean, -1.0, 1.0)
        angles = np.arccos(dots)
        away = angles >= tol
        sines = np.sin(np.where(away, angles, 1.0))
        factors = np.where(away, alphas * angles / sines, 0.0)
        tangent = factors - float(factors @ dots) * mean
        step = length(tangent)
        if step < tol:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        mean = mean / length(mean)
    return np.asarray(mean)
