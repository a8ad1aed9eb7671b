"""Fisher merging: a mean in which each model weighs most where its predictions depend most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods.base import Array, MergeMethod, Slices, TensorGroup, Tensors


class Fisher(MergeMethod):
    """Δ = Σᵢ wᵢ Fᵢ τᵢ / Σᵢ wᵢ Fᵢ, elementwise, Fᵢ the diagonal of model i's Fisher information.

    The Fisher comes from ``cmerge measure`` with ``statistics: [fisher]``, one folder for each
    model. It is measured for every parameter, so convolutions, norms, and the g and v of a weight
    norm are merged by the same formula; tensors without one are averaged, as is a kernel that
    ``weight_norm: fused`` merges instead of its g and v.
    """

    name: Literal["fisher"] = "fisher"
    """Always `fisher`."""
    normalize: bool = True
    """Divide each model's Fisher by its root mean square over all merged tensors (its L2 norm but
    for a factor that all models share), so that none outweighs the others by its gradients' size.
    """
    floor: float = Field(default=1e-6, gt=0, allow_inf_nan=False)
    """The least Fᵢ, after the division: where no model depends on a parameter, it is averaged."""
    reference: ClassVar[str] = (
        "Matena and Raffel, Merging Models with Fisher-Weighted Averaging, arXiv 2111.09832, "
        "section 2, the diagonal Fisher merging"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = False
    needs_statistics: ClassVar[tuple[str, ...]] = ("fisher",)

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when a weight is negative or all are zero."""
        from mergekit_audio.methods._averaging import require_shares

        require_shares(self.name, weights)

    def survey_model(self, tensors: Tensors) -> Any:
        """Return each model's factor 1 / √(mean F²) over all tensors; None without ``normalize``.

        A model whose Fisher is zero everywhere keeps the factor 1: its floor counts.
        """
        if not self.normalize:
            return None
        found = [each for each in tensors.map(_squares) if each is not None]
        if not found:
            return None
        elements = sum(count for _, count in found)
        sums = [math.fsum(squares[i] for squares, _ in found) for i in range(len(found[0][0]))]
        return [math.sqrt(elements / each) if each > 0 else 1.0 for each in sums]

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return Δ, float64, shape ``[*S]``; the weighted mean for tensors without a Fisher."""
        from mergekit_audio.methods._averaging import mean_delta

        fisher = group.statistics.get("fisher")
        if fisher is None:
            return mean_delta(group.base, group.models, group.weights)
        xp = group.xp
        factors = group.model_survey or [1.0] * len(group.weights)
        above: Array = None
        below: Array = None
        for i, weight in enumerate(group.weights):
            share = xp.clip(fisher[i, ...] * factors[i], self.floor, None) * weight
            term = (group.models[i, ...] - group.base) * share
            above = term if above is None else above + term
            below = share if below is None else below + share
        return above / below


def _squares(slices: Slices) -> tuple[list[float], int] | None:
    """Return each model's Σ F² of a tensor and its number of elements; None without a Fisher."""
    sums: list[float] = []
    elements = 0
    for group in slices:
        fisher = group.statistics.get("fisher")
        if fisher is None:
            return None
        xp = group.xp
        parts = [float(xp.sum(fisher[i, ...] ** 2)) for i in range(len(group.weights))]
        sums = [here + part for here, part in zip(sums or [0.0] * len(parts), parts, strict=True)]
        elements += math.prod(group.base.shape)
    return (sums, elements) if sums else None
