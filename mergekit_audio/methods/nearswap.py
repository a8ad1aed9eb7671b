"""NearSwap: take the other model where it is near, and less of it the farther it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup

_SMALLEST_DISTANCE = 1e-6


class Nearswap(MergeMethod):
    """Δ = min(t / max(|τ|, 1e-6), 1) · τ element by element, τ = θ₁ − θ_base: at most t long."""

    name: Literal["nearswap"] = "nearswap"
    """Always `nearswap`."""
    t: float = Field(ge=0, allow_inf_nan=False)
    """The distance up to which the model's element replaces the base's, in units of the weights."""
    reference: ClassVar[str] = (
        "alchemonaut/QuartetAnemoi-70B-t0.0001 (model card, NearSwap); in mergekit, Goddard et "
        "al., Arcee's MergeKit, arXiv 2403.13257"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    model_counts: ClassVar[tuple[int, int | None]] = (1, 1)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: ``t`` is the only one here."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("nearswap", weights, "change `t`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = min(t / max(|τ|, 1e-6), 1) · τ, float64, shape ``[*S]``."""
        xp = group.xp
        tau = group.models[0, ...] - group.base
        return tau * xp.clip(self.t / xp.clip(xp.abs(tau), _SMALLEST_DISTANCE, None), None, 1.0)
