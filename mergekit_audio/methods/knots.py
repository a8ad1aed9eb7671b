"""KnOTS: merge task matrices in the directions that they share, by TIES or DARE-TIES."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.methods._masks import disjoint_mean, keep_largest
from mergekit_audio.methods._spectral import SpectralMethod, singular_vectors
from mergekit_audio.methods.base import Array, TensorGroup, Tensors


class Knots(SpectralMethod):
    """Δ = U · TIES(S V₁ᵀ, …, S V_Kᵀ), where [w₁ τ₁ … w_K τ_K] = U S [V₁ … V_K]ᵀ side by side.

    The matrices are concatenated along their inputs, so that row j of each S Vᵢᵀ = Uᵀ wᵢ τᵢ tells
    of one direction of the output that all models share. There ``inner: ties`` keeps the
    ``density`` of each model's blocks with the largest magnitudes, ``dare_ties`` a random
    ``density`` that it divides by ``density``; then the sign of the sum is elected and the agreeing
    entries are averaged. (With a plain sum instead, U would cancel: that is task arithmetic.)

    U are the eigenvectors of Σᵢ wᵢ² τᵢ τᵢᵀ. ``scope: model`` finds them three times, for they are
    not kept while the threshold over all matrices is sought. The paper's λ is ``scale``.

    Axes of size 1 are left out first. Vectors (also the g ``[1, 1, k]`` of a weight norm) get the
    mean of wᵢ τᵢ, and so do convolution kernels (also its v) unless ``convolutions: flatten`` makes
    them matrices ``[out, in·k]``.
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
    scope: Literal["model", "tensor"] = "model"
    """Over what `inner: ties` counts the share: all matrices, as the paper, or each alone."""
    smallest_singular_value: float = Field(default=1e-5, ge=1e-7, lt=1)
    """Directions whose S is below this fraction of the largest are left out."""

    @model_validator(mode="after")
    def _check_scope(self) -> Self:
        if self.inner == "dare_ties" and self.scope != "model":
            raise ValueError(
                "`scope` needs `inner: ties`; a random share is the same in each tensor"
            )
        return self

    def survey_model(self, tensors: Tensors) -> list[float] | None:
        """Return the smallest magnitude each model keeps; None: each tensor finds it, if any."""
        if self.inner != "ties" or self.scope != "model":
            return None
        from mergekit_audio.methods._order_statistics import order_statistics

        found = order_statistics(
            tensors,
            self._magnitudes,
            lambda models, size: [[size - max(1, int(self.density * size))]] * models,
        )
        return [smallest for (smallest,) in found] or None

    def merge_matrices(self, matrices: Array, group: TensorGroup) -> Array:
        """Return the merged matrix ``[m, n]`` of wᵢ τᵢ, shape ``[K, m, n]``, float64."""
        xp = group.xp
        models, rows, columns = matrices.shape
        basis, blocks = self._shared(matrices, xp)
        for i in range(models):
            block = blocks[i, ...]
            if self.inner == "dare_ties":
                numbers = xp.reshape(group.uniform(i, "knots"), (rows, columns))
                kept = numbers[: blocks.shape[1], :] < self.density
                blocks[i, ...] = xp.where(kept, block / self.density, 0.0)
            elif group.model_survey is None:
                blocks[i, ...] = keep_largest(block, self.density, xp)
            else:
                kept = xp.abs(block) >= group.model_survey[i]
                blocks[i, ...] = xp.where(kept, block, 0.0)
        return basis @ disjoint_mean(blocks, xp)

    def _magnitudes(self, group: TensorGroup) -> Array:
        """Return abs(S Vᵢᵀ), shape ``[K, c, n]``; of what is no matrix nothing, ``[K, 0]``."""
        matrices = self.matrices(group)
        if matrices is None:
            return group.models.reshape(len(group.weights), -1)[:, :0]
        return group.xp.abs(self._shared(matrices, group.xp)[1])

    def _shared(self, matrices: Array, xp: Any) -> tuple[Array, Array]:
        """Return U ``[m, c]`` and S Vᵢᵀ ``[K, c, n]``."""
        basis = _shared_directions(matrices, self.smallest_singular_value, xp)
        return basis, xp.stack([basis.T @ matrices[i, ...] for i in range(matrices.shape[0])])


def _shared_directions(matrices: Array, smallest: float, xp: Any) -> Array:
    """Return U ``[m, c]``: the directions with S at least ``smallest`` times the largest."""
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
