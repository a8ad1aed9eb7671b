"""What a table of results was made of, for its lock."""

from __future__ import annotations

from collections.abc import Sequence

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


def locked_tasks(tasks: Sequence[PreparedTask]) -> list[LockedInput]:
    """Return the lock's entries of the tasks' corpora.

    The content digest covers tracks, splits, tags and the decoded audio; the manifest is the file.
    """
    entries = []
    for task in tasks:
        source = task.corpus.source
        manifests = [source] if source.is_file() else sorted(source.glob("manifest.*"))[:1]
        entries.append(
            LockedInput(
                name=f"tasks.{task.task.name}",
                source=task.task.corpus,
                content_digest=task.corpus.digest,
                files={path.name: sha256_of_file(path) for path in manifests},
            )
        )
    return entries
