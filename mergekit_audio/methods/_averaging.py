"""The weighted mean of the models, and the weights that such a mean can have."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods.base import Array
from mergekit_audio.methods.ops import weighted_task_sum


def mean_delta(base: Array, models: Array, weights: Sequence[float]) -> Array:
    """Return Σᵢ wᵢ (θᵢ − θ_base) / Σᵢ wᵢ.

    Parameters
    ----------
    base
        θ_base, float64, shape ``[*S]``.
    models
        θ₁ … θ_K, float64, shape ``[K, *S]``.
    weights
        w₁ … w_K.
    """
    return weighted_task_sum(base, models, weights) * (1.0 / math.fsum(weights))


def require_shares(method: str, weights: Sequence[float]) -> None:
    """Raise ``RecipeError`` unless no weight is negative and one is above zero."""
    if any(weight < 0 for weight in weights):
        found = ", ".join(f"{weight:g}" for weight in weights)
        problem = f"{method} takes weights from 0 up, as shares of a mean; found {found}"
        hint = "use `method: {name: task_arithmetic}` to take a model away (negation)"
    elif not any(weights):
        problem, hint = f"{method} divides by the weights, and all are 0", "give a model a weight"
    else:
        return
    raise RecipeError([Fault("", 0, 0, "models", problem)], hint)
