"""TALL-mask: the merged task vector where it speaks for one model's task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._masks import require_task, tall_mask
from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup
from mergekit_audio.methods.ops import weighted_sum


class TallMask(MergeMethod):
    """Δ = t · [abs(tᵢ) > λₜ abs(t − tᵢ)], t = Σⱼ tⱼ, tⱼ = wⱼ τⱼ, for the model i named ``task``.

    Gives one model per culture: the recipe is run once for each ``task``. The mask keeps the places
    where the model is nearer to the merge than, λₜ times, to the base.
    """

    name: Literal["tall_mask"] = "tall_mask"
    """Always `tall_mask`."""
    reference: ClassVar[str] = (
        "Wang et al., Localizing Task Information for Improved Model Merging and Compression, "
        "arXiv 2405.07813, eq. 4"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    task: str = Field(min_length=1)
    """The `name` of the model whose task the merge is masked for."""
    mask_scale: float = Field(default=0.4, ge=0)
    """λₜ; the larger, the fewer places are kept (the paper searches 0.2 … 0.6)."""

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when no model has the name ``task``."""
        require_task(self.name, self.task, labels)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        xp, vectors = group.xp, weighted_task_vectors(group)
        merged = weighted_sum(vectors, [1.0] * len(group.weights))
        mask = tall_mask(vectors, merged, group.labels.index(self.task), self.mask_scale, xp)
        return xp.where(mask, merged, 0.0)
