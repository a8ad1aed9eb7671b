"""The λ grid of a sweep: the recipe's values, with the base and weight averaging added."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mergekit_audio.recipe.sweep import SweepRecipe

SAME_SCALE = 1e-9


def scale_grid(recipe: SweepRecipe) -> list[GridPoint]:
    """Return the λ values in rising order; 0 and weight averaging are added where they are missing.

    λ = 0 is the base. A λ within a relative 1e-9 of weight averaging counts as weight averaging.
    """
    scales = list(recipe.scales)
    averaging = weight_average_scale(recipe)
    for wanted in (0.0, averaging):
        if wanted is not None and not any(_same(scale, wanted) for scale in scales):
            scales.append(wanted)
    return [
        GridPoint(scale, weight_average=averaging is not None and _same(scale, averaging))
        for scale in sorted(0.0 if scale == 0 else scale for scale in scales)
    ]


@dataclass(frozen=True)
class GridPoint:
    """One λ, and whether the merge at this λ is weight averaging."""

    scale: float
    weight_average: bool

    @property
    def name(self) -> str:
        """The row's name in results; λ = 0 is the base itself."""
        return f"λ = {self.scale:.12g}" if self.scale else "base"


def weight_average_scale(recipe: SweepRecipe) -> float | None:
    """Return the λ at which the method averages the cultures' weights; ``None`` if there is none.

    With all weights 1, task arithmetic averages at λ = 1/N. With other positive weights the average
    is the weighted one, λ = 1/Σw. A negative weight takes a culture away: then no λ averages.
    """
    if not can_average(recipe):
        return None
    if recipe.method.name == "task_arithmetic":
        return 1.0 / math.fsum(culture.weight for culture in recipe.cultures)
    return 1.0 if recipe.method.name == "weighted_average" else None


def can_average(recipe: SweepRecipe) -> bool:
    """Tell whether the weights are those of an average: all above 0."""
    return all(culture.weight > 0 for culture in recipe.cultures)


def _same(scale: float, other: float) -> bool:
    return math.isclose(scale, other, rel_tol=SAME_SCALE)
