"""What searches share: λ that are scored already, what a row is worth, what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.goals import goal_points
from mergekit_audio.sweep.landscape import Landscape
from mergekit_audio.sweep.searches.trials import Point as Scales

DIGITS = 6
"""Of λ behind the point."""
BROKEN = 10.0
"""Points of the goal that each point costs by which a constraint is broken."""


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Parameters
    ----------
    summary
        ``sampler``, ``axes``, ``split`` (whose scores the values are: ``valid``) and ``trials``,
        each with the row that it is, its λ, its values and its ``share`` of the tracks; of two
        goals ``goals`` and ``pareto_front``, of halving ``halving``.
    lines
        Finished points on fewer than all tracks, for the results: no rows of the sweep.
    notes
        What a reader must know.
    """

    summary: dict[str, Any]
    lines: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def search_goal(recipe: SweepRecipe, row: Mapping[str, Any], base: Mapping[str, Any]) -> float:
    """Return the objective of a row on validation, ``goal - 10 · Σ broken``, in points."""
    tasks = [task.name for task in recipe.tasks]
    found = goal_points(row, base, recipe.select, tasks, recipe.task_groups())
    return found.goal - BROKEN * found.broken


def pareto_goals(
    recipe: SweepRecipe, row: Mapping[str, Any], base: Mapping[str, Any]
) -> tuple[float, float]:
    """Return the means of the non-Western and of the Western tasks on validation, in points."""
    tasks = [task.name for task in recipe.tasks]
    found = goal_points(row, base, recipe.select, tasks, recipe.task_groups())
    return found.groups["non_western"], found.groups["western"]


def known_rows(landscape: Landscape) -> dict[Scales, dict[str, Any]]:
    """Return the rows that are scored already, by their rounded λ: the base first."""
    rows = [row for row in landscape.rows if row["in_grid"] and "scales" in row]
    rows.sort(key=lambda row: (row["kind"] != "base", str(row["name"])))
    found: dict[Scales, dict[str, Any]] = {}
    for row in rows:
        found.setdefault(rounded(list(row["scales"].values())), row)
    return found


def rounded(scales: Sequence[float]) -> Scales:
    """Return λ to six digits behind the point, without a negative zero."""
    return tuple(round(float(value), DIGITS) + 0.0 for value in scales)


def count_trials(landscape: Landscape, trials: int) -> None:
    """Tell the runner of so many more rows."""
    runner = landscape.runner
    runner.total += trials * len(runner.tasks) * len(runner.seeds)
