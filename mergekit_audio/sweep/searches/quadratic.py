"""Search λ by a quadratic surrogate of the scores, as MAP does (arXiv 2406.07529)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.sweep.dense.interpolation import Box, basis_size, chebyshev_basis, leja_nodes
from mergekit_audio.sweep.searches.trials import Point, Score

CANDIDATES = 4096
"""Points of a Sobol sequence among which the surrogate's best is looked for."""
RIDGE = 1e-6
"""Penalty of the surrogate's squared coefficients, for each point."""


def quadratic(evaluate: Score, box: Box, start: Sequence[Point], seed: int) -> None:
    """Fit a polynomial of total degree 2 to the scores, evaluate its best point, fit again.

    The start's points and those that determine a quadratic with them come first. Has no end.

    Parameters
    ----------
    evaluate
        Scores a point; ends the search by an exception.
    box
        Where to look.
    start
        Points to begin with.
    seed
        Of the candidates.
    """
    from scipy.stats import qmc

    sobol = qmc.Sobol(len(box.low), seed=seed).random(CANDIDATES)
    candidates = qmc.scale(sobol, box.low, box.high)
    design = [tuple(map(float, node)) for node in leja_nodes(box, 2, first=start)]
    values: dict[Point, float] = {}
    for point in dict.fromkeys([*start, *design]):
        values[point] = evaluate(point)[0]
    while True:
        point = surrogate_best(candidates, values, box)
        values[point] = evaluate(point)[0]


def surrogate_best(candidates: NDArray[np.float64], values: dict[Point, float], box: Box) -> Point:
    """Return the candidate that is not known and where the surrogate is highest.

    ``c = argmin Σ_i (y_i - ȳ - b(λ_i) c)² + n r ‖c‖²`` with b the products of Chebyshev polynomials
    of total degree 2 and r = 1e-6; where every candidate is known, the last known point.

    Parameters
    ----------
    candidates
        Shape ``[m, K]``.
    values
        The score of each known point.
    box
        Scales the polynomials.
    """
    basis = chebyshev_basis(np.array(list(values)), box, 2)
    target = np.array(list(values.values()))
    penalty = RIDGE * len(values) * np.eye(basis_size(len(box.low), 2))
    factors = np.linalg.solve(basis.T @ basis + penalty, basis.T @ (target - target.mean()))
    for place in np.argsort(-(chebyshev_basis(candidates, box, 2) @ factors), kind="stable"):
        point = tuple(float(value) for value in candidates[place])
        if point not in values:
            return point
    return next(reversed(values))
