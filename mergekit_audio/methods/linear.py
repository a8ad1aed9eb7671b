"""Linear: the weighted mean or sum of the models themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from mergekit_audio.methods._checks import require_nonzero_sum
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Linear(MergeMethod):
    """Δ = Σᵢ wᵢ θᵢ / Σᵢ wᵢ − θ_base (without the division where `normalize` is false)."""

    name: Literal["linear"] = "linear"
    """Always `linear`."""
    reference: ClassVar[str] = "Wortsman et al., Model soups, arXiv 2203.05482, section 2"
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    anchored: ClassVar[bool] = False
    needs_base: ClassVar[bool] = False

    normalize: bool = True
    """Divide by the sum of the weights."""

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when it divides and the weights sum to zero (within rounding)."""
        if self.normalize:
            require_nonzero_sum(
                self.name, weights, "set `normalize: false`, which takes the sum as it is"
            )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = Σᵢ wᵢ (θᵢ − θ_base) / Σᵢ wᵢ, or Σᵢ wᵢ (θᵢ − θ_base) + (Σᵢ wᵢ − 1) θ_base."""
        from mergekit_audio.methods.ops import weighted_task_sum

        delta = weighted_task_sum(group.base, group.models, group.weights)
        total = math.fsum(group.weights)
        if self.normalize:
            return delta * (1.0 / total)
        return delta if total == 1.0 else delta + group.base * (total - 1.0)
