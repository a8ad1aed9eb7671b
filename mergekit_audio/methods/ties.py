"""TIES: trim the task vectors, elect a sign for each parameter, join what agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._sparse import SparseMerge
from mergekit_audio.methods.base import Array, Slices, TensorGroup, Tensors


class Ties(SparseMerge):
    """Δ = Σᵢ mᵢ wᵢ τ̂ᵢ / Σᵢ mᵢ wᵢ, mᵢ = [sign(wᵢ τ̂ᵢ) = sign(Σⱼ wⱼ τ̂ⱼ)], τ̂ = the largest of τ."""

    name: Literal["ties"] = "ties"
    """Always `ties`."""
    reference: ClassVar[str] = (
        "Yadav et al., TIES-Merging: Resolving Interference When Merging Models, "
        "arXiv 2306.01708, algorithm 1"
    )
    elects: ClassVar[bool] = True

    density: float = Field(default=0.2, ge=0, le=1)
    """Share of each task vector that is kept, the largest magnitudes; the paper keeps 20 %."""
    normalize: bool = True
    """Divide by the weights of the models that agree (the paper's disjoint mean), else the sum."""
    rescale: bool = False
    """Scale what is kept of a tensor up to the tensor's sum of magnitudes (mergekit's option)."""
    semantics: Literal["paper", "mergekit"] = "paper"
    """`paper`: the share is of the whole model's task vector, all that equal the smallest kept
    value stay. `mergekit`: of each tensor, exactly max(1, floor(density · n)) elements."""

    def survey_model(self, tensors: Tensors) -> Any:
        """Return each model's threshold over its whole task vector (two readings of the models)."""
        if self.semantics == "mergekit":
            return None
        from mergekit_audio.methods._sparsify import trim_cuts_of_model

        return trim_cuts_of_model(tensors, self.name, self.density)

    def selection(self, slices: Slices, model_survey: Any) -> Any:
        """Return each model's threshold in this tensor."""
        from mergekit_audio.methods._sparsify import trim_cuts_of_tensor

        if self.semantics == "paper":
            return model_survey
        return trim_cuts_of_tensor(slices, self.density)

    def sparse(self, group: TensorGroup, selection: Any) -> Iterator[Array]:
        """Yield each model's largest changes, 0 elsewhere."""
        from mergekit_audio.methods._sparsify import trimmed

        return trimmed(group, selection)
