"""Select by variance over the models, weigh by energy, elect signs: the steps of SCE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mergekit_audio.methods._consensus import elected_sign
from mergekit_audio.methods._selection import (
    EVERYTHING,
    NOTHING,
    Cut,
    flat_task_vectors,
    largest_of_tensor,
)
from mergekit_audio.methods.base import Array, Slices, TensorGroup

_SMALLEST_ENERGY = 1e-6
_SMALLEST_SHARE = 1e-6


def variance_cut(slices: Slices, share: float) -> Cut:
    """Return the cut of the floor(share · m) largest variances, m elements not being all equal."""
    if share >= 1 or share <= 0:
        return EVERYTHING if share >= 1 else NOTHING
    number = int(sum(_number_different(group) for group in slices) * share)
    found = largest_of_tensor(slices, _variances, lambda group: [[number]])
    return found[0][0] if found else NOTHING


def coefficients(slices: Slices, cut: Cut) -> list[float]:
    """Return ηᵢ = Eᵢ / Σⱼ Eⱼ, Eᵢ the mean square of a model's selected task vector.

    All are 1 / K where the sum is below 1e-6.
    """
    rows = []
    for group in slices:
        selected = _selected(group, cut)
        rows.append([float(group.xp.sum(delta * delta)) for delta in selected])
    size = max(1, math.prod(slices.shape))
    energies = [math.fsum(column) / size for column in zip(*rows, strict=True)]
    total = math.fsum(energies)
    if total < _SMALLEST_ENERGY:
        return [1.0 / len(energies) for _ in energies]
    return [energy / total for energy in energies]


def fused(group: TensorGroup, cut: Cut, shares: Sequence[float]) -> Array:
    """Return Σᵢ ηᵢ mᵢ dᵢ / max(Σᵢ ηᵢ mᵢ, 1e-6), flat; mᵢ = [sign(dᵢ) = sign(Σⱼ dⱼ)]."""
    xp = group.xp
    selected = _selected(group, cut)
    sign = elected_sign(xp, selected)
    total = xp.zeros_like(sign)
    divisor = xp.zeros_like(sign)
    for delta, share in zip(selected, shares, strict=True):
        weights = xp.astype(delta * sign > 0, xp.float64) * share
        divisor += weights
        weights *= delta
        total += weights
    total /= xp.clip(divisor, _SMALLEST_SHARE, None)
    return total


def _number_different(group: TensorGroup) -> int:
    first, *others = _weighted(group)
    different = group.xp.zeros_like(first, dtype=group.xp.bool)
    for delta in others:
        different |= delta != first
    return int(group.xp.count_nonzero(different))


def _weighted(group: TensorGroup) -> list[Array]:
    deltas = list(flat_task_vectors(group))
    for i, weight in enumerate(group.weights):
        if weight != 1.0:
            deltas[i] *= weight
    return deltas


def _selected(group: TensorGroup, cut: Cut) -> list[Array]:
    deltas = _weighted(group)
    if cut != EVERYTHING:
        mask = cut.contains(_variance(group, deltas), group.start)
        for i in range(len(deltas)):
            deltas[i] *= mask
    return deltas


def _variances(group: TensorGroup) -> Iterator[Array]:
    yield _variance(group, _weighted(group))


def _variance(group: TensorGroup, deltas: Sequence[Array]) -> Array:
    """Return (1/K) Σᵢ (dᵢ − mean(d))², rounded to float32, flat."""
    count = len(deltas)
    mean = sum(deltas[1:], start=deltas[0]) / count
    total = 0.0
    for delta in deltas:
        difference = delta - mean
        difference *= difference
        total = difference + total
    return group.xp.astype(total / count, group.xp.float32)
