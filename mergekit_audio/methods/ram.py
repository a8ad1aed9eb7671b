"""RAM: updates of one model alone are kept, shared ones are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Ram(MergeMethod):
    """Δ = Σᵢ aᵢ τᵢ / max(Σᵢ aᵢ, 1), aᵢ = [|τᵢ| > ε] element by element, τᵢ = θᵢ − θ_base."""

    name: Literal["ram"] = "ram"
    """Always `ram`."""
    epsilon: float = Field(default=1e-5, ge=0, allow_inf_nan=False)
    """ε: a smaller change of an element counts as none."""
    reference: ClassVar[str] = (
        "Yuan et al., Behavior Knowledge Merge in Reinforced Agentic Models, arXiv 2601.13572, RAM"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: the formula has none."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("ram", weights, "use `method: {name: task_arithmetic}`")

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, the mean over the models that changed the element, float64, shape ``[*S]``."""
        from mergekit_audio.methods._shares import active_task_vectors

        total = counts = None
        for kept, active in active_task_vectors(group, self.epsilon):
            total = kept if total is None else total + kept
            counts = active if counts is None else counts + active
        return total / group.xp.clip(counts, 1.0, None)
