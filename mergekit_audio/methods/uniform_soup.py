"""Uniform soup: the plain mean of the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class UniformSoup(MergeMethod):
    """Δ = Σᵢ θᵢ / K − θ_base, so that scale 1 gives the mean of the K models."""

    name: Literal["uniform_soup"] = "uniform_soup"
    """Always `uniform_soup`."""
    reference: ClassVar[str] = (
        "Wortsman et al., Model soups, arXiv 2203.05482, section 2 (uniform soup)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = False

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: all models count alike."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("uniform_soup", weights, "use `method: {name: weighted_average}`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = (Σᵢ (θᵢ − θ_base)) · (1 / K), float64, shape ``[*S]``."""
        from mergekit_audio.methods.ops import weighted_task_sum

        count = len(group.weights)
        return weighted_task_sum(group.base, group.models, [1.0] * count) * (1.0 / count)
