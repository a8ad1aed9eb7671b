"""Localize-and-Stitch without data: the largest part of each task vector, averaged in overlaps."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup, Tensors

_FAR = 1 << 40  # so that a sample is a tensor's first element alone


class LocalizeAndStitch(MergeMethod):
    """Δ = Σᵢ mᵢ tᵢ / Σᵢ mᵢ, mᵢ = [abs(tᵢ) among the model's ``density`` largest], tᵢ = wᵢ τᵢ.

    The dataless variant, over all tensors that are merged together: the region of a task is where
    its task vector is largest; regions that overlap are averaged, and where no region is Δ = 0. All
    elements that equal the smallest chosen one are chosen, zeros never. The paper learns regions
    from data, too: that is not done here.
    """

    name: Literal["localize_and_stitch"] = "localize_and_stitch"
    """Always `localize_and_stitch`."""
    reference: ClassVar[str] = (
        "He et al., Localize-and-Stitch: Efficient Model Merging via Sparse Task Arithmetic, "
        "arXiv 2408.13656, sections 3.2 and 3.3 (dataless)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    model_parameters: ClassVar[tuple[str, ...]] = ("density",)
    density: float = Field(default=0.1, gt=0, le=1)
    """The share of each task vector, over all tensors, that is its task's region."""

    def survey_model(self, tensors: Tensors) -> list[float]:
        """Return for each model the smallest magnitude of its region."""
        from mergekit_audio.methods._order_statistics import order_statistics

        densities = self._densities(tensors)
        found = order_statistics(
            tensors,
            _magnitudes,
            lambda _, size: [[size - max(1, int(density * size))] for density in densities],
            elementwise=True,
        )
        return [smallest for (smallest,) in found]

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        from mergekit_audio.methods._consensus import sums_where

        xp, vectors = group.xp, weighted_task_vectors(group)
        total = xp.zeros_like(group.base)
        masks = []
        for i, threshold in enumerate(group.model_survey):
            own = vectors[i, ...]
            chosen = xp.abs(own) >= threshold
            chosen &= own != 0
            total += own * chosen
            masks.append(chosen)
        total /= sums_where(xp, masks, [1.0] * len(masks), lambda sums: sums + (sums == 0))
        return total

    def _densities(self, tensors: Tensors) -> list[float]:
        found = tensors.map(
            lambda slices: next(
                (group.values("density", self.density) for group in slices.sampled(_FAR)), []
            )
        )
        return max(found, key=len, default=[])


def _magnitudes(group: TensorGroup) -> Array:
    """Return abs(tᵢ), shape ``[K, *S]``."""
    return group.xp.abs(weighted_task_vectors(group))
