"""LiNeS: what another method merged, scaled up with depth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, ValidationError, field_validator

from mergekit_audio import registry
from mergekit_audio.methods._varies import varies
from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup, Tensors

_DEFAULT_INNER: Any = {"name": "task_arithmetic"}


class Lines(MergeMethod):
    """Δ = (α + β l / (L − 1)) Δ_inner in layer l of 0 … L − 1, α Δ_inner outside the layers.

    Δ_inner is what ``inner`` gives: Σᵢ wᵢ τᵢ as a rule. ``alpha: norm`` is the paper's heuristic
    α = ‖Σᵢ wᵢ τᵢ‖₁ / (K ‖Δ_inner‖₁) over the whole model, which is 1 / K for Σᵢ wᵢ τᵢ itself.
    """

    name: Literal["lines"] = "lines"
    """Always `lines`."""
    alpha: Annotated[float, Field(allow_inf_nan=False)] | Literal["norm"] = "norm"
    """α: the factor of the first layer and of tensors outside the layers; `norm`: the heuristic."""
    beta: float | None = Field(default=None, allow_inf_nan=False)
    """β: what the factor grows by to the last layer; null: 1 − α, so that the last layer has 1."""
    inner: SerializeAsAny[MergeMethod] = _DEFAULT_INNER
    """The method that merges, with its own parameters: `task_arithmetic`, or `{name: ties, …}`."""
    reference: ClassVar[str] = (
        "Wang et al., LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model "
        "Merging, arXiv 2410.17146 (layer scaling; multi-task α by norms)"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = varies(
        "element", lambda method: method.inner.granularity
    )
    symmetric: ClassVar[bool] = varies(True, lambda method: method.inner.symmetric)
    anchored: ClassVar[bool] = varies(True, lambda method: method.inner.anchored)
    random: ClassVar[bool] = varies(False, lambda method: method.inner.random)
    model_counts: ClassVar[tuple[int, int | None]] = varies(
        (1, None), lambda method: method.inner.model_counts
    )
    needs_statistics: ClassVar[tuple[str, ...]] = varies(
        (), lambda method: method.inner.needs_statistics
    )

    @field_validator("inner", mode="before")
    @classmethod
    def _find_inner(cls, value: Any) -> Any:
        if isinstance(value, MergeMethod):
            return value
        values = {"name": value} if isinstance(value, str) else value
        if not isinstance(values, dict) or not isinstance(values.get("name"), str):
            raise ValueError("expected a merge method: its name, or a mapping with `name`")
        name = values["name"]
        methods = {
            key: each for key, each in registry.discover("methods").items() if key != "lines"
        }
        if name not in methods:
            near = registry.did_you_mean(name, methods)
            raise ValueError(f"{name!r} can't be the inner method; {near or 'see `recipe ls`'}")
        try:
            return methods[name](**values)
        except ValidationError as error:
            faults = [
                f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
                for each in error.errors()
            ]
            raise ValueError(f"{name}: {'; '.join(faults)}") from None

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when the inner method can't use these weights."""
        self.inner.check_weights(weights)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when a parameter of the inner method names an unknown model."""
        self.inner.check_labels(labels)

    def survey_model(self, tensors: Tensors) -> tuple[float, Any]:
        """Return α and what the inner method must know of all tensors."""
        inner = self.inner.survey_model(tensors)
        if self.alpha != "norm":
            return self.alpha, inner
        norms = tensors.map(lambda slices: self._norms(slices, inner))
        summed = math.fsum(of_sum for of_sum, _, _ in norms)
        merged = math.fsum(of_merged for _, of_merged, _ in norms)
        count = max((each for _, _, each in norms), default=1)
        return (summed / (count * merged) if merged else 1.0 / count), inner

    def survey(self, slices: Slices, model_survey: Any) -> Any:
        """Return what the inner method must know of the tensor."""
        return self.inner.survey(slices, model_survey[1])

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ = (α + β l / (L − 1)) Δ_inner, float64, shape ``[*S]``."""
        alpha, inner = group.model_survey
        factor = alpha
        if group.layer is not None:
            layer, count = group.layer
            beta = 1.0 - alpha if self.beta is None else self.beta
            factor = alpha + beta * layer / max(count - 1, 1)
        return self.inner.merge_tensor(dataclasses.replace(group, model_survey=inner)) * factor

    def _norms(self, slices: Slices, inner: Any) -> tuple[float, float, int]:
        """Return ‖Σᵢ wᵢ τᵢ‖₁ and ‖Δ_inner‖₁ of one tensor, and K."""
        from mergekit_audio.methods.ops import weighted_task_sum

        survey = self.inner.survey(slices, inner)
        summed = merged = 0.0
        count = 1
        for group in slices:
            xp, count = group.xp, len(group.weights)
            seen = dataclasses.replace(group, survey=survey, model_survey=inner)
            total = weighted_task_sum(group.base, group.models, group.weights)
            summed += float(xp.sum(xp.abs(total)))
            merged += float(xp.sum(xp.abs(self.inner.merge_tensor(seen))))
        return summed, merged, count
