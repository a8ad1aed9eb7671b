"""NuSLERP: SLERP between two models by their weights, of task vectors or weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from mergekit_audio.methods._varies import varies
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup

_SMALLEST_SUM = 1e-6


class Nuslerp(MergeMethod):
    """Δ = (sin((1 − t) Ω) x₁ + sin(t Ω) x₂) / sin Ω, t = w₂ / (w₁ + w₂), Ω the angle of x₁ and x₂.

    xᵢ = θᵢ − θ_base, or with ``space: weights`` xᵢ = θᵢ and θ_base is subtracted from the result.
    Weights that sum to zero give t = 0.5. Collinear vectors (sin² Ω ≤ 1e-12) are joined linearly; a
    vector of zeros counts as perpendicular to the other. mergekit's ``nuslerp_flatten: false`` is
    ``vectors: last_axis``, with ``nuslerp_row_wise: true`` it is ``vectors: first_axis``.
    """

    name: Literal["nuslerp"] = "nuslerp"
    """Always `nuslerp`."""
    space: Literal["task_vectors", "weights"] = "task_vectors"
    """What is interpolated: the differences from the base, or the models themselves."""
    vectors: Literal["tensor", "last_axis", "first_axis"] = "tensor"
    """What has one angle: the whole tensor, or each vector along its last or its first axis."""
    reference: ClassVar[str] = (
        "Goddard et al., Arcee's MergeKit, arXiv 2403.13257 (nuslerp, defined by the package); "
        "after Shoemake, Animating Rotation with Quaternion Curves, SIGGRAPH 1985"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = varies(
        "element", lambda method: "element" if method.vectors == "tensor" else "row"
    )
    needs_base: ClassVar[bool] = varies(True, lambda method: method.space == "task_vectors")
    model_counts: ClassVar[tuple[int, int | None]] = (2, 2)

    def survey(self, slices: Slices, model_survey: Any) -> tuple[Array, Array, Array] | None:
        """Return the coefficients of vectors that span several rows; None: rows have their own."""
        from mergekit_audio.methods._geometry import nuslerp_coefficients

        whole = self.vectors == "tensor" or len(slices.shape) < 2
        if not whole and self.vectors == "last_axis":
            return None
        sums: list[Array] | None = None
        for group, first, second in self._pairs(slices):
            xp = group.xp
            axis = None if whole else 0
            pairs = ((first, first), (second, second), (first, second))
            parts = [xp.sum(x * y, axis=axis) for x, y in pairs]
            sums = parts if sums is None else [a + b for a, b in zip(sums, parts, strict=True)]
        if sums is None:
            raise ValueError(f"{slices.name}: no slices")
        return nuslerp_coefficients(sums[0], sums[1], sums[2], self._place(group), xp)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = c₁ x₁ + c₂ x₂ (− θ_base), float64, shape ``[*S]``."""
        first, second, excess = group.survey or self._of_rows(group)
        base, models = group.base, group.models
        delta = first * (models[0, ...] - base) + second * (models[1, ...] - base)
        return delta if self.space == "task_vectors" else delta + excess * base

    def _of_rows(self, group: TensorGroup) -> tuple[Array, Array, Array]:
        from mergekit_audio.methods._geometry import nuslerp_coefficients

        xp = group.xp
        ((_, first, second),) = self._pairs([group])
        aa, bb, ab = (
            xp.sum(x * y, axis=-1, keepdims=True)
            for x, y in ((first, first), (second, second), (first, second))
        )
        return nuslerp_coefficients(aa, bb, ab, self._place(group), xp)

    def _pairs(self, groups: Any) -> Iterator[tuple[TensorGroup, Array, Array]]:
        for group in groups:
            x = group.models if self.space == "weights" else group.task_vectors
            yield group, x[0, ...], x[1, ...]

    def _place(self, group: TensorGroup) -> float:
        total = math.fsum(group.weights)
        return 0.5 if abs(total) < _SMALLEST_SUM else group.weights[1] / total
