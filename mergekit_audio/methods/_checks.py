"""Checks of the weights that merge methods share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_audio.errors import Fault, RecipeError

_SMALLEST_SUM_RATIO = 1e-12


def require_unit_weights(name: str, weights: Sequence[float], instead: str) -> None:
    """Raise ``RecipeError`` when a weight other than 1 would have no effect in the formula."""
    faults = [
        Fault("", 0, 0, f"models[{i}].weight", f"{name} has no weights, found {weight:g}")
        for i, weight in enumerate(weights)
        if weight != 1.0
    ]
    if faults:
        raise RecipeError(faults, f"leave the weights out, or {instead}")


def require_nonzero_sum(name: str, weights: Sequence[float], instead: str) -> None:
    """Raise ``RecipeError`` when the weights sum to zero (to within rounding)."""
    total = math.fsum(weights)
    if abs(total) <= _SMALLEST_SUM_RATIO * math.fsum(abs(weight) for weight in weights):
        problem = f"{name} divides by the sum of the weights, which is {total:g}"
        raise RecipeError([Fault("", 0, 0, "models", problem)], f"change a weight, or {instead}")


def require_positive(name: str, weights: Sequence[float], instead: str) -> None:
    """Raise ``RecipeError`` when a weight is negative, or all are zero."""
    faults = [
        Fault("", 0, 0, f"models[{i}].weight", f"{name} needs weights >= 0, found {weight:g}")
        for i, weight in enumerate(weights)
        if weight < 0
    ]
    if faults:
        raise RecipeError(faults, f"change the weight, or {instead}")
    require_nonzero_sum(name, weights, instead)
