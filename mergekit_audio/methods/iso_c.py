"""Iso-C: the sum of the task matrices with all its singular values made equal."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._spectral import SpectralMethod, singular_vectors
from mergekit_audio.methods.base import Array, TensorGroup
from mergekit_audio.methods.ops import weighted_sum


class IsoC(SpectralMethod):
    """Δ = mean(S) · U Vᵀ of the sum Σᵢ wᵢ τᵢ = U diag(S) Vᵀ.

    The mean is over the singular values that are not zero within rounding; directions without one
    are arbitrary and left out. The paper's α is ``scale``.

    Axes of size 1 are left out first. Vectors (also the g ``[1, 1, k]`` of a weight norm) get the
    mean of wᵢ τᵢ, and so do convolution kernels (also its v) unless ``convolutions: flatten`` makes
    them matrices ``[out, in·k]``.
    """

    name: Literal["iso_c"] = "iso_c"
    """Always `iso_c`."""
    reference: ClassVar[str] = (
        "Marczak et al., No Task Left Behind: Isotropic Model Merging with Common and "
        "Task-Specific Subspaces, arXiv 2502.04959, section 4 (Iso-C)"
    )

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        total = weighted_sum(matrices, [1.0] * matrices.shape[0])
        left, values, right = singular_vectors(total, xp)
        if values.shape[0] == 0:
            return xp.zeros_like(total)
        return (left @ right) * xp.mean(values)
