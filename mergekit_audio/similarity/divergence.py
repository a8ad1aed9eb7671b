"""How far apart token distributions are: Jensen-Shannon divergence and cosine distance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def distributions(counts: Array) -> Array:
    """Return ``p = n / Σ n`` along the last axis.

    Parameters
    ----------
    counts
        Shape ``[..., C]``.

    Raises
    ------
    ValueError
        Some distribution has no tokens.
    """
    totals = counts.sum(axis=-1, keepdims=True, dtype=np.float64)
    if not (totals > 0).all():
        raise ValueError("a distribution without tokens")
    shares: Array = counts / totals
    return shares


def jensen_shannon(p: Array, q: Array) -> Array:
    """Return the Jensen-Shannon divergence in bits, from 0 (equal) to 1 (nothing in common).

    ``JSD(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2`` with ``H(p) = -Σ p log₂ p`` (Lin, IEEE Trans.
    Inf. Theory 37, 1991, eq. 4.1).

    Parameters
    ----------
    p, q
        Distributions, shape ``[..., C]``.

    Returns
    -------
    numpy.ndarray
        Shape ``[...]``.
    """
    middle = entropy((p + q) / 2)
    divergence: Array = np.clip(middle - (entropy(p) + entropy(q)) / 2, 0.0, 1.0)
    return divergence


def entropy(p: Array) -> Array:
    """Return ``-Σ p log₂ p`` along the last axis, in bits."""
    logs = np.log2(p, out=np.zeros_like(p), where=p > 0)
    bits: Array = -(p * logs).sum(axis=-1)
    return bits


def cosine_distance(p: Array, q: Array) -> Array:
    """Return ``1 - p·q / (‖p‖ ‖q‖)`` along the last axis."""
    lengths = np.linalg.norm(p, axis=-1) * np.linalg.norm(q, axis=-1)
    distance: Array = np.clip(1.0 - (p * q).sum(axis=-1) / lengths, 0.0, 1.0)
    return distance


def softmax_weights(divergences: Array, temperature: float) -> Array:
    """Return ``w_i = exp(-d_i / T) / Σ_j exp(-d_j / T)``: the nearer, the more.

    Parameters
    ----------
    divergences
        Of a target from each culture, shape ``[N]``.
    temperature
        T; small ones leave the nearest culture alone, large ones weigh all alike.
    """
    scaled = -(divergences - divergences.min()) / temperature
    weights = np.exp(scaled)
    shares: Array = weights / weights.sum()
    return shares
