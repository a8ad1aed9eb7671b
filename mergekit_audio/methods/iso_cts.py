"""Iso-CTS: common directions of the sum, beside them those of each task, all of equal value."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._spectral import SpectralMethod, orthogonalised, singular_vectors
from mergekit_audio.methods.base import Array, TensorGroup
from mergekit_audio.methods.ops import weighted_sum

_ROUNDING = 2.0**-48  # of what a projection leaves of a matrix that lies in the common space


class IsoCts(SpectralMethod):
    """Δ = mean(S) · ⊥[U_c U₁ … U_K] ⊥[V_c V₁ … V_K]ᵀ: common and task-specific directions.

    U_c, V_c: the k_c leading singular vectors of Σᵢ wᵢ τᵢ. Uᵢ, Vᵢ: the (r − k_c)/K leading ones of
    (1 − U_c U_cᵀ) wᵢ τᵢ. S: the singular values of them all; ⊥X = P Qᵀ for X = P D Qᵀ; r is the
    smaller side of the matrix and k_c the ``common_fraction`` of it, moved to the nearest number
    that leaves each model equally many. Singular values that are zero within rounding bring no
    direction and don't count in the mean. The paper's α is ``scale``.

    Axes of size 1 are left out first. Vectors (also the g ``[1, 1, k]`` of a weight norm) get the
    mean of wᵢ τᵢ, and so do convolution kernels (also its v) unless ``convolutions: flatten`` makes
    them matrices ``[out, in·k]``.
    """

    name: Literal["iso_cts"] = "iso_cts"
    """Always `iso_cts`."""
    reference: ClassVar[str] = (
        "Marczak et al., No Task Left Behind: Isotropic Model Merging with Common and "
        "Task-Specific Subspaces, arXiv 2502.04959, section 5 (Iso-CTS) and algorithm 1"
    )
    common_fraction: float = Field(default=0.8, ge=0, le=1)
    """The share of the directions that is taken from the sum of the task matrices."""

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        models, rows, columns = matrices.shape
        per_model = directions_per_model(min(rows, columns), models, self.common_fraction)
        common = min(rows, columns) - models * per_model
        total = weighted_sum(matrices, [1.0] * models)
        parts = [singular_vectors(total, xp, common)] if common else []
        for i in range(models if per_model else 0):
            rest, floor = matrices[i, ...], 0.0
            if common:
                floor = max(rows, columns) * _ROUNDING * float(xp.linalg.vector_norm(rest))
                shared = parts[0][0]
                rest = rest - shared @ (shared.T @ rest)
            parts.append(singular_vectors(rest, xp, per_model, floor))
        values = xp.concat([part[1] for part in parts])
        if values.shape[0] == 0:
            return xp.zeros_like(total)
        left = orthogonalised(xp.concat([part[0] for part in parts], axis=1), xp)
        right = orthogonalised(xp.concat([part[2] for part in parts], axis=0), xp)
        return (left @ right) * xp.mean(values)


def directions_per_model(rank: int, models: int, common_fraction: float) -> int:
    """Return how many of ``rank`` directions each model has for itself."""
    own = rank - int(rank * common_fraction)
    return min(round(own / models), rank // models)
