"""Masks over task vectors: where a model agrees with the merge, which entries are the largest."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods.base import Array
from mergekit_audio.methods.ops import weighted_sum
from mergekit_audio.registry import did_you_mean


def require_task(method: str, task: str, labels: Sequence[str]) -> None:
    """Raise ``RecipeError`` when ``task`` is not the name of a model."""
    if task in labels:
        return
    problem = f"{method} makes the model of {task!r}, but the models are {', '.join(labels)}"
    raise RecipeError(
        [Fault("", 0, 0, "method.task", problem)],
        did_you_mean(task, labels) or "name one of the models, as its `name` in the recipe does",
    )


def keep_largest(values: Array, density: float, xp: ModuleType) -> Array:
    """Return ``values`` with all but the ⌊density · size⌋ (at least 1) largest magnitudes 0.

    Magnitudes that equal the smallest one kept are kept too.
    """
    from mergekit_audio.methods._arrays import kth_largest

    magnitudes = xp.abs(values)
    size = 1
    for length in values.shape:
        size *= length
    if size == 0:
        return values
    threshold = kth_largest(magnitudes, max(1, int(density * size)))
    return xp.where(magnitudes >= threshold, values, 0.0)


def disjoint_mean(vectors: Array, xp: ModuleType) -> Array:
    """Return at each place the mean of the entries whose sign is that of the sum; 0 where none is.

    A sum of zero counts as positive. ``vectors`` has shape ``[K, *S]``, the result ``[*S]``.
    """
    total = weighted_sum(vectors, [1.0] * vectors.shape[0])
    positive = total >= 0
    agreeing, count = xp.zeros_like(total), xp.zeros_like(total)
    for i in range(vectors.shape[0]):
        own = vectors[i, ...]
        agrees = xp.where(positive, own > 0, own < 0)
        agreeing = agreeing + xp.where(agrees, own, 0.0)
        count = count + xp.astype(agrees, xp.float64)
    return agreeing / xp.where(count > 0, count, 1.0)
