"""KnOTS: merge task matrices in the directions that they share, by TIES or DARE-TIES."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._masks import disjoint_mean, keep_largest
from mergekit_audio.methods._spectral import SpectralMethod, singular_vectors
from mergekit_audio.methods.base import Array, TensorGroup


class Knots(SpectralMethod):
    """Δ = U · TIES(S V₁ᵀ, …, S V_Kᵀ), where [w₁ τ₁ … w_K τ_K] = U S [V₁ … V_K]ᵀ side by side.

    The matrices are concatenated along their inputs, so that row j of each S Vᵢᵀ = Uᵀ wᵢ τᵢ tells
    of one direction of the output that all models share. There ``inner: ties`` keeps the
    ``density`` of each block with the largest magnitudes, ``dare_ties`` a random ``density`` that
    it divides by ``density``; then the sign of the sum is elected and the agreeing entries are
    averaged. (With a plain sum instead, U would cancel: that is task arithmetic.) The blocks are
    trimmed tensor by tensor, the paper's code trims them over the whole model. U are the
    eigenvectors of Σᵢ wᵢ² τᵢ τᵢᵀ. The paper's λ is ``scale``.

    Vectors get the mean of wᵢ τᵢ, and so do convolution kernels unless ``convolutions: flatten``.
    """

    name: Literal["knots"] = "knots"
    """Always `knots`."""
    reference: ClassVar[str] = (
        "Stoica et al., Model Merging with SVD to Tie the KnOTS, arXiv 2410.19735, section 4"
    )
    random: ClassVar[bool] = True
    inner: Literal["ties", "dare_ties"] = "ties"
    """How the blocks are thinned out before signs are elected."""
    density: float = Field(default=0.2, gt=0, le=1)
    """The share of each model's block that is kept."""
    smallest_singular_value: float = Field(default=1e-5, ge=1e-7, lt=1)
    """Directions whose S is below this fraction of the largest are left out."""

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        models, rows, columns = matrices.shape
        basis = _shared_directions(matrices, self.smallest_singular_value, xp)
        blocks = xp.stack([basis.T @ matrices[i, ...] for i in range(models)])
        for i in range(models):
            if self.inner == "ties":
                blocks[i, ...] = keep_largest(blocks[i, ...], self.density, xp)
            else:
                numbers = xp.reshape(group.uniform(i, "knots"), (rows, columns))
                kept = numbers[: blocks.shape[1], :] < self.density
                blocks[i, ...] = xp.where(kept, blocks[i, ...] / self.density, 0.0)
        return basis @ disjoint_mean(blocks, xp)


def _shared_directions(matrices: Array, smallest: float, xp: Any) -> Array:
    """Return U ``[m, c]``: the directions with S at least ``smallest`` times the largest, in order."""
    models, rows, columns = matrices.shape
    if rows > models * columns:
        wide = xp.concat([matrices[i, ...] for i in range(models)], axis=1)
        left, values, _ = singular_vectors(wide, xp)
        kept = xp.astype(values >= smallest * values[:1], xp.int64)
        return left[:, : int(xp.sum(kept))]
    gram: Array = None
    for i in range(models):
        part = matrices[i, ...] @ matrices[i, ...].T
        gram = part if gram is None else gram + part
    eigenvalues, vectors = xp.linalg.eigh(gram)
    largest = max(float(eigenvalues[-1]), 0.0)
    if largest == 0:
        return vectors[:, :0]
    kept = int(xp.sum(xp.astype(eigenvalues >= smallest**2 * largest, xp.int64)))
    return xp.flip(vectors[:, rows - kept :], axis=1)
