"""What a table of results was made of, for its lock."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_audio.audio.origins import origins
from mergekit_audio.files import sha256_of_file
from mergekit_audio.lock import LockedInput
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.weights.checkpoint import Checkpoint


def locked_checkpoint(name: str, source: str, checkpoint: Checkpoint) -> LockedInput:
    """Return the lock's entry of a checkpoint: the digest of its content and of each file read."""
    return LockedInput(
        name=name,
        source=source,
        content_digest=checkpoint.digest(),
        files={
            path.relative_to(checkpoint.folder).as_posix(): sha256_of_file(path)
            for path in checkpoint.files()
        },
    )


def locked_tasks(tasks: Sequence[PreparedTask], root: Path) -> list[LockedInput]:
    """Return the lock's entries of the tasks' corpora: manifest and recordings.

    The content digest covers tracks, splits, tags and the decoded audio. Recordings that lie
    outside the corpus's folder stand in an entry of their own.

    Parameters
    ----------
    root
        The folder that the recipe's paths are relative to.
    """
    entries: list[LockedInput] = []
    for task in tasks:
        own, *elsewhere = origins(task.corpus, root)
        named = [(f"tasks.{task.task.name}", own)]
        named += [(f"tasks.{task.task.name} (recordings)", origin) for origin in elsewhere]
        entries += [
            LockedInput(
                name=name,
                source=origin.source,
                content_digest=task.corpus.digest,
                files=origin.files,
            )
            for name, origin in named
        ]
    return entries
