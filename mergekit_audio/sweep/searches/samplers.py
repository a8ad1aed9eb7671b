"""Search λ of several directions for the best scores, one evaluation after the other."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mergekit_audio.errors import DependencyError
from mergekit_audio.recipe.search import GREEDY_STEPS
from mergekit_audio.sweep.dense.interpolation import Box
from mergekit_audio.sweep.searches.greedy import greedy
from mergekit_audio.sweep.searches.lines import coordinate
from mergekit_audio.sweep.searches.quadratic import quadratic
from mergekit_audio.sweep.searches.trials import Point, Score, Trial

OPTUNA = ("tpe", "cmaes", "nsga")
SAMPLERS = (*OPTUNA, "quadratic", "coordinate", "greedy")
FEWEST_OF_A_LINE = 4
"""Points of one line of `coordinate`, at least."""


class _EndOfTrialsError(Exception):
    """All trials are made."""


def search(
    score: Score,
    box: Box,
    *,
    sampler: str,
    trials: int,
    seed: int,
    first: Sequence[Point] = (),
    steps: int = GREEDY_STEPS,
    told: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Evaluate up to so many points of a box, each chosen by what the earlier ones scored.

    ``tpe`` (a tree of Parzen estimators, as OptiMer takes, arXiv 2603.28858), ``cmaes`` and
    ``nsga`` (NSGA-II, for two values) are Optuna's. ``quadratic`` is MAP's surrogate (arXiv
    2406.07529): a polynomial of total degree 2 through the scores, whose best point comes next.
    ``coordinate`` moves along one direction after the other by a golden section. ``greedy`` adds
    one direction after the other at the λ that helps most, and may end before all trials are made.

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
    steps
        λ of ``greedy`` on each side of 0.
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
        if len(found) == trials:
            raise _EndOfTrialsError
        if point not in known:
            known[point] = tuple(float(value) for value in score(point))
        found.append(Trial(len(found), point, known[point]))
        told(found[-1])
        return known[point]

    start = [tuple(map(float, point)) for point in first if box.contains(point)][:trials]
    with contextlib.suppress(_EndOfTrialsError):
        if sampler == "quadratic":
            quadratic(evaluate, box, start, seed)
        elif sampler == "coordinate":
            of_a_line = max(FEWEST_OF_A_LINE, math.ceil(trials / (3 * len(box.low))))
            coordinate(evaluate, box, start, of_a_line)
        elif sampler == "greedy":
            greedy(evaluate, box, start, steps)
        else:
            _optuna(evaluate, box, sampler, trials, seed, start)
    return found


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
    middle = tuple((low + high) / 2 for low, high in zip(box.low, box.high, strict=True))
    study: Any = None
    for point in start or [middle]:
        values = evaluate(point)
        if study is None:
            study = _study(optuna, makers[sampler], len(values))
        _add(optuna, study, chosen, point, values)
    while True:
        trial = study.ask(chosen)
        study.tell(trial, list(evaluate(tuple(trial.params[name] for name in names))))


def _study(optuna: Any, sampler: Callable[[], Any], goals: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.create_study(directions=["maximize"] * goals, sampler=sampler())


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
            "pip install 'mergekit_audio[search]', or take quadratic, coordinate or greedy",
        ) from error
    return optuna
