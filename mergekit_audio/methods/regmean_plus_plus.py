"""RegMean++: RegMean with inputs that come from the already merged earlier layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mergekit_audio.errors import InputError
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.weights.statistics import Statistics


class RegmeanPlusPlus(MergeMethod):
    """Δ = [(Σᵢ wᵢ G̃ᵢ)⁻¹ Σᵢ wᵢ G̃ᵢ τᵢᵀ]ᵀ as RegMean, Gᵢ over inputs from the merged earlier layers.

    Everything but linear weights is averaged, as in RegMean. The Grams come from one run of
    ``cmerge measure`` with ``statistics: [gram_merged]`` over all models together; they hold for
    these models, weights and α, and for scale 1, at which the encoder was walked through.
    """

    name: Literal["regmean_plus_plus"] = "regmean_plus_plus"
    """Always `regmean_plus_plus`."""
    alpha: float = Field(default=0.95, ge=0, le=1)
    """Factor of the Grams' off-diagonal elements; the one that they were measured with."""
    reference: ClassVar[str] = (
        "Nguyen et al., RegMean++: Enhancing Effectiveness and Generalization of Regression Mean "
        "for Model Merging, arXiv 2508.03121: inputs of a layer come from merged layers"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "tensor"
    needs_base: ClassVar[bool] = False
    needs_statistics: ClassVar[tuple[str, ...]] = ("gram_merged",)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when a weight is negative or all are zero."""
        from mergekit_audio.methods._averaging import require_shares

        require_shares(self.name, weights)

    def check_statistics(
        self, statistics: Sequence[Statistics], digests: Sequence[str], weights: Sequence[float]
    ) -> None:
        """Raise ``InputError`` when Grams were measured for other models, weights or another α.

        Parameters
        ----------
        statistics
            Those of each model.
        digests, weights
            The content and the weight of each model, in the same order.
        """
        merged = sorted(zip(digests, weights, strict=True))
        for each in statistics:
            found = each.facts.get("alpha")
            if found != self.alpha:
                raise InputError(
                    f"{each.path}: measured with alpha {found}, but the recipe merges with "
                    f"{self.alpha:g}",
                    "the Grams depend on it: give the method that alpha, or measure again",
                )
            measured = sorted((one["digest"], one["weight"]) for one in each.facts["models"])
            if measured != merged:
                raise InputError(
                    f"{each.path}: measured for a merge of {_named(measured)}, but the recipe "
                    f"merges {_named(merged)}",
                    "the Grams hold for exactly these models and weights: measure all models of "
                    "this merge together",
                )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``; the weighted mean for tensors without a Gram."""
        from mergekit_audio.methods._regression import regression_delta

        return regression_delta(group, "gram_merged", self.alpha)


def _named(models: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{digest[:12]} (weight {weight:g})" for digest, weight in models)
