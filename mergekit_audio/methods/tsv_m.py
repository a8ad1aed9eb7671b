"""TSV-M: merge the leading singular vectors of the task matrices after decorrelating them."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._spectral import SpectralMethod, orthogonalised, singular_vectors
from mergekit_audio.methods.base import Array, TensorGroup


class TsvM(SpectralMethod):
    """Δ = ⊥[U₁ … U_K] diag(S₁ … S_K) ⊥[V₁ … V_K]ᵀ of the leading r/K triplets of each wᵢ τᵢ.

    wᵢ τᵢ = U S Vᵀ; each model keeps its ⌊r/K⌋ largest singular values (at least one; r is the
    smaller side), the kept vectors are stacked, and ⊥X = P Qᵀ for X = P D Qᵀ makes them
    orthonormal. Singular values that are zero within rounding bring no vectors (task vectors of
    low rank, say of adapters, stay free of arbitrary directions). The paper's α is ``scale``.

    Axes of size 1 are left out first. Vectors (also the g ``[1, 1, k]`` of a weight norm) get the
    mean of wᵢ τᵢ, and so do convolution kernels (also its v) unless ``convolutions: flatten`` makes
    them matrices ``[out, in·k]``.
    """

    name: Literal["tsv_m"] = "tsv_m"
    """Always `tsv_m`."""
    reference: ClassVar[str] = (
        "Gargiulo et al., Task Singular Vectors: Reducing Task Interference in Model Merging, "
        "arXiv 2412.00081, section 4.2 and algorithm 1"
    )

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        models, rows, columns = matrices.shape
        count = max(1, min(rows, columns) // models)
        parts = [singular_vectors(matrices[i, ...], xp, count) for i in range(models)]
        left = orthogonalised(xp.concat([part[0] for part in parts], axis=1), xp)
        values = xp.concat([part[1] for part in parts])
        right = orthogonalised(xp.concat([part[2] for part in parts], axis=0), xp)
        return (left * values[None, :]) @ right
