"""Passthrough: one model as it is, or times a factor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._varies import varies
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Passthrough(MergeMethod):
    """Δ = factor · θ₁ − θ_base, so that scale 1 gives factor · θ₁; no factor: the model itself."""

    name: Literal["passthrough"] = "passthrough"
    """Always `passthrough`."""
    factor: float | None = Field(default=None, allow_inf_nan=False)
    """What the model's tensors are multiplied by (mergekit calls it `scale`); null: nothing."""
    reference: ClassVar[str] = "Goddard et al., Arcee's MergeKit, arXiv 2403.13257 (passthrough)"
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = False
    anchored: ClassVar[bool] = varies(True, lambda method: method.factor in (None, 1.0))
    model_counts: ClassVar[tuple[int, int | None]] = (1, 1)
    model_parameters: ClassVar[tuple[str, ...]] = ("factor",)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: the factor is ``factor``."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("passthrough", weights, "set `factor`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = factor · θ₁ − θ_base, float64, shape ``[*S]``."""
        factor = group.values("factor", self.factor)[0]
        model = group.models[0, ...]
        return (model if factor is None else model * factor) - group.base
