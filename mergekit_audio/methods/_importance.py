"""Arcee Fusion's importance of elements and its threshold, slice by slice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import Array, Slices, TensorGroup

_ADDED = 1e-8
_SAMPLE_SIZE = 1_000_000


@dataclass(frozen=True)
class Threshold:
    """What of a whole tensor decides over its elements.

    Parameters
    ----------
    value
        median(I) + 1.5 (Q₃ − Q₁)(I).
    vector_divergence
        KL of the one row that a vector is; None: each row of the slice has its own.
    """

    value: float
    vector_divergence: float | None


def find_threshold(slices: Slices) -> Threshold:
    """Return median(I) + 1.5 (Q₃ − Q₁)(I) of a tensor, from at most 10⁶ evenly spaced elements."""
    divergence = _vector_divergence(slices) if len(slices.shape) < 2 else None
    size = math.prod(slices.shape)
    count = min(size, _SAMPLE_SIZE)
    if count == 0:
        return Threshold(0.0, divergence)
    places = np.arange(count, dtype=np.int64) * size // count
    parts = []
    for group in slices:
        values = importance(group, divergence).reshape(-1)
        first, last = np.searchsorted(places, [group.start, group.start + values.shape[0]])
        chosen = places[first:last] - group.start
        parts.append(to_numpy(values)[chosen])
    sample = np.concatenate(parts)
    ranks = [int(quarter * (count - 1) / 4) for quarter in (1, 2, 3)]
    q1, median, q3 = (float(np.partition(sample, rank)[rank]) for rank in ranks)
    return Threshold(median + 1.5 * (q3 - q1), divergence)


def importance(group: TensorGroup, vector_divergence: float | None) -> Array:
    """Return I = |θ₁ − θ_base| · KL of its row, float64, shape ``[*S]``."""
    model = group.models[0, ...]
    distance = group.xp.abs(model - group.base)
    if vector_divergence is not None:
        return distance * vector_divergence
    logs = [_log_sum_exp(x, group) for x in (model, group.base)]
    return distance * _divergence(group, logs[0], logs[1])


def _log_sum_exp(x: Array, group: TensorGroup) -> Array:
    xp = group.xp
    largest = xp.max(x, axis=-1, keepdims=True)
    return xp.log(xp.sum(xp.exp(x - largest), axis=-1, keepdims=True)) + largest


def _divergence(group: TensorGroup, log_of_model: Array, log_of_base: Array) -> Array:
    """Return Σ (p + 1e-8) log((p + 1e-8) / (q + 1e-8)) along the last axis, which is kept."""
    xp = group.xp
    p = xp.exp(group.models[0, ...] - log_of_model) + _ADDED
    q = xp.exp(group.base - log_of_base) + _ADDED
    return xp.sum(p * xp.log(p / q), axis=-1, keepdims=True)


def _vector_divergence(slices: Slices) -> float:
    """Return KL of a tensor that is one row: the sums first, then the divergence."""
    if not slices.shape:
        return 0.0
    logs = [-math.inf, -math.inf]
    for group in slices:
        for i, x in enumerate((group.models[0, ...], group.base)):
            logs[i] = float(np.logaddexp(logs[i], float(_log_sum_exp(x, group)[0])))
    return sum(float(_divergence(group, logs[0], logs[1])[0]) for group in slices)
