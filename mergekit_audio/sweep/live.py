"""Tell the curve of λ as it grows: each point's goal on validation beside the base's."""

from __future__ import annotations

from collections.abc import Sequence

from mergekit_audio.progress import CurvePoint, ProgressEvent
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.goals import Row, goal_points

CURVE_TASK = "λ so far"


def curve_event(rows: Sequence[Row], recipe: SweepRecipe) -> ProgressEvent | None:
    """Return the event that tells of the last row; ``None`` where it is no point of the curve.

    Parameters
    ----------
    rows
        The rows that are finished, the base among them; validation scores are enough.
    recipe
        Its rule says what a point's goal is.
    """
    row = rows[-1]
    base = next((each for each in rows if each["kind"] == "base"), None)
    if base is None or not row["in_grid"]:
        return None
    tasks, groups = [task.name for task in recipe.tasks], recipe.task_groups()
    found = goal_points(row, base, recipe.select, tasks, groups)
    start = goal_points(base, base, recipe.select, tasks, groups).goal
    point = CurvePoint(row["name"], row["scale"], found.goal, start, found.broken)
    count = sum(1 for each in rows if each["in_grid"])
    note = f"{point.name}: {point.goal:.2f} (base {point.base:.2f})"
    return ProgressEvent(CURVE_TASK, count, None, note, point=point)
