"""Residual k-means: each codebook clusters what the codebooks before it left over."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from mergekit_audio.errors import InputError

FloatArray = npt.NDArray[np.float64]


def residual_kmeans(
    points: FloatArray,
    codebooks: int,
    size: int,
    *,
    iterations: int,
    seed: int,
    after_codebook: Callable[[int], None],
) -> FloatArray:
    """Return codebooks ``[K, C, M]`` such that x ≈ Σ_k codebook_k[z_k], chosen greedily.

    r_0 = x; z_k = argmin_c ‖r_k - codebook_k[c]‖; r_{k+1} = r_k - codebook_k[z_k]. Each codebook is
    scikit-learn's k-means of the residuals (k-means++, then Lloyd), on one thread, since how a sum
    is shared between threads changes its last bits.

    Parameters
    ----------
    points
        x, shape ``[N, M]``.
    codebooks, size
        K codebooks of C codes.
    iterations
        At most so many of Lloyd's iterations a codebook; it stops when no point moves.
    seed
        Seed of the k-means++ draws.
    after_codebook
        Called with the number of codebooks done.

    Raises
    ------
    InputError
        There are fewer different points than codes.
    """
    random = np.random.RandomState(seed % (1 << 32))
    residual = points.copy()
    fitted = np.zeros((codebooks, size, points.shape[1]))
    with threadpool_limits(limits=1):
        for level in range(codebooks):
            clusters = _clusters(residual, size, iterations, random)
            # What is stored is float32, so the next codebook sees what float32 leaves over.
            fitted[level] = clusters.cluster_centers_.astype(np.float32)
            residual -= fitted[level][clusters.labels_]
            after_codebook(level + 1)
    return fitted


def nearest(points: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Return argmin_c ‖x - book[c]‖ ``[…]`` of points ``[…, M]`` among codes ``[C, M]``."""
    return (book.square().sum(dim=1) - 2.0 * (points @ book.T)).argmin(dim=-1)


def _clusters(points: FloatArray, size: int, iterations: int, random: np.random.RandomState) -> Any:
    clusters = KMeans(
        size, n_init=1, max_iter=iterations, tol=0.0, algorithm="lloyd", random_state=random
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return clusters.fit(points)
        except ConvergenceWarning as warning:
            different = len(np.unique(points, axis=0))
            raise InputError(
                f"the recordings hold only {different} different frames to cluster, "
                f"fewer than the {size} codes of a codebook",
                "give more varied audio, or fewer codes",
            ) from warning
