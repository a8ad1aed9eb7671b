"""RegMean: the linear layers that come nearest to every model's outputs on its own audio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Regmean(MergeMethod):
    """Δ = [(Σᵢ wᵢ G̃ᵢ)⁻¹ Σᵢ wᵢ G̃ᵢ τᵢᵀ]ᵀ, G̃ᵢ = α Gᵢ + (1 − α) diag(Gᵢ), Gᵢ = XᵢᵀXᵢ/n: linear weights.

    Everything else is averaged, as in the paper: biases, norms, embeddings, and the convolutions of
    an audio encoder with the g and v of its positional one (a Gram of their unfolded inputs would
    be possible, but the paper defines the method for linear layers). The Grams come from
    ``cmerge measure`` with ``statistics: [gram]``, one folder for each model.
    """

    name: Literal["regmean"] = "regmean"
    """Always `regmean`."""
    alpha: float = Field(default=0.95, ge=0, le=1)
    """Factor of the Grams' off-diagonal elements; 1 is plain least squares, 0 weighs each input
    alone."""
    reference: ClassVar[str] = (
        "Jin et al., Dataless Knowledge Fusion by Merging Weights of Language Models, "
        "arXiv 2212.09849, section 3"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "tensor"
    needs_base: ClassVar[bool] = False
    needs_statistics: ClassVar[tuple[str, ...]] = ("gram",)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when a weight is negative or all are zero."""
        from mergekit_audio.methods._averaging import require_shares

        require_shares(self.name, weights)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``; the weighted mean for tensors without a Gram."""
        from mergekit_audio.methods._regression import regression_delta

        return regression_delta(group, "gram", self.alpha)
