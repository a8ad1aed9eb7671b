"""Model Stock's interpolation ratios from the inner products of task vectors."""

from __future__ import annotations

from typing import Any

from mergekit_audio.methods._arrays import namespace
from mergekit_audio.methods.base import Array, TensorGroup

_SMALLEST_NORM_PRODUCT = 1e-6
_SINGULAR = 1e-6


def interpolation_ratio(products: Any, clamped: bool) -> Array:
    """Return t = K c / (1 + (K − 1) c) with the mean cosine c of all pairs; 0 where singular.

    Parameters
    ----------
    products
        ⟨τᵢ, τⱼ⟩, float64, shape ``[K, K, *V]`` (upper triangle and diagonal are read).
    clamped
        Divide by at least 1e-6, as mergekit does.
    """
    xp = namespace(products)
    count = products.shape[0]
    norms = [xp.sqrt(xp.clip(products[i, i, ...], 0.0, None)) for i in range(count)]
    total: Array = None
    for i in range(count):
        for j in range(i + 1, count):
            norm = norms[i] * norms[j]
            if clamped:
                norm = xp.clip(norm, _SMALLEST_NORM_PRODUCT, None)
            norm = xp.where(norm == 0.0, xp.ones_like(norm), norm)
            cosine = xp.clip(products[i, j, ...] / norm, -1.0, 1.0)
            total = cosine if total is None else total + cosine
    mean = total / (count * (count - 1) / 2)
    below = 1.0 + (count - 1) * mean
    singular = xp.abs(below) < _SINGULAR
    ratio = count * mean / xp.where(singular, xp.ones_like(below), below)
    return xp.where(singular, xp.zeros_like(ratio), ratio)


def filter_ratios(group: TensorGroup, last_axis: bool) -> Array:
    """Return t of each filter of a tensor with two axes or more, shaped to broadcast over it.

    Parameters
    ----------
    group
        Whole rows of the tensor.
    last_axis
        mergekit's form: a filter is a vector along the last axis, and cosines are clamped.
    """
    xp = group.xp
    tau = group.task_vectors
    axes = (-1,) if last_axis else tuple(range(1, group.base.ndim))
    count = tau.shape[0]
    products = {
        (i, j): xp.sum(tau[i, ...] * tau[j, ...], axis=axes, keepdims=True)
        for i in range(count)
        for j in range(i, count)
    }
    rows = [xp.stack([products[min(i, j), max(i, j)] for j in range(count)]) for i in range(count)]
    return interpolation_ratio(xp.stack(rows), clamped=last_axis)
