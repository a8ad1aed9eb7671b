"""The task vectors that a method's formula starts from."""

from __future__ import annotations

from mergekit_audio.methods.base import Array, TensorGroup


def weighted_task_vectors(group: TensorGroup) -> Array:
    """Return tᵢ = wᵢ τᵢ, float64, shape ``[K, *S]``, a new array."""
    vectors = group.task_vectors
    for i, weight in enumerate(group.weights):
        if weight != 1.0:
            vectors[i, ...] *= weight
    return vectors
