"""The formulas of the sparse methods in plain NumPy: whole tensors, sorts, loops."""

import numpy as np


def task_vectors(group):
    return [np.asarray(model - group.base) for model in group.models]


def top(tau, count):
    """Keep ``count`` of the largest magnitudes, among equals the first."""
    keys = np.abs(tau.reshape(-1)).astype(np.float32)
    order = np.argsort(-keys, kind="stable")
    mask = np.zeros(keys.size)
    mask[order[:count]] = 1
    return mask.reshape(tau.shape) * tau


def l1_factor(tau, sparse):
    before, after = np.abs(tau).sum(), np.abs(sparse).sum()
    return 1.0 if min(before, after) < 1e-7 else before / after


def total(deltas, weights, normalize):
    result = sum(w * d for w, d in zip(weights, deltas, strict=True))
    divisor = sum(weights)
    return result / divisor if normalize and abs(divisor) >= 1e-8 else result


def elected(deltas, weights, normalize):
    """Return the disjoint mean (or sum) of TIES, element by element."""
    flat = [np.asarray(d).reshape(-1) for d in deltas]
    result = np.zeros(flat[0].size)
    for j in range(result.size):
        values = [w * d[j] for w, d in zip(weights, flat, strict=True)]
        sign = 1 if sum(values) >= 0 else -1
        agreeing = [i for i, value in enumerate(values) if value * sign > 0]
        divisor = sum(weights[i] for i in agreeing) if normalize else 1.0
        result[j] = sum(values[i] for i in agreeing) / (divisor or 1.0)
    return result.reshape(np.shape(deltas[0]))
