"""Select by variance over the models, weigh by energy, elect signs: the steps of SCE."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mergekit_audio.methods._consensus import agreeing, sums_where
from mergekit_audio.methods._selection import (
    EVERYTHING,
    NOTHING,
    Cut,
    cut_of_held,
    flat_task_vectors,
    largest_of_tensor,
)
from mergekit_audio.methods.base import Array, Slices, TensorGroup

_SMALLEST_ENERGY = 1e-6
_SMALLEST_SHARE = 1e-6
_HELD_VARIANCES = 2**23  # of a tensor: 32 MiB; those of a larger one are computed again


class Chosen(NamedTuple):
    """The elements that are chosen, by a cut of the variances; ``mask``: of all, where held."""

    cut: Cut
    mask: Array | None = None


def choose(slices: Slices, share: float) -> Chosen:
    """Return the floor(share · m) largest variances, m elements not being all equal."""
    if share >= 1 or share <= 0:
        return Chosen(EVERYTHING if share >= 1 else NOTHING)
    different = 0
    held: list[Array] = []
    holds = math.prod(slices.shape) <= _HELD_VARIANCES
    for group in slices:
        deltas = _weighted(group)
        different += _number_different(group, deltas)
        if holds:
            held.append(_variance(group, deltas))
        xp = group.xp
    number = int(different * share)
    if not holds:
        return Chosen(largest_of_tensor(slices, _variances, lambda group: [[number]])[0][0])
    if not held or number == 0:
        return Chosen(NOTHING)
    variances = held[0] if len(held) == 1 else xp.concat(held)
    cut = cut_of_held(xp, variances, number)
    return Chosen(cut, cut.contains(variances, 0))


def coefficients(slices: Slices, chosen: Chosen) -> list[float]:
    """Return ηᵢ = Eᵢ / Σⱼ Eⱼ, Eᵢ the mean square of a model's selected task vector.

    All are 1 / K where the sum is below 1e-6.
    """
    rows = []
    for group in slices:
        places = _places(group, chosen)
        row = []
        for delta in _weighted(group, places):
            delta *= delta
            row.append(float(group.xp.sum(_spread(group, delta, places))))
        rows.append(row)
    size = max(1, math.prod(slices.shape))
    energies = [math.fsum(column) / size for column in zip(*rows, strict=True)]
    total = math.fsum(energies)
    if total < _SMALLEST_ENERGY:
        return [1.0 / len(energies) for _ in energies]
    return [energy / total for energy in energies]


def fused(group: TensorGroup, chosen: Chosen, shares: Sequence[float]) -> Array:
    """Return Σᵢ ηᵢ mᵢ dᵢ / max(Σᵢ ηᵢ mᵢ, 1e-6), flat; mᵢ = [sign(dᵢ) = sign(Σⱼ dⱼ)]."""
    xp, places = group.xp, _places(group, chosen)
    deltas = _weighted(group, places)
    agreements = agreeing(xp, deltas)
    total = xp.zeros_like(deltas[0])
    for delta, agrees, share in zip(deltas, agreements, shares, strict=True):
        weights = xp.astype(agrees, xp.float64)
        weights *= share
        weights *= delta
        total += weights
    total /= sums_where(xp, agreements, shares, lambda sums: sums.clip(_SMALLEST_SHARE))
    return _spread(group, total, places)


def _number_different(group: TensorGroup, deltas: Sequence[Array]) -> int:
    first, *others = deltas
    different = group.xp.zeros_like(first, dtype=group.xp.bool)
    for delta in others:
        different |= delta != first
    return int(group.xp.count_nonzero(different))


def _weighted(group: TensorGroup, places: Array | None = None) -> list[Array]:
    """Return dᵢ = wᵢ τᵢ of each model, flat, new arrays; only at ``places`` where given."""
    if places is None:
        deltas = list(flat_task_vectors(group))
    else:
        xp, count = group.xp, len(group.weights)
        base = xp.take(group.base.reshape(-1), places, axis=0)
        models = xp.take(group.models.reshape(count, -1), places, axis=1)
        deltas = [models[i, ...] - base for i in range(count)]
    for i, weight in enumerate(group.weights):
        if weight != 1.0:
            deltas[i] *= weight
    return deltas


def _places(group: TensorGroup, chosen: Chosen) -> Array | None:
    """Return where the chosen elements of a slice are; None: everywhere."""
    if chosen.cut == EVERYTHING:
        return None
    if chosen.cut == NOTHING:
        mask = group.xp.zeros_like(group.base.reshape(-1), dtype=group.xp.bool)
    elif chosen.mask is None:
        mask = chosen.cut.contains(next(_variances(group)), group.start)
    else:
        mask = chosen.mask[group.start : group.start + math.prod(group.base.shape)]
    return group.xp.nonzero(mask)[0]


def _spread(group: TensorGroup, values: Array, places: Array | None) -> Array:
    """Return values at their places in the flat slice, 0 elsewhere."""
    if places is None:
        return values
    whole = group.xp.zeros_like(group.base.reshape(-1))
    whole[places] = values
    return whole


def _variances(group: TensorGroup) -> Iterator[Array]:
    yield _variance(group, _weighted(group))


def _variance(group: TensorGroup, deltas: Sequence[Array]) -> Array:
    """Return (1/K) Σᵢ (dᵢ − mean(d))², rounded to float32, flat; ``deltas`` are overwritten."""
    count = len(deltas)
    mean = deltas[0] + deltas[1] if count > 1 else deltas[0] * 1.0
    for delta in deltas[2:]:
        mean += delta
    mean /= count
    total: Array = None
    for delta in deltas:
        delta -= mean
        delta *= delta
        if total is None:
            total = delta
        else:
            total += delta
    total /= count
    return group.xp.astype(total, group.xp.float32)
