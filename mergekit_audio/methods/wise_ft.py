"""WiSE-FT: between the base and one fine-tuned model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class WiseFt(MergeMethod):
    """Δ = α (θ₁ − θ_base), so that scale 1 gives (1 − α) θ_base + α θ₁."""

    name: Literal["wise_ft"] = "wise_ft"
    """Always `wise_ft`."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """α: 0 is the base, 1 the model."""
    reference: ClassVar[str] = (
        "Wortsman et al., Robust fine-tuning of zero-shot models, arXiv 2109.01903 "
        "(weight-space ensemble)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    model_counts: ClassVar[tuple[int, int | None]] = (1, 1)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: ``alpha`` is the only one here."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("wise_ft", weights, "change `alpha`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = α (θ₁ − θ_base), float64, shape ``[*S]``."""
        return (group.models[0, ...] - group.base) * self.alpha
