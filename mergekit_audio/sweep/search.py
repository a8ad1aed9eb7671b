"""Search λ of several directions for the best scores, one evaluation after the other."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import DependencyError
from mergekit_audio.sweep.interpolation import Box, basis_size, chebyshev_basis, leja_nodes

Point = tuple[float, ...]
Score = Callable[[Point], Sequence[float]]
"""The values to maximise at a point: one, or two for a Pareto front."""

SAMPLERS = ("tpe", "cmaes", "nsga", "quadratic", "coordinate")
_SURROGATE_CANDIDATES = 4096
_RIDGE = 1e-6


@dataclass(frozen=True)
class Trial:
    """One evaluated point.

    Parameters
    ----------
    number
        Its place, from 0.
    point
        λ in each direction.
    values
        What is maximised.
    """

    number: int
    point: Point
    values: tuple[float, ...]


def search(
    score: Score,
    box: Box,
    *,
    sampler: str,
    trials: int,
    seed: int,
    first: Sequence[Point] = (),
    told: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Evaluate up to so many points of a box, each chosen by what the earlier ones scored.

    ``tpe`` (a tree of Parzen estimators, as OptiMer takes, arXiv 2603.28858), ``cmaes`` and
    ``nsga`` (NSGA-II, for two values) are Optuna's. ``quadratic`` is MAP's surrogate (arXiv
    2406.07529): a polynomial of total degree 2 through the scores, whose best point comes next.
    ``coordinate`` moves along one direction after the other by a golden section.

    Parameters
    ----------
    score
        Evaluates a point; with ``nsga`` it may return two values, else one.
    sampler
        One of ``SAMPLERS``.
    trials
        Evaluations, the first points included; a point that comes again is not evaluated again and
        counts all the same.
    seed
        Of the sampler.
    first
        Points that are evaluated before the sampler's own.
    told
        Called after every evaluation.

    Raises
    ------
    DependencyError
        Optuna (or cmaes) is not installed.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is none of {', '.join(SAMPLERS)}")
    known: dict[Point, tuple[float, ...]] = {}
    found: list[Trial] = []

    def evaluate(point: Point) -> tuple[float, ...]:
        if point not in known:
            known[point] = tuple(float(value) for value in score(point))
        found.append(Trial(len(found), point, known[point]))
        told(found[-1])
        return known[point]

    start = [tuple(map(float, point)) for point in first if box.contains(point)][:trials]
    if sampler == "quadratic":
        _quadratic(evaluate, box, trials, seed, start)
    elif sampler == "coordinate":
        _coordinate(evaluate, box, trials, start)
    else:
        _optuna(evaluate, box, sampler, trials, seed, start)
    return found


def best(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest first value; of equals the one nearest to 0."""
    return min(trials, key=lambda each: (-each.values[0], math.hypot(*each.point), each.point))


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other beats in one value without losing in another.

    Of equal values the point nearest to 0 stands for all; sorted by the first value.
    """
    front: dict[tuple[float, ...], Trial] = {}
    for one in sorted(trials, key=lambda each: (math.hypot(*each.point), each.point)):
        beaten = any(
            other.values != one.values
            and all(a >= b for a, b in zip(other.values, one.values, strict=True))
            for other in trials
        )
        if not beaten:
            front.setdefault(one.values, one)
    return sorted(front.values(), key=lambda each: each.values)


def _optuna(
    evaluate: Score, box: Box, sampler: str, trials: int, seed: int, start: Sequence[Point]
) -> None:
    optuna = _import_optuna(sampler)
    names = [f"scale_{direction}" for direction in range(len(box.low))]
    samplers = optuna.samplers
    makers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed, multivariate=True),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed),
        "nsga": lambda: samplers.NSGAIISampler(
            seed=seed, population_size=max(4, min(50, trials // 4))
        ),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    chosen = {
        name: optuna.distributions.FloatDistribution(low, high)
        for name, low, high in zip(names, box.low, box.high, strict=True)
    }
    study: Any = None
    for number in range(trials):
        if study is None:
            point = start[0] if start else tuple((np.array(box.low) + box.high) / 2)
            values = evaluate(tuple(map(float, point)))
            directions = ["maximize"] * len(values)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study = optuna.create_study(directions=directions, sampler=makers[sampler]())
            _add(optuna, study, chosen, point, values)
            continue
        if number < len(start):
            _add(optuna, study, chosen, start[number], evaluate(start[number]))
            continue
        trial = study.ask(chosen)
        point = tuple(trial.params[name] for name in names)
        study.tell(trial, list(evaluate(point)))


def _add(optuna: Any, study: Any, chosen: Any, point: Point, values: Sequence[float]) -> None:
    study.add_trial(
        optuna.trial.create_trial(
            params=dict(zip(chosen, map(float, point), strict=True)),
            distributions=chosen,
            values=list(values),
        )
    )


def _import_optuna(sampler: str) -> Any:
    try:
        import optuna

        if sampler == "cmaes":
            import cmaes  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            f"the sampler {sampler} needs {error.name}, which is not installed",
            "pip install 'mergekit_audio[search]', or take quadratic or coordinate",
        ) from error
    return optuna


def _quadratic(evaluate: Score, box: Box, trials: int, seed: int, start: Sequence[Point]) -> None:
    """Fit, go to the surrogate's best point, fit again; where that is known, explore."""
    from scipy.stats import qmc

    directions = len(box.low)
    design = [tuple(map(float, node)) for node in leja_nodes(box, 2, first=start)]
    sobol = qmc.Sobol(directions, seed=seed).random(_SURROGATE_CANDIDATES)
    candidates = qmc.scale(sobol, box.low, box.high)
    points: list[Point] = []
    values: list[float] = []
    for number in range(trials):
        if number < len(design):
            point = design[number]
        else:
            point = _surrogate_best(candidates, points, values, box)
        points.append(point)
        values.append(evaluate(point)[0])


def _surrogate_best(
    candidates: NDArray[np.float64], points: Sequence[Point], values: Sequence[float], box: Box
) -> Point:
    basis = chebyshev_basis(np.array(points), box, 2)
    target = np.array(values)
    centre = target.mean()
    ridge = _RIDGE * len(points) * np.eye(basis_size(len(box.low), 2))
    factors = np.linalg.solve(basis.T @ basis + ridge, basis.T @ (target - centre))
    order = np.argsort(-(chebyshev_basis(candidates, box, 2) @ factors), kind="stable")
    taken = set(points)
    for place in order:
        point = tuple(float(value) for value in candidates[place])
        if point not in taken:
            return point
    return points[-1]


def _coordinate(evaluate: Score, box: Box, trials: int, start: Sequence[Point]) -> None:
    """Golden sections along one direction after the other, from the best of the first points."""
    left = iter(range(trials))
    middle = tuple(float(value) for value in (np.array(box.low) + box.high) / 2)
    known = []
    for place in start or [middle]:
        if next(left, None) is None:
            return
        known.append((evaluate(place)[0], place))
    value, here = max(known, key=lambda each: each[0])
    per_line = max(4, math.ceil(trials / (3 * len(box.low))))
    for direction in itertools.cycle(range(len(box.low))):
        for one in _golden(evaluate, here, direction, box, per_line, left):
            if one is None:
                return
            own, place = one
            if own > value:
                value, here = own, place


def _golden(
    evaluate: Score, here: Point, direction: int, box: Box, steps: int, left: Iterator[int]
) -> Iterator[tuple[float, Point] | None]:
    """Yield evaluated points of a golden section along one direction, None at the last trial."""
    ratio = (math.sqrt(5) - 1) / 2
    low, high = box.low[direction], box.high[direction]

    def at(value: float) -> tuple[float, Point] | None:
        if next(left, None) is None:
            return None
        point = (*here[:direction], value, *here[direction + 1 :])
        return evaluate(point)[0], point

    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    scored: list[float] = []
    for value in inner:
        one = at(value)
        yield one
        if one is None:
            return
        scored.append(one[0])
    for _ in range(steps - 2):
        if scored[0] >= scored[1]:
            high, inner, scored = inner[1], [inner[1], inner[0]], [scored[1], scored[0]]
            inner = [high - ratio * (high - low), inner[1]]
            place = 0
        else:
            low, inner = inner[0], [inner[1], inner[1]]
            scored = [scored[1], scored[1]]
            inner = [inner[0], low + ratio * (high - low)]
            place = 1
        one = at(inner[place])
        yield one
        if one is None:
            return
        scored[place] = one[0]
