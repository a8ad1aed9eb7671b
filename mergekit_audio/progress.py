"""How engines tell their progress: one plain callback, so that no engine knows about terminals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
    """

    task: str
    done: int
    total: int | None = None
    note: str = ""
    is_remark: bool = False


Progress = Callable[[ProgressEvent], None]


def remark(task: str, note: str) -> ProgressEvent:
    """Return an event that only says something."""
    return ProgressEvent(task, 1, 1, note, is_remark=True)


def silent(event: ProgressEvent) -> None:
    """Drop the event: the default of every engine."""
