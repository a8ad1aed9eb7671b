"""Which models change an element: what the RAM methods share."""

from __future__ import annotations

from collections.abc import Iterator

from mergekit_audio.methods.base import Array, Slices, TensorGroup


def active_task_vectors(group: TensorGroup, epsilon: float) -> Iterator[tuple[Array, Array]]:
    """Yield aᵢ τᵢ and aᵢ = [|τᵢ| > ε] of each model, both float64, shape ``[*S]``."""
    xp = group.xp
    for i in range(len(group.weights)):
        tau = group.models[i, ...] - group.base
        active = xp.astype(xp.abs(tau) > epsilon, xp.float64)
        yield tau * active, active


def shared_and_unique(slices: Slices, epsilon: float) -> list[tuple[int, int]]:
    """Return for each model how many elements it changes with others, and alone."""
    totals: list[tuple[int, int]] = []
    for group in slices:
        xp = group.xp
        actives = [active for _, active in active_task_vectors(group, epsilon)]
        counts = sum(actives[1:], start=actives[0])
        alone = xp.astype(counts == 1.0, xp.float64)
        parts = []
        for active in actives:
            unique = int(xp.sum(active * alone))
            parts.append((int(xp.sum(active)) - unique, unique))
        before = totals or [(0, 0)] * len(parts)
        totals = [(a + c, b + d) for (a, b), (c, d) in zip(before, parts, strict=True)]
    return totals
