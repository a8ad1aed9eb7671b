"""Model Stock: the mean of the models, drawn to the base by how much they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from mergekit_audio.methods._varies import varies
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup


class ModelStock(MergeMethod):
    """Δ = t · mean τᵢ, t = K c / (1 + (K − 1) c), c = mean cos(τᵢ, τⱼ), τᵢ = θᵢ − θ_base.

    The mean cosine is that of all pairs i < j. A task vector of zeros is perpendicular to all;
    where |1 + (K − 1) c| < 1e-6 the base stays. ``semantics: mergekit`` divides ⟨τᵢ, τⱼ⟩ by at
    least 1e-6, so that tensors with short task vectors (‖τᵢ‖ ‖τⱼ‖ < 1e-6) are drawn to the base,
    and takes filters along the last axis.
    """

    name: Literal["model_stock"] = "model_stock"
    """Always `model_stock`."""
    filter_wise: bool = False
    """One c for each filter (row along the first axis) instead of one for the tensor; a vector is
    one filter."""
    semantics: Literal["paper", "mergekit"] = "paper"
    """Whose definition of cosines and filters to follow where they differ."""
    reference: ClassVar[str] = (
        "Jang et al., Model Stock: All We Need Is Just a Few Fine-Tuned Models, arXiv 2403.19522, "
        "eq. of the interpolation ratio t (N fine-tuned models)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = varies(
        "element", lambda method: "row" if method.filter_wise else "element"
    )
    model_counts: ClassVar[tuple[int, int | None]] = (2, None)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: the angles decide alone."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("model_stock", weights, "use `method: {name: weighted_average}`")

    def survey(self, slices: Slices, model_survey: Any) -> Any:
        """Return the ratio t of the whole tensor; None: each filter has its own."""
        from mergekit_audio.methods._geometry import gram
        from mergekit_audio.methods._stock import interpolation_ratio

        if self.filter_wise and len(slices.shape) > 1:
            return None
        products = gram(slices, lambda group: group.task_vectors).products
        return float(interpolation_ratio(products, self.semantics == "mergekit"))

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = t (Σᵢ τᵢ) / K, float64, shape ``[*S]``."""
        from mergekit_audio.methods._stock import filter_ratios
        from mergekit_audio.methods.ops import weighted_task_sum

        count = len(group.weights)
        ratio = group.survey
        if ratio is None:
            ratio = filter_ratios(group, self.semantics == "mergekit")
        return weighted_task_sum(group.base, group.models, [1.0] * count) * (ratio / count)
