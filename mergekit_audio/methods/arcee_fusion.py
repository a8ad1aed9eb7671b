"""Arcee Fusion: take the other model's elements only where they matter most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.methods._importance import Threshold


class ArceeFusion(MergeMethod):
    """Δ = [I ≥ median(I) + 1.5 (Q₃ − Q₁)(I)] · τ, I = |τ| · KL(softmax θ₁ ; softmax θ_base) by row.

    τ = θ₁ − θ_base; a row is a vector along the last axis; both softmaxes get 1e-8 added. The
    quartiles of I are taken over the tensor, by order (no interpolation): of all its elements up
    to 10⁶, above that of 10⁶ at equal distances (mergekit draws 10⁶ at random, so that its result
    changes from run to run). A tensor whose rows have one element has I = 0 and is the model's.
    mergekit in float64 takes the same elements; in float32 its KL of small changes is mostly
    rounding, and so are its choices near the threshold.
    """

    name: Literal["arcee_fusion"] = "arcee_fusion"
    """Always `arcee_fusion`."""
    reference: ClassVar[str] = (
        "Arcee Fusion (arcee.ai), defined by mergekit: Goddard et al., Arcee's MergeKit, "
        "arXiv 2403.13257"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "row"
    model_counts: ClassVar[tuple[int, int | None]] = (1, 1)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: the formula has none."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("arcee_fusion", weights, "change `scale`")

    def survey(self, slices: Slices, model_survey: Any) -> Threshold:
        """Return the least importance that is taken, and the divergence of a vector."""
        from mergekit_audio.methods._importance import find_threshold

        return find_threshold(slices)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = [I ≥ threshold] · τ, float64, shape ``[*S]``."""
        from mergekit_audio.methods._importance import importance

        found: Threshold = group.survey
        tau = group.models[0, ...] - group.base
        taken = importance(group, found.vector_divergence) >= found.value
        return group.xp.where(taken, tau, group.xp.zeros_like(tau))
