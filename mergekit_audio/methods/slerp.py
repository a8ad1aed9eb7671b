"""SLERP: along the great circle from one tensor to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

if TYPE_CHECKING:
    from mergekit_audio.methods._geometry import Span


class Slerp(MergeMethod):
    """Δ = (sin((1 − t) Ω) a + sin(t Ω) b) / sin Ω − θ_base, Ω the angle between a and b.

    With one model a is the base and b the model; with two, a is the first and b the second in the
    recipe's order. Ω is taken over the whole tensor, the norms are not equalised, and where
    |cos Ω| > 0.9995 the result is linear, (1 − t) a + t b. A tensor that is zero has no direction
    and counts as perpendicular to the other. ``scale`` 1 gives the interpolated tensor itself.
    """

    name: Literal["slerp"] = "slerp"
    """Always `slerp`."""
    t: float = Field(allow_inf_nan=False)
    """The place between a (0) and b (1); outside of it the great circle goes on."""
    reference: ClassVar[str] = (
        "Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985; "
        "Goddard et al., Arcee's MergeKit, arXiv 2403.13257 (SLERP)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    symmetric: ClassVar[bool] = False
    model_counts: ClassVar[tuple[int, int | None]] = (1, 2)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` for a weight other than 1: ``t`` is the only one here."""
        from mergekit_audio.methods._checks import require_unit_weights

        require_unit_weights("slerp", weights, "set `t`, or use `method: {name: nuslerp}`")

    def survey(self, slices: Slices, model_survey: Any) -> Span:
        """Return the coefficients of a and b, from norms and angle of the whole tensor."""
        from mergekit_audio.methods._geometry import Span, gram, slerp_coefficients

        found = gram(slices, _ends)
        first, second, excess = slerp_coefficients(found.products, self.t)
        return Span((second,) if len(found.weights) == 1 else (first, second), excess)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = cₐ a + c_b b − θ_base, float64, shape ``[*S]``."""
        span: Span = group.survey
        return span.apply(group)


def _ends(group: TensorGroup) -> Array:
    if len(group.weights) == 2:
        return group.models
    return group.xp.stack([group.base, group.models[0, ...]])
