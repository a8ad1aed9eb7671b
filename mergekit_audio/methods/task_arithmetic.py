"""Task arithmetic: add the weighted task vectors of the models."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class TaskArithmetic(MergeMethod):
    """Δ = Σᵢ wᵢ (θᵢ − θ_base); a negative weight takes a model's task away (negation)."""

    name: Literal["task_arithmetic"] = "task_arithmetic"
    """Always `task_arithmetic`."""
    reference: ClassVar[str] = (
        "Ilharco et al., Editing Models with Task Arithmetic, arXiv 2212.04089, section 2; "
        "Papaioannou et al., CultureMERT, arXiv 2506.17818, eq. 5"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    linear: ClassVar[bool] = True

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = Σᵢ wᵢ (θᵢ − θ_base), float64, shape ``[*S]``, summed in the models' order."""
        from mergekit_audio.methods.ops import weighted_task_sum

        return weighted_task_sum(group.base, group.models, group.weights)
