"""What a table of results was made of, for its lock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_audio.lock import LockedInput
from mergekit_audio.locked import locked_corpus
from mergekit_audio.probe.tasks import PreparedTask


def locked_tasks(tasks: Sequence[PreparedTask], root: Path) -> list[LockedInput]:
    """Return the lock's entries of the tasks' corpora; see `locked_corpus`."""
    return [
        entry
        for task in tasks
        for entry in locked_corpus(f"tasks.{task.task.name}", task.corpus, root)
    ]
