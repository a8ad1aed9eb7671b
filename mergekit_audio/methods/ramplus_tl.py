"""RAM+ (tensor-local): RAM with a model's own updates scaled by how much it shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup


class RamplusTl(MergeMethod):
    """Δ = (1 + r min(ρᵢ, α)) τᵢ where model i alone changes the element, elsewhere as RAM.

    RAM: Σᵢ aᵢ τᵢ / max(Σᵢ aᵢ, 1), aᵢ = [|τᵢ| > ε], τᵢ = θᵢ − θ_base. ρᵢ is the number of elements
    of this tensor that model i changes together with others, divided by the number that it changes
    alone (tensor-local, as in mergekit).
    """

    name: Literal["ramplus_tl"] = "ramplus_tl"
    """Always `ramplus_tl`."""
    epsilon: float = Field(default=1e-5, ge=0, allow_inf_nan=False)
    """ε: a smaller change of an element counts as none."""
    r: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """How much sharing amplifies a model's own updates."""
    alpha: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    """The largest ρ that counts."""
    reference: ClassVar[str] = (
        "Yuan et al., Behavior Knowledge Merge in Reinforced Agentic Models, arXiv 2601.13572, RAM+"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: the formula has none."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("ramplus_tl", weights, "use `method: {name: task_arithmetic}`")

    def survey(self, slices: Slices, model_survey: Any) -> tuple[float, ...]:
        """Return each model's factor 1 + r min(ρᵢ, α); 1 where it changes nothing alone."""
        from mergekit_audio.methods._shares import shared_and_unique

        return tuple(
            1.0 + self.r * min(shared / unique, self.alpha) if unique else 1.0
            for shared, unique in shared_and_unique(slices, self.epsilon)
        )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        from mergekit_audio.methods._shares import active_task_vectors

        factors: tuple[float, ...] = group.survey
        total = amplified = counts = None
        pairs = active_task_vectors(group, self.epsilon)
        for (kept, active), factor in zip(pairs, factors, strict=True):
            total = kept if total is None else total + kept
            amplified = kept * factor if amplified is None else amplified + kept * factor
            counts = active if counts is None else counts + active
        xp = group.xp
        return xp.where(counts == 1.0, amplified, total / xp.clip(counts, 1.0, None))
