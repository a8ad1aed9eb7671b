"""Run a search of λ in a sweep's landscape: every trial is a row, interpolated where it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mergekit_audio.recipe.search import Search
from mergekit_audio.sweep.goals import goal_points
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.search import Point as Scales
from mergekit_audio.sweep.search import Trial, pareto_front, search
from mergekit_audio.sweep.spaces import Point

POINTS = 100.0
DIGITS = 6
OUT_OF_REACH = -1000.0
"""Points of a λ whose features are not finite; each point by which a constraint is broken costs
as much as a point of the goal ten times over."""
BROKEN = 10.0


def search_landscape(landscape: Landscape, settings: Search) -> dict[str, Any]:
    """Score the points that a search asks for; return trials and, of two goals, the Pareto front.

    The goal is the recipe's objective on validation in points, ``goal - 10 · Σ broken``; with
    ``nsga`` it is the mean of the non-Western tasks and that of the Western ones. The base, weight
    averaging and single cultures come first, since they are scored already. λ are rounded to six
    digits behind the point.

    Parameters
    ----------
    landscape
        A sweep that was run; it gets the trials' rows.
    settings
        Sampler, trials, seed.

    Raises
    ------
    DependencyError
        The sampler needs a package that is not installed.
    """
    space = landscape.space
    known = _known(landscape)

    def score(scales: Scales) -> Sequence[float]:
        place = tuple(round(value, DIGITS) for value in scales)
        point = Point(place)
        row = known.get(place) or landscape.score(point)
        goals = 2 if settings.sampler == "nsga" else 1
        if row is None:
            return (OUT_OF_REACH,) * goals
        known[place] = row
        return _values(landscape, row, settings.sampler)

    first = [place for place in known if space.box.contains(place)]
    trials = search(
        score,
        space.box,
        sampler=settings.sampler,
        trials=settings.trials + len(first),
        seed=settings.seed,
        first=first,
    )
    found: dict[str, Any] = {
        "sampler": settings.sampler,
        "axes": list(space.axes),
        "trials": [_listed(landscape, known, trial) for trial in trials],
    }
    if settings.sampler == "nsga":
        found["goals"] = ["mean(non_western)", "mean(western)"]
        front = pareto_front(trials)
        found["pareto_front"] = [_listed(landscape, known, trial) for trial in front]
    return found


def _known(landscape: Landscape) -> dict[Scales, dict[str, Any]]:
    """Return the rows that are scored already, by their λ: the base first."""
    rows = [row for row in landscape.rows if row["in_grid"] and "scales" in row]
    rows.sort(key=lambda row: (row["kind"] != "base", str(row["name"])))
    found: dict[Scales, dict[str, Any]] = {}
    for row in rows:
        place = tuple(round(float(value), DIGITS) for value in row["scales"].values())
        found.setdefault(place, row)
    return found


def _values(landscape: Landscape, row: dict[str, Any], sampler: str) -> tuple[float, ...]:
    recipe = landscape.recipe
    tasks, groups = [task.name for task in recipe.tasks], recipe.task_groups()
    base = next(each for each in landscape.rows if each["kind"] == "base")
    found = goal_points(row, base, recipe.select, tasks, groups)
    if sampler == "nsga":
        return found.groups["non_western"], found.groups["western"]
    return (found.goal - BROKEN * found.broken,)


def _listed(
    landscape: Landscape, known: dict[Scales, dict[str, Any]], trial: Trial
) -> dict[str, Any]:
    place = tuple(round(value, DIGITS) for value in trial.point)
    return {
        "number": trial.number,
        "row": known[place]["name"] if place in known else landscape.space.name(Point(place)),
        "scales": dict(zip(landscape.space.axes, place, strict=True)),
        "values": list(trial.values),
    }
