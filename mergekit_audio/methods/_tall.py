"""What TALL-mask and Consensus share: the multi-task vector and where it speaks for a model."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.methods._task_vectors import weighted_task_vectors
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup, Tensors
from mergekit_audio.methods.ops import weighted_sum
from mergekit_audio.methods.ties import Ties

_DENSITY = 0.2


class TallMethod(MergeMethod):
    """Masks mᵢ = [abs(tᵢ) > λₜ abs(t − tᵢ)] of a multi-task vector t, tᵢ = wᵢ τᵢ."""

    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    inner: Literal["task_arithmetic", "ties"] = "task_arithmetic"
    """t: `task_arithmetic` Σᵢ tᵢ; `ties` the sum of what agrees among the largest of each tᵢ."""
    density: float = Field(default=_DENSITY, gt=0, le=1)
    """The share of each task vector, over the whole model, that `inner: ties` keeps."""
    mask_scale: float = Field(default=0.4, ge=0)
    """λₜ; the larger, the fewer places are kept (the papers search 0.2 … 0.6)."""

    @model_validator(mode="after")
    def _check_density(self) -> Self:
        if self.inner != "ties" and self.density != _DENSITY:
            raise ValueError("`density` needs `inner: ties`; task arithmetic keeps all")
        return self

    def survey_model(self, tensors: Tensors) -> Any:
        """Return what ``inner`` must know of all tensors."""
        return self._ties().survey_model(tensors) if self.inner == "ties" else None

    def survey(self, slices: Slices, model_survey: Any) -> Any:
        """Return what ``inner`` must know of a tensor."""
        return self._ties().survey(slices, model_survey) if self.inner == "ties" else None

    def merged_and_masks(self, group: TensorGroup, models: range) -> tuple[Array, list[Array]]:
        """Return t, float64, and mᵢ of the ``models``, bool, each of shape ``[*S]``."""
        xp, vectors = group.xp, weighted_task_vectors(group)
        if self.inner == "ties":
            merged = self._ties().merge_tensor(group)
        else:
            merged = weighted_sum(vectors, [1.0] * len(group.weights))
        own = [vectors[i, ...] for i in models]
        return merged, [xp.abs(each) > self.mask_scale * xp.abs(merged - each) for each in own]

    def _ties(self) -> Ties:
        return Ties(density=self.density, normalize=False)
