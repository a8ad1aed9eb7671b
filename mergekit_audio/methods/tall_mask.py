"""TALL-mask: the merged task vector where it speaks for one model's task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._masks import require_task
from mergekit_audio.methods._tall import TallMethod
from mergekit_audio.methods.base import Array, TensorGroup


class TallMask(TallMethod):
    """Δ = t · [abs(tᵢ) > λₜ abs(t − tᵢ)], t = Σⱼ tⱼ, tⱼ = wⱼ τⱼ, for the model i named ``task``.

    Gives one model per culture: the recipe is run once for each ``task``. The mask keeps the places
    where the model is nearer to the merge than, λₜ times, to the base. With ``inner: ties`` t is
    TIES' disjoint sum instead.
    """

    name: Literal["tall_mask"] = "tall_mask"
    """Always `tall_mask`."""
    reference: ClassVar[str] = (
        "Wang et al., Localizing Task Information for Improved Model Merging and Compression, "
        "arXiv 2405.07813, eq. 4"
    )
    task: str = Field(min_length=1)
    """The `name` of the model whose task the merge is masked for."""

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when no model has the name ``task``."""
        require_task(self.name, self.task, labels)

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``."""
        model = group.labels.index(self.task)
        merged, (mask,) = self.merged_and_masks(group, range(model, model + 1))
        return group.xp.where(mask, merged, 0.0)
