"""Residual k-means: each codebook clusters what the codebooks before it left over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from mergekit_audio.errors import InputError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_SEEDING_POINTS_PER_CODE = 64
_DISTANCES_AT_ONCE = 1 << 18


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
    Lloyd's algorithm on the residuals, seeded by k-means++ on a part of them.

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
    generator = np.random.default_rng(seed)
    residual = points.copy()
    fitted = np.zeros((codebooks, size, points.shape[1]))
    for level in range(codebooks):
        centres = _lloyd(residual, _seed_centres(residual, size, generator), iterations)
        # What is stored is float32, so the next codebook sees what float32 leaves over.
        fitted[level] = centres.astype(np.float32)
        residual -= fitted[level][nearest(residual, fitted[level])]
        after_codebook(level + 1)
    return fitted


def nearest(points: FloatArray, centres: FloatArray) -> IntArray:
    """Return for each point x the nearest centre c, argmin ‖c‖² - 2 x · c (the first of equals)."""
    rows = max(1, _DISTANCES_AT_ONCE // len(centres))
    codes = np.empty(len(points), dtype=np.int64)
    offsets = np.einsum("cm,cm->c", centres, centres)
    doubled = -2.0 * centres.T
    for start in range(0, len(points), rows):
        distances = points[start : start + rows] @ doubled
        distances += offsets
        codes[start : start + rows] = distances.argmin(axis=1)
    return codes


def _lloyd(points: FloatArray, centres: FloatArray, iterations: int) -> FloatArray:
    columns = np.ascontiguousarray(points.T)
    codes = nearest(points, centres)
    for _ in range(iterations):
        centres = _means(points, columns, codes, centres)
        moved = nearest(points, centres)
        if np.array_equal(moved, codes):
            break
        codes = moved
    return centres


def _means(
    points: FloatArray, columns: FloatArray, codes: IntArray, centres: FloatArray
) -> FloatArray:
    """Return each cluster's mean; an empty one moves to one of the worst represented points."""
    counts = np.bincount(codes, minlength=len(centres))
    # Sums in the order of points: the same bits for any number of threads.
    sums = np.stack([np.bincount(codes, column, len(centres)) for column in columns], axis=1)
    means: FloatArray = sums / np.maximum(counts, 1)[:, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        distances = np.square(points - centres[codes]).sum(axis=1)
        means[empty] = points[np.argsort(-distances, kind="stable")[: len(empty)]]
    return means


def _seed_centres(points: FloatArray, size: int, generator: np.random.Generator) -> FloatArray:
    """Return k-means++ centres: each next one is a point drawn by its squared distance."""
    if len(points) > size * _SEEDING_POINTS_PER_CODE:
        chosen = generator.choice(len(points), size * _SEEDING_POINTS_PER_CODE, replace=False)
        points = points[np.sort(chosen)]
    centres = np.empty((size, points.shape[1]))
    first = int(generator.integers(len(points)))
    distances = np.full(len(points), np.inf)
    for row in range(size):
        index = first if row == 0 else _draw(distances, generator)
        centres[row] = points[index]
        difference = points - centres[row]
        distances = np.minimum(distances, np.einsum("nm,nm->n", difference, difference))
        if row + 1 < size and not distances.any():
            raise InputError(
                f"the recordings hold only {row + 1} different frames to cluster, "
                f"fewer than the {size} codes of a codebook",
                "give more varied audio, or a smaller codebook_size",
            )
    return centres


def _draw(weights: FloatArray, generator: np.random.Generator) -> int:
    cumulative = np.cumsum(weights)
    drawn = generator.random() * cumulative[-1]
    return min(int(np.searchsorted(cumulative, drawn, side="right")), len(weights) - 1)
