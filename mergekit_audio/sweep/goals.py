"""What a rule of choice makes of a row: its goal, and by how much its constraints are kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergekit_audio.probe.summary import spread
from mergekit_audio.recipe.objective import GROUPS, Objective, Term
from mergekit_audio.recipe.sweep import Select

POINTS = 100.0
Row = Mapping[str, Any]


@dataclass(frozen=True)
class GoalPoints:
    """A row's validation scores by a rule, in points.

    Parameters
    ----------
    goal
        The rule's goal.
    broken
        The sum by which constraints are broken.
    groups
        The mean of all tasks, of the Western ones and of the others, where there are some.
    """

    goal: float
    broken: float
    groups: dict[str, float]


def goal_points(
    row: Row,
    base: Row,
    select: Select,
    tasks: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> GoalPoints:
    """Return what the recipe's rule makes of a row on validation.

    Parameters
    ----------
    row, base
        Rows of the summary.
    select
        The recipe's rule.
    tasks
        All tasks' names.
    groups
        The tasks of ``all``, ``western``, ``non_western``.
    """
    rule, known = select.rule(), {"all": list(tasks), **groups}
    scores, start = task_means(row, select), task_means(base, select)
    kept = excesses(rule, scores, start, known)
    return GoalPoints(
        goal=POINTS * float(goal(rule, row, select, known, "valid")["mean"]),
        broken=sum(-each for each in kept if each < 0),
        groups={
            name: Term("mean", (name,)).value(scores, known) for name in GROUPS if known.get(name)
        },
    )


def goal(
    rule: Objective, row: Row, select: Select, groups: Mapping[str, Sequence[str]], split: str
) -> dict[str, Any]:
    """Return the goal's spread over seeds, from 0 to 1."""
    of_tasks = {task: task_seeds(row, task, select, split) for task in row["scores"]}
    seeds = len(next(iter(of_tasks.values())))
    return spread(
        [
            rule.goal.value({task: values[seed] for task, values in of_tasks.items()}, groups)
            for seed in range(seeds)
        ]
    )


def excesses(
    rule: Objective,
    scores: Mapping[str, float],
    base: Mapping[str, float],
    groups: Mapping[str, Sequence[str]],
) -> list[float]:
    """Return by how many points each constraint is kept; rounding breaks none."""
    found = [each.excess(scores, base, groups) for each in rule.constraints]
    return [0.0 if abs(each) < 1e-9 else each for each in found]


def task_means(row: Row, select: Select) -> dict[str, float]:
    """Return each task's validation score in points: times 100, mean over seeds."""
    return {
        task: POINTS * statistics.fmean(task_seeds(row, task, select, "valid"))
        for task in row["scores"]
    }


def task_seeds(row: Row, task: str, select: Select, split: str) -> list[float]:
    """Return a task's scores by seed: of one metric, or the mean of its metrics."""
    held = row["scores"][task][split]
    metrics = [select.metric] if select.metric in held else list(held)
    columns = [held[metric]["seeds"] for metric in metrics]
    return [statistics.fmean(of_one_seed) for of_one_seed in zip(*columns, strict=True)]
