"""MagMax: of each element the largest change."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class Magmax(MergeMethod):
    """Δ = w_k τ_k, k = argmaxᵢ |wᵢ τᵢ| element by element, τᵢ = θᵢ − θ_base.

    Of equal magnitudes the later model's in the recipe's order counts. The paper has no weights
    (all 1); here they scale the task vectors before they are compared, so that a culture's weight
    means what it means in task arithmetic. The paper's λ is ``scale``.
    """

    name: Literal["magmax"] = "magmax"
    """Always `magmax`."""
    reference: ClassVar[str] = (
        "Marczak et al., MagMax: Leveraging Model Merging for Seamless Continual Learning, "
        "arXiv 2407.06322 (maximum magnitude selection)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    symmetric: ClassVar[bool] = False

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, the largest weighted change of each element, float64, shape ``[*S]``."""
        xp = group.xp
        best: Array = None
        for i, weight in enumerate(group.weights):
            tau = (group.models[i, ...] - group.base) * weight
            best = tau if best is None else xp.where(xp.abs(tau) >= xp.abs(best), tau, best)
        return best
