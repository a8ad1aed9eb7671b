"""EMR: elect a unified task vector; for one model, mask it and rescale it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._masks import require_task
from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup, Tensors
from mergekit_audio.methods.ops import weighted_sum


class Emr(MergeMethod):
    """Δ = u = s · maxᵢ (tᵢ s)₊, s = sign Σᵢ tᵢ, tᵢ = wᵢ τᵢ; for a ``task`` i Δ = rᵢ [tᵢ s > 0] u.

    The unified vector u has the sign of the sum and the largest magnitude of those that agree.
    rᵢ = Σ abs(tᵢ) / Σ abs([tᵢ s > 0] u), both sums over all tensors that are merged. Without
    ``task`` the model is the unified one; with it one model per culture: the recipe is run once for
    each. Where Σᵢ tᵢ is 0, u is 0.
    """

    name: Literal["emr"] = "emr"
    """Always `emr`."""
    reference: ClassVar[str] = (
        "Huang et al., EMR-Merging: Tuning-Free High-Performance Model Merging, "
        "arXiv 2405.17461, section 3 and algorithm 1"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    task: str | None = Field(default=None, min_length=1)
    """The `name` of the model that the unified vector is masked and rescaled for; null: neither."""

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when no model has the name ``task``."""
        if self.task is not None:
            require_task(self.name, self.task, labels)

    def survey_model(self, tensors: Tensors) -> float | None:
        """Return r of the ``task``'s model; None without ``task``."""
        if self.task is None:
            return None
        pairs = tensors.map(self._sums)
        own = math.fsum(pair[0] for pair in pairs)
        masked = math.fsum(pair[1] for pair in pairs)
        return own / masked if masked else 0.0

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        vectors = weighted_task_vectors(group)
        if self.task is None:
            return _unified(vectors, group)[0]
        return group.model_survey * self._masked(vectors, group)

    def _sums(self, slices: Slices) -> tuple[float, float]:
        own, masked = [], []
        for group in slices:
            xp, vectors = group.xp, weighted_task_vectors(group)
            model = group.labels.index(self.task or "")
            own.append(float(xp.sum(xp.abs(vectors[model, ...]))))
            masked.append(float(xp.sum(xp.abs(self._masked(vectors, group)))))
        return math.fsum(own), math.fsum(masked)

    def _masked(self, vectors: Array, group: TensorGroup) -> Array:
        """Return [tᵢ s > 0] u of the ``task``'s model."""
        unified, sign = _unified(vectors, group)
        agrees = vectors[group.labels.index(self.task or ""), ...] * sign > 0
        return group.xp.where(agrees, unified, 0.0)


def _unified(vectors: Array, group: TensorGroup) -> tuple[Array, Array]:
    """Return u and s, shape ``[*S]``."""
    xp = group.xp
    sign = xp.sign(weighted_sum(vectors, [1.0] * len(group.weights)))
    largest = xp.zeros_like(sign)
    for i in range(len(group.weights)):
        largest = xp.maximum(largest, vectors[i, ...] * sign)
    return sign * largest, sign
