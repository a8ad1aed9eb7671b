"""Weighted average: the mean of the models, seen from the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup

_SMALLEST_SUM_RATIO = 1e-12


class WeightedAverage(MergeMethod):
    """Δ = Σᵢ wᵢ (θᵢ − θ_base) / Σᵢ wᵢ, so that scale 1 gives θ = Σᵢ wᵢ θᵢ / Σᵢ wᵢ."""

    name: Literal["weighted_average"] = "weighted_average"
    """Always `weighted_average`."""
    reference: ClassVar[str] = "Wortsman et al., Model soups, arXiv 2203.05482, section 2"
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    linear: ClassVar[bool] = True

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when the weights sum to zero (to within rounding)."""
        total = math.fsum(weights)
        if abs(total) <= _SMALLEST_SUM_RATIO * math.fsum(abs(weight) for weight in weights):
            problem = f"weighted_average divides by the sum of the weights, which is {total:g}"
            raise RecipeError(
                [Fault("", 0, 0, "models", problem)],
                "change a weight, or use `method: {name: task_arithmetic}`, which does not divide",
            )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = (Σᵢ wᵢ (θᵢ − θ_base)) · (1 / Σᵢ wᵢ), float64, shape ``[*S]``.

        The sum comes first and one factor after it: with weights 1 the bits are those of
        ``task_arithmetic`` at scale 1/N.
        """
        from mergekit_audio.methods.ops import weighted_task_sum

        reciprocal = 1.0 / math.fsum(group.weights)
        return weighted_task_sum(group.base, group.models, group.weights) * reciprocal
