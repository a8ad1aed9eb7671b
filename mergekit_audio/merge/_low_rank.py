"""The best approximation of a matrix by two thin factors, and what it leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

# Directions this much weaker than the strongest are rounding, not signal.
_SMALLEST_SINGULAR_RATIO = 1e-10


@dataclass(frozen=True)
class LowRank:
    """τ ≈ B·A of one matrix.

    Parameters
    ----------
    a, b
        The factors, float32, shapes ``[r, in]`` and ``[out, r]``.
    norm, error
        ‖τ‖ and ‖τ − B·A‖ (Frobenius), with the factors as they are stored.
    """

    a: np.ndarray
    b: np.ndarray
    norm: float
    error: float

    @property
    def rank(self) -> int:
        """Columns of B."""
        return int(self.b.shape[1])


def factorise(
    delta: np.ndarray, *, rank: int | None = None, energy: float | None = None
) -> LowRank:
    """Return the truncated singular value decomposition B = U√Σ, A = √ΣVᵀ of a matrix.

    The singular vectors of the shorter side are the eigenvectors of its Gram matrix; the other
    factor is τ projected on them, so that B·A is a projection of τ to float64's precision. The
    entry of largest magnitude in each row of A is positive.

    Parameters
    ----------
    delta
        τ, float64, shape ``[out, in]``.
    rank
        The number of directions, cut to the shorter side.
    energy
        Instead: as many directions as it takes for this share of ‖τ‖², in (0, 1].

    References
    ----------
    Eckart and Young, 1936, The approximation of one matrix by another of lower rank.
    """
    wide = delta.shape[0] < delta.shape[1]
    tall = delta.T if wide else delta
    right = _strongest_directions(tall.T @ tall, rank, energy)
    count = right.shape[1]
    projected = tall @ right
    singular = np.sqrt(np.sum(np.square(projected), axis=0))
    signal = singular > _SMALLEST_SINGULAR_RATIO * singular.max(initial=0.0)
    roots = np.sqrt(np.where(signal, singular, 1.0))
    left = np.where(signal, projected / roots, 0.0)
    right = np.where(signal, right * roots, 0.0)
    a, b = (left.T, right) if wide else (right.T, left)
    places = np.argmax(np.abs(a), axis=1)
    signs = np.where(a[np.arange(count), places] < 0, -1.0, 1.0)
    stored_a = np.ascontiguousarray(a * signs[:, None], dtype=np.float32)
    stored_b = np.ascontiguousarray(b * signs, dtype=np.float32)
    remainder = delta - stored_b.astype(np.float64) @ stored_a.astype(np.float64)
    return LowRank(stored_a, stored_b, frobenius(delta), frobenius(remainder))


def frobenius(values: np.ndarray) -> float:
    """Return the square root of the sum of squares."""
    return math.sqrt(float(np.sum(np.square(values))))


def _strongest_directions(gram: np.ndarray, rank: int | None, energy: float | None) -> np.ndarray:
    """Return eigenvectors of the largest eigenvalues as columns, the largest first."""
    size = len(gram)
    if energy is None:
        assert rank is not None
        wanted = None if rank >= size else [size - rank, size - 1]
        vectors: np.ndarray = eigh(gram, subset_by_index=wanted)[1]
        return vectors[:, ::-1]
    values, vectors = eigh(gram)
    kept = np.cumsum(np.maximum(values[::-1], 0.0))
    count = min(int(np.searchsorted(kept, energy * kept[-1])) + 1, size)
    return vectors[:, ::-1][:, :count]
