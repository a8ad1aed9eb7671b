"""Karcher mean: the point of the sphere nearest to all models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.methods._geometry import Span


class Karcher(MergeMethod):
    """Δ = (Σᵢ αᵢ ‖θᵢ‖) m − θ_base, m = argmin Σᵢ αᵢ ∠(m, θᵢ)² on the unit sphere, αᵢ = wᵢ / Σ w.

    m is found by the fixed-point iteration v = Σᵢ αᵢ φᵢ / sin φᵢ (uᵢ − cos φᵢ m),
    m ← m cos ‖v‖ + v sin ‖v‖ / ‖v‖, uᵢ = θᵢ / ‖θᵢ‖, φᵢ = ∠(m, uᵢ), from the normalised weighted
    mean of the uᵢ (from u₁ where they cancel). Weights 1 give mergekit's mean. Models whose tensor
    is not longer than ``tol`` count only in the norm; where all are so short the result is Σᵢ αᵢ θᵢ
    (mergekit writes zeros).
    """

    name: Literal["karcher"] = "karcher"
    """Always `karcher`."""
    max_iter: int = Field(default=10, ge=0)
    """The largest number of steps of the iteration."""
    tol: float = Field(default=1e-5, gt=0, allow_inf_nan=False)
    """The step length, the angle in radians and the norm that count as zero."""
    reference: ClassVar[str] = (
        "Karcher, Riemannian Center of Mass and Mollifier Smoothing, CPAM 30 (1977); "
        "model merging by Karcher mean, arXiv 2603.04972, as cited by mergekit"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = False

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for negative weights, and where all are zero."""
        from mergekit_audio.methods._checks import require_positive

        require_positive("karcher", weights, "use `method: {name: task_arithmetic}`")

    def survey(self, slices: Slices, model_survey: Any) -> Span:
        """Return the models' coefficients, iterated on the Gram matrix of the whole tensor."""
        from mergekit_audio.methods._geometry import (
            Span,
            gram,
            karcher_coefficients,
            weights_span,
        )

        found = gram(slices, lambda group: group.models)
        if len(found.weights) == 1 or found.unchanged:
            return Span((1.0, *(0.0 for _ in found.weights[1:])))
        return weights_span(
            karcher_coefficients(found.products, found.weights, self.max_iter, self.tol)
        )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = Σᵢ cᵢ θᵢ − θ_base, float64, shape ``[*S]``."""
        span: Span = group.survey
        return span.apply(group)
