"""Matrices for the spectral methods: which tensors are matrices, singular vectors, isometries."""

from __future__ import annotations

import math
from abc import abstractmethod
from types import ModuleType
from typing import Literal

from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup
from mergekit_audio.methods.ops import weighted_task_sum

_EPSILON = 2.0**-52
_SMALLEST_GRAM_RATIO = 1e-5  # of eigenvalues; below it squaring costs too many digits


class SpectralMethod(MergeMethod):
    """A method of matrices; every other tensor gets (1/K) Σᵢ wᵢ τᵢ.

    Axes of size 1 are left out first. What keeps two axes is a matrix, what keeps none or one
    (bias, layer norm, the g ``[1, 1, k]`` of a weight norm) is averaged, what keeps more
    (convolution kernels, the v of a weight norm) is what ``convolutions`` says.
    """

    convolutions: Literal["average", "flatten"] = "average"
    """Kernels `[out, in, k]`: averaged as in the papers, or merged as matrices `[out, in·k]`."""

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``: ``merge_matrices`` of wᵢ τᵢ, or their mean."""
        matrices = self.matrices(group)
        if matrices is None:
            return weighted_task_sum(group.base, group.models, group.weights) / len(group.weights)
        return group.xp.reshape(self.merge_matrices(matrices, group), tuple(group.base.shape))

    def matrices(self, group: TensorGroup) -> Array | None:
        """Return wᵢ τᵢ as matrices, float64, shape ``[K, m, n]``; None: the tensor is no matrix."""
        shape = as_matrix(tuple(group.base.shape), self.convolutions)
        if shape is None:
            return None
        return group.xp.reshape(weighted_task_vectors(group), (len(group.weights), *shape))

    @abstractmethod
    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""


def as_matrix(
    shape: tuple[int, ...], convolutions: Literal["average", "flatten"]
) -> tuple[int, int] | None:
    """Return (rows, columns) of the matrix that a tensor is; None: it is merged as a vector."""
    axes = [size for size in shape if size != 1]
    if len(axes) < 2 or 0 in axes or (len(axes) > 2 and convolutions == "average"):
        return None
    return axes[0], math.prod(axes[1:])


def singular_vectors(
    matrix: Array, xp: ModuleType, count: int | None = None, floor: float = 0.0
) -> tuple[Array, Array, Array]:
    """Return U ``[m, c]``, S ``[c]``, Vᵀ ``[c, n]`` of the ``count`` largest singular values.

    Singular values that are zero within rounding, max(m, n) · 2⁻⁵² · S₁, or at most ``floor``, are
    left out with their vectors, which are arbitrary: c is at most the numerical rank.

    Where ``count`` asks for a part, the vectors come from the eigenvectors of the smaller Gram
    matrix, unless the smallest value asked for is so small beside the largest that squaring would
    cost digits; then, and without ``count``, from the singular value decomposition itself.
    """
    rows, columns = matrix.shape
    if columns > rows:
        left, values, right = singular_vectors(matrix.T, xp, count, floor)
        return right.T, values, left.T
    if count is not None and count < columns:
        found = _from_gram(matrix, xp, count)
        if found is not None and float(found[1][-1]) > floor:
            return found
    left, values, right = xp.linalg.svd(matrix, full_matrices=False)
    smallest = max(floor, rows * _EPSILON * float(values[0]))
    kept = int(xp.sum(xp.astype(values > smallest, xp.int64)))
    if count is not None:
        kept = min(kept, count)
    return left[:, :kept], values[:kept], right[:kept, :]


def orthogonalised(matrix: Array, xp: ModuleType) -> Array:
    """Return P Qᵀ of the singular value decomposition P D Qᵀ: the nearest (partial) isometry.

    Directions without singular value, which are arbitrary in P and Q, are left out.
    """
    rows, columns = matrix.shape
    if columns > rows:
        return orthogonalised(matrix.T, xp).T
    if columns == 0:
        return matrix
    eigenvalues, vectors = xp.linalg.eigh(matrix.T @ matrix)
    if float(eigenvalues[0]) > _SMALLEST_GRAM_RATIO * float(eigenvalues[-1]):
        return matrix @ ((vectors / xp.sqrt(eigenvalues)[None, :]) @ vectors.T)
    left, _, right = singular_vectors(matrix, xp)
    return left @ right


def _from_gram(matrix: Array, xp: ModuleType, count: int) -> tuple[Array, Array, Array] | None:
    eigenvalues, vectors = xp.linalg.eigh(matrix.T @ matrix)
    if not float(eigenvalues[-count]) > _SMALLEST_GRAM_RATIO * float(eigenvalues[-1]):
        return None
    values = xp.sqrt(xp.flip(eigenvalues[-count:], axis=0))
    right = xp.flip(vectors[:, -count:], axis=1)
    return (matrix @ right) / values[None, :], values, right.T
