"""Multi-SLERP: the weighted direction of several tensors with their mean norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._varies import varies
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.methods._geometry import Span


class Multislerp(MergeMethod):
    """Δ = (Σᵢ wᵢ ‖xᵢ‖) m, m = Σᵢ wᵢ uᵢ / ‖Σᵢ wᵢ uᵢ‖, uᵢ = xᵢ / (‖xᵢ‖ + eps), xᵢ = θᵢ − θ_base.

    With ``space: weights`` xᵢ = θᵢ and θ_base is subtracted from the result. The published form
    adds a tangent step from m, whose length is zero (m is the direction of the sum that it
    projects). One model stays itself, whatever its weight. Where the weighted directions
    cancel, or all xᵢ are zero, the result is Σᵢ wᵢ xᵢ for any number of models (mergekit stops
    there for three or more, so that one frozen tensor ends its merge).
    """

    name: Literal["multislerp"] = "multislerp"
    """Always `multislerp`."""
    space: Literal["task_vectors", "weights"] = "task_vectors"
    """What is interpolated: the differences from the base, or the models themselves."""
    normalize_weights: bool = True
    """Divide the weights by their sum."""
    eps: float = Field(default=1e-8, gt=0, allow_inf_nan=False)
    """What keeps quotients finite: added to each norm; a shorter mean has no direction."""
    reference: ClassVar[str] = (
        "Goddard, Multi-SLERP (goddard.blog/posts/multislerp-wow-what-a-cool-idea); "
        "in mergekit, Goddard et al., Arcee's MergeKit, arXiv 2403.13257"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = varies(True, lambda method: method.space == "task_vectors")
    anchored: ClassVar[bool] = varies(
        True, lambda method: method.space == "task_vectors" or method.normalize_weights
    )

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when weights that are to be normalised sum to zero."""
        from mergekit_audio.methods._checks import require_nonzero_sum

        if self.normalize_weights:
            require_nonzero_sum("multislerp", weights, "set `normalize_weights: false`")

    def survey(self, slices: Slices, model_survey: Any) -> Span:
        """Return the models' coefficients, from the inner products of the whole tensor."""
        from mergekit_audio.methods._geometry import (
            Span,
            combination_norm,
            gram,
            multislerp_coefficients,
            weights_span,
        )

        found = gram(slices, self._vectors)
        weights = found.weights
        if len(weights) == 1:
            return Span((1.0,))
        if self.normalize_weights:
            total = math.fsum(weights)
            weights = tuple(weight / total for weight in weights)
        if found.unchanged and self.anchored:
            return Span(weights)
        coefficients = multislerp_coefficients(
            found.products,
            weights,
            self.eps,
            lambda each: combination_norm(slices, self._vectors, each),
        )
        return Span(coefficients) if self.space == "task_vectors" else weights_span(coefficients)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = Σᵢ cᵢ xᵢ (− θ_base), float64, shape ``[*S]``."""
        span: Span = group.survey
        return span.apply(group)

    def _vectors(self, group: TensorGroup) -> Array:
        return group.task_vectors if self.space == "task_vectors" else group.models
