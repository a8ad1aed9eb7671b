"""ExPO: go on past a model in the direction in which it left the base."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Expo(MergeMethod):
    """Δ = (1 + α) (θ₁ − θ_base), so that scale 1 gives θ₁ + α (θ₁ − θ_base)."""

    name: Literal["expo"] = "expo"
    """Always `expo`."""
    alpha: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """α: how far past the model, in lengths of its task vector; 0 is the model."""
    reference: ClassVar[str] = (
        "Zheng et al., Weak-to-Strong Extrapolation Expedites Alignment, arXiv 2404.16792, "
        "model extrapolation (ExPO)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    model_counts: ClassVar[tuple[int, int | None]] = (1, 1)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: ``alpha`` is the only one here."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("expo", weights, "change `alpha`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = (1 + α) (θ₁ − θ_base), float64, shape ``[*S]``."""
        return (group.models[0, ...] - group.base) * (1.0 + self.alpha)
