"""How engines tell their progress: one plain callback, so that no engine knows about terminals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve that grows while a search for λ runs.

    Parameters
    ----------
    name
        The merge's name in results.
    scale
        λ, 0 for the base; ``None`` where a merge has several λ.
    goal
        What is maximised, on validation, in points.
    base
        The same of the base.
    broken
        By how many points constraints are broken: only points that keep them can be the best.
    """

    name: str
    scale: float | None
    goal: float
    base: float
    broken: float = 0.0


@dataclass(frozen=True)
class ProgressEvent:
    """One step of long work.

    Parameters
    ----------
    task
        What is being done, as a short phrase; one bar on a terminal for each task.
    done, total
        Steps finished and steps in all (``total=None``: not known).
    note
        What is in hand now (a file, a tensor, a loss), or a line worth reading.
    is_remark
        Whether the note must be read also where no progress is shown: a warning, a decision.
    point
        A point that was finished, where the task is a curve.
    """

    task: str
    done: int
    total: int | None = None
    note: str = ""
    is_remark: bool = False
    point: CurvePoint | None = None


Progress = Callable[[ProgressEvent], None]


def remark(task: str, note: str) -> ProgressEvent:
    """Return an event that only says something."""
    return ProgressEvent(task, 1, 1, note, is_remark=True)


def silent(event: ProgressEvent) -> None:
    """Drop the event: the default of every engine."""
