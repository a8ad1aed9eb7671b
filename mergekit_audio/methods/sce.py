"""SCE: select where the models differ, weigh them by their energy, erase minority signs."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup


class Sce(MergeMethod):
    """Δ = Σᵢ ηᵢ mᵢ dᵢ / max(Σᵢ ηᵢ mᵢ, 1e-6), dᵢ = wᵢ τᵢ where Varⱼ(dⱼ) is large, ηᵢ ∝ mean(dᵢ²)."""

    name: Literal["sce"] = "sce"
    """Always `sce`."""
    reference: ClassVar[str] = (
        "Wan et al., FuseChat: Knowledge Fusion of Chat Models, arXiv 2408.07990, section 3.3"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"

    select_topk: float = Field(default=0.1, ge=0, le=1)
    """Share of each tensor's elements (of those where the models differ) that is kept: where the
    variance over the models is largest."""

    def survey(self, slices: Slices, model_survey: Any) -> Any:
        """Return where the variance is large enough, and η₁ … η_K of the tensor."""
        from mergekit_audio.methods._variance import choose, coefficients

        chosen = choose(slices, self.select_topk)
        return chosen, coefficients(slices, chosen)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        from mergekit_audio.methods._variance import fused

        chosen, shares = group.survey
        return fused(group, chosen, shares).reshape(group.base.shape)
