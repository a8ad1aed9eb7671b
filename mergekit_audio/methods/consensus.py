"""Consensus: the merged task vector where it speaks for enough of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods._masks import tall_mask
from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup
from mergekit_audio.methods.ops import weighted_sum


class Consensus(MergeMethod):
    """Δ = t · [Σᵢ mᵢ ≥ k], mᵢ = [abs(tᵢ) > λₜ abs(t − tᵢ)], t = Σᵢ tᵢ, tᵢ = wᵢ τᵢ.

    Leaves out what serves no model (catastrophic weights) and, with k = 2, what serves only one
    (selfish weights). The paper's α is ``scale``.
    """

    name: Literal["consensus"] = "consensus"
    """Always `consensus`."""
    reference: ClassVar[str] = (
        "Wang et al., Localizing Task Information for Improved Model Merging and Compression, "
        "arXiv 2405.07813, eq. 6"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    minimum_count: int = Field(default=2, ge=1)
    """k: for how many models a place must count; at most their number."""
    mask_scale: float = Field(default=0.4, ge=0)
    """λₜ of the masks, one for all models; the larger, the fewer places (paper: 0.2 … 0.6)."""

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when there are fewer models than ``minimum_count``."""
        if self.minimum_count > len(weights):
            problem = f"{self.minimum_count}, but there is no more than {len(weights)} model(s)"
            raise RecipeError(
                [Fault("", 0, 0, "method.minimum_count", problem)],
                "nothing would be merged; choose a number between 1 and that of the models",
            )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        xp, vectors = group.xp, weighted_task_vectors(group)
        merged = weighted_sum(vectors, [1.0] * len(group.weights))
        count = xp.zeros(merged.shape, dtype=xp.int64)
        for i in range(len(group.weights)):
            mask = tall_mask(vectors, merged, i, self.mask_scale, xp)
            count = count + xp.astype(mask, xp.int64)
        return xp.where(count >= self.minimum_count, merged, 0.0)
