"""The λ from 0 to where a merge is as far from the base as the models are on average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mergekit_audio import merge
from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.recipe.spaces import even_values
from mergekit_audio.sweep.spaces import AUTO_COUNT, Point
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import inspect_models

if TYPE_CHECKING:
    from mergekit_audio.sweep.planner import SweepPlan


def trusted_scales(planned: SweepPlan) -> tuple[list[float], list[str]]:
    """Return λ at even distances from 0 to the edge of the trust region, and why it is there.

    ``‖λ Δ‖ = mean ‖wᵢ τᵢ‖`` with Δ of the method itself, so that it holds for any method; rounded
    up to two digits. With one λ a culture each goes to 1, the culture's own model.

    Raises
    ------
    RecipeError
        No model differs from the base, or Δ is zero, so that every λ gives the base.
    """
    recipe = planned.recipe
    sources = dict(planned.sources())
    base = Checkpoint.open(sources["base"], root=planned.root)
    models = {
        each.name: Checkpoint.open(sources[each.name], root=planned.root)
        for each in recipe.cultures
    }
    norms = inspect_models(base, models)["norms"]
    sizes = [
        abs(each.weight) * norm
        for each, norm in zip(recipe.cultures, norms, strict=True)
        if norm and each.weight
    ]
    if not sizes:
        raise _nothing("no model differs from the base, so every λ gives the base")
    if recipe.space == "per_culture":
        return even_values(0.0, 1.0, AUTO_COUNT), [
            "λ of each culture from 0 to 1, where it is the culture's own model."
        ]
    axes = max(1, len(recipe.groups))
    delta = merge.compute_delta(planned.merge(Point((1.0,) * axes)))
    moved = math.sqrt(math.fsum(float(each.double().square().sum()) for each in delta.values()))
    if not moved:
        raise _nothing("Δ of the method is zero, so every λ gives the base")
    mean = math.fsum(sizes) / len(sizes)
    high = _rounded(mean / moved)
    reason = (
        f"λ from 0 to {high:g}: there the merge is as far from the base ({high:g} · {moved:.4g}) "
        f"as the models are on average ({mean:.4g}); beyond lie weights that no training has seen."
    )
    return even_values(0.0, high, AUTO_COUNT), [reason]


def _rounded(value: float) -> float:
    """Return a number with two digits that is not below the value."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")


def _nothing(problem: str) -> RecipeError:
    return RecipeError([Fault("", 0, 0, "scales", f"auto: {problem}")], "look at `cmerge inspect`")
