"""Run a search of λ in a sweep's landscape: every trial is a row, interpolated where it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mergekit_audio.recipe.search import Search
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.searches.halving_running import halve_landscape
from mergekit_audio.sweep.searches.samplers import search
from mergekit_audio.sweep.searches.scored import (
    Searched,
    count_trials,
    known_rows,
    pareto_goals,
    rounded,
    search_goal,
)
from mergekit_audio.sweep.searches.trials import Point as Scales
from mergekit_audio.sweep.searches.trials import Trial, pareto_front
from mergekit_audio.sweep.spaces import Point

OUT_OF_REACH = -1000.0
"""The goal, in points, of a λ whose features are not finite: worse than any score."""


def search_landscape(landscape: Landscape, settings: Search) -> Searched:
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
    if settings.sampler == "halving":
        return halve_landscape(landscape, settings)
    space = landscape.space
    known = _Known(landscape)
    goals = 2 if settings.sampler == "nsga" else 1
    base = next(row for row in landscape.rows if row["kind"] == "base")

    def score(scales: Scales) -> Sequence[float]:
        row = known.score(scales)
        if row is None:
            return (OUT_OF_REACH,) * goals
        if goals == 2:
            return pareto_goals(landscape.recipe, row, base)
        return (search_goal(landscape.recipe, row, base),)

    first = [place for place in known.rows if space.box.contains(place)]
    count_trials(landscape, settings.trials)
    trials = search(
        score,
        space.box,
        sampler=settings.sampler,
        trials=settings.trials + len(first),
        seed=settings.seed,
        steps=settings.greedy_steps(),
        first=first,
    )
    found: dict[str, Any] = {
        "sampler": settings.sampler,
        "axes": list(space.axes),
        "split": "valid",
        "trials": [known.listed(trial) for trial in trials],
    }
    if goals == 2:
        found["goals"] = ["mean(non_western)", "mean(western)"]
        found["pareto_front"] = [known.listed(trial) for trial in pareto_front(trials)]
    return Searched(found)


@dataclass
class _Known:
    """The rows of a landscape by their rounded λ; ``None`` where features were not finite."""

    landscape: Landscape
    rows: dict[Scales, dict[str, Any] | None] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = {**known_rows(self.landscape)}

    def score(self, scales: Scales) -> dict[str, Any] | None:
        place = rounded(scales)
        if place not in self.rows:
            self.rows[place] = self.landscape.score(Point(place))
        return self.rows[place]

    def listed(self, trial: Trial) -> dict[str, Any]:
        space, place = self.landscape.space, rounded(trial.point)
        row = self.rows.get(place)
        return {
            "number": trial.number,
            "row": space.name(Point(place)) if row is None else row["name"],
            "scales": dict(zip(space.axes, place, strict=True)),
            "values": list(trial.values),
            "share": 1.0,
        }
