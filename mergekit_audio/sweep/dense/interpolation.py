"""Interpolate what depends smoothly on λ from a few λ where it was computed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOST_CANDIDATES = 20_000
_SMALLEST_PIVOT = 1e-8


@dataclass(frozen=True)
class Box:
    """The λ between which is interpolated.

    Parameters
    ----------
    low, high
        The ends in each of K directions.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError("low and high need the same number of directions, at least one")
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low must be below high, found {self.low} and {self.high}")

    def contains(self, point: Sequence[float]) -> bool:
        """Whether a point is inside or on the border."""
        slack = [1e-12 * (high - low) for low, high in zip(self.low, self.high, strict=True)]
        return all(
            low - more <= value <= high + more
            for value, low, high, more in zip(point, self.low, self.high, slack, strict=True)
        )


@dataclass(frozen=True)
class Interpolant:
    """A polynomial of a total degree through (or, with more nodes, near) values at nodes.

    ``f(λ) ≈ Σ_j w_j(λ) f(λ_j)`` with ``w(λ) = b(λ) B⁺``, b the products of Chebyshev polynomials of
    total degree up to ``degree`` in the directions of the box, and B those at the nodes. The
    weights do not depend on f, so that any array is interpolated by a sum over nodes.

    Parameters
    ----------
    box
        Where the nodes are.
    nodes
        Shape ``[n, K]``, n at least the number of basis functions.
    degree
        The total degree.

    Raises
    ------
    ValueError
        There are too few nodes, or they do not determine the polynomial.
    """

    box: Box
    nodes: Array
    degree: int

    def __post_init__(self) -> None:
        needed = basis_size(len(self.box.low), self.degree)
        if len(self.nodes) < needed:
            raise ValueError(
                f"degree {self.degree} needs {needed} nodes, there are {len(self.nodes)}"
            )
        if np.linalg.matrix_rank(self._at_nodes) < needed:
            raise ValueError(f"the nodes do not determine a polynomial of degree {self.degree}")

    def weights(self, points: Array) -> Array:
        """Return ``w_j`` of each point, shape ``[m, n]``; rows sum to 1."""
        weights: Array = chebyshev_basis(points, self.box, self.degree) @ self._inverse
        return weights

    def lebesgue(self, points: Array) -> float:
        """Return the largest ``Σ_j |w_j|``: by how much errors at nodes may grow."""
        return float(np.abs(self.weights(points)).sum(axis=1).max())

    @cached_property
    def _at_nodes(self) -> Array:
        return chebyshev_basis(self.nodes, self.box, self.degree)

    @cached_property
    def _inverse(self) -> Array:
        inverse: Array = np.asarray(np.linalg.pinv(self._at_nodes), dtype=np.float64)
        return inverse


def basis_size(directions: int, degree: int) -> int:
    """Return how many polynomials of a total degree there are: ``(K + d)! / (K! d!)``."""
    return len(_exponents(directions, degree))


def chebyshev_basis(points: Array, box: Box, degree: int) -> Array:
    """Return the products of Chebyshev polynomials at points, by rising total degree.

    Parameters
    ----------
    points
        Shape ``[m, K]``.

    Returns
    -------
    numpy.ndarray
        Shape ``[m, basis_size(K, degree)]``.
    """
    low, high = np.array(box.low), np.array(box.high)
    scaled = 2 * (np.asarray(points, dtype=np.float64) - low) / (high - low) - 1
    powers = np.ones((degree + 1, *scaled.shape))
    if degree > 0:
        powers[1] = scaled
    for order in range(2, degree + 1):
        powers[order] = 2 * scaled * powers[order - 1] - powers[order - 2]
    columns = [
        np.prod([powers[order, :, k] for k, order in enumerate(orders)], axis=0)
        for orders in _exponents(len(box.low), degree)
    ]
    return np.stack(columns, axis=1)


def leja_nodes(box: Box, degree: int, first: Sequence[Sequence[float]] = ()) -> Array:
    """Return nodes for every total degree up to ``degree``, nested: each degree's come first.

    Discrete Leja points: of a grid of Chebyshev-Lobatto points each node is the one with the
    largest pivot when the basis, by rising degree, is eliminated column by column (Bos, De Marchi,
    Sommariva and Vianello, SIAM J. Numer. Anal. 48, 2010).

    Parameters
    ----------
    first
        Points to prefer, such as the base and weight averaging: each is taken as soon as it has a
        pivot worth having, in their order; those outside the box are left out.

    Returns
    -------
    numpy.ndarray
        Shape ``[basis_size(K, degree), K]``.
    """
    preferred = [tuple(map(float, point)) for point in first if box.contains(point)]
    candidates = np.array([*preferred, *_grid(box, degree)], dtype=np.float64)
    left = chebyshev_basis(candidates, box, degree)
    taken: list[int] = []
    for column in range(left.shape[1]):
        pivots = np.abs(left[:, column])
        pivots[taken] = -1.0
        chosen = int(np.argmax(pivots))
        largest = pivots[chosen]
        for place in range(len(preferred)):
            if pivots[place] > max(0.1 * largest, _SMALLEST_PIVOT):
                chosen = place
                break
        taken.append(chosen)
        row = left[chosen, column:] / left[chosen, column]
        left[:, column:] -= np.outer(left[:, column], row)
    return candidates[taken]


def relative_errors(found: Array, direct: Array, origin: Array) -> tuple[float, float]:
    """Return the mean and the largest error of rows, relative to their mean shift from the origin.

    ``‖f̂_i - f_i‖ / mean_j ‖f_j - f_j(0)‖`` over the rows i (chunks, and layers where there are).

    Parameters
    ----------
    found, direct, origin
        Interpolated values, computed ones, and those at λ = 0, shape ``[..., D]``.
    """
    error = np.linalg.norm(np.asarray(found, np.float64) - direct, axis=-1)
    shift = np.linalg.norm(np.asarray(direct, np.float64) - origin, axis=-1).mean()
    if shift == 0:
        return (0.0, 0.0) if not error.any() else (float("inf"), float("inf"))
    return float(error.mean() / shift), float(error.max() / shift)


def _exponents(directions: int, degree: int) -> list[tuple[int, ...]]:
    every = itertools.product(range(degree + 1), repeat=directions)
    return sorted((orders for orders in every if sum(orders) <= degree), key=lambda o: (sum(o), o))


def _grid(box: Box, degree: int) -> list[tuple[float, ...]]:
    """Return Chebyshev-Lobatto points in every direction, as fine as their number allows."""
    directions = len(box.low)
    count = max(degree + 1, min(8 * degree + 1, int(_MOST_CANDIDATES ** (1 / directions))), 2)
    ends = zip(box.low, box.high, strict=True)
    axes = [
        [
            low + (high - low) * (1 - float(np.cos(np.pi * i / (count - 1)))) / 2
            for i in range(count)
        ]
        for low, high in ends
    ]
    return list(itertools.product(*axes))
