"""Consensus: the merged task vector where it speaks for enough of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods._tall import TallMethod
from mergekit_audio.methods.base import Array, TensorGroup


class Consensus(TallMethod):
    """Δ = t · [Σᵢ mᵢ ≥ k], mᵢ = [abs(tᵢ) > λₜ abs(t − tᵢ)], t = Σᵢ tᵢ, tᵢ = wᵢ τᵢ.

    Leaves out what serves no model (catastrophic weights) and, with k = 2, what serves only one
    (selfish weights). With ``inner: ties`` t is TIES' disjoint sum instead. One λₜ is for all
    models; the paper searches it for each task. The paper's α is ``scale``.
    """

    name: Literal["consensus"] = "consensus"
    """Always `consensus`."""
    reference: ClassVar[str] = (
        "Wang et al., Localizing Task Information for Improved Model Merging and Compression, "
        "arXiv 2405.07813, eq. 6"
    )
    minimum_count: int = Field(default=2, ge=1)
    """k: for how many models a place must count; at most their number."""

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
        xp = group.xp
        merged, masks = self.merged_and_masks(group, range(len(group.weights)))
        count = xp.astype(masks[0], xp.int32)
        for mask in masks[1:]:
            count += mask
        return xp.where(count >= self.minimum_count, merged, 0.0)
