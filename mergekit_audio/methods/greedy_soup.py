"""Greedy soup: the mean of those models that each made the mean before it better on validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods.base import Array, MergeMethod, TensorGroup


class GreedySoup(MergeMethod):
    """Δ = Σᵢ wᵢ (θᵢ − θ_base) / Σᵢ wᵢ over the accepted models: greedily by validation score.

    The models are ordered by their score alone; then each is accepted when the mean with it scores
    strictly higher than the best so far. ``cmerge merge`` probes them on ``tasks`` and writes what
    it accepted into the lock's recipe, which then needs no audio.
    """

    name: Literal["greedy_soup"] = "greedy_soup"
    """Always `greedy_soup`."""
    tasks: list[dict[str, Any]] = Field(default=[])
    """The probing tasks that decide, as in a recipe of `kind: evaluate`; unused with `accepted`."""
    objective: str = "mean"
    """What the score is taken from: `mean` of all tasks, or one task's name."""
    metric: Literal["roc_auc", "average_precision"] = "roc_auc"
    """The validation score, a mean over tags and over `seeds`."""
    seeds: list[int] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Seeds of the probes."""
    backbone: str = "mert"
    """The model family of the encoders that are probed."""
    store: str | None = None
    """The prepared store and the feature cache; null means `.cmerge_store` beside the recipe."""
    accepted: list[str] | None = Field(default=None, min_length=1)
    """The models that are averaged, by name; null: decided by probing, before the merge."""
    reference: ClassVar[str] = (
        "Wortsman et al., Model soups: averaging weights of multiple fine-tuned models improves "
        "accuracy without increasing inference time, arXiv 2203.05482, recipe 1"
    )
    granularity: ClassVar[Literal["element", "row", "tensor"]] = "element"
    needs_base: ClassVar[bool] = False

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` unless all weights are above zero."""
        if any(weight <= 0 for weight in weights):
            found = ", ".join(f"{weight:g}" for weight in weights)
            problem = f"a greedy soup takes weights above 0, as shares of a mean; found {found}"
            raise RecipeError([Fault("", 0, 0, "models", problem)], "leave the weights out")

    def check_labels(self, labels: Sequence[str]) -> None:
        """Raise ``RecipeError`` when ``accepted`` names a model that is not there, or one twice."""
        accepted = self.accepted or []
        if unknown := [name for name in accepted if name not in labels]:
            problem = f"{', '.join(unknown)}: no such model; there are {', '.join(labels)}"
        elif len(set(accepted)) < len(accepted):
            problem = f"a model can be accepted once, found {', '.join(accepted)}"
        elif len(set(labels)) < len(labels):
            problem = f"the models' names must differ, found {', '.join(labels)}"
        else:
            return
        raise RecipeError(
            [Fault("", 0, 0, "method.accepted", problem)], "give each model a `name` of its own"
        )

    def merge_tensor(self, group: TensorGroup) -> Array:
        """Return the accepted models' weighted mean minus the base, float64, shape ``[*S]``.

        Raises
        ------
        RecipeError
            It is not decided which models are accepted.
        """
        if self.accepted is None:
            problem = "which models a greedy soup accepts is decided by probing them"
            raise RecipeError(
                [Fault("", 0, 0, "method.accepted", problem)],
                "run the recipe with `cmerge merge`, or name the accepted models",
            )
        total: Array = None
        for i, (label, weight) in enumerate(zip(group.labels, group.weights, strict=True)):
            if label in self.accepted:
                term = (group.models[i, ...] - group.base) * weight
                total = term if total is None else total + term
        return total * (1.0 / math.fsum(self._accepted_weights(group)))

    def _accepted_weights(self, group: TensorGroup) -> list[float]:
        pairs = zip(group.labels, group.weights, strict=True)
        return [weight for label, weight in pairs if label in (self.accepted or [])]
