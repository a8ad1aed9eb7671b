"""What an output was made of, as entries of its lock: checkpoints, and corpora with recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergekit_audio.audio.origins import origins
from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.files import sha256_of_file
from mergekit_audio.lock import LockedInput
from mergekit_audio.weights.checkpoint import Checkpoint


def locked_checkpoint(
    name: str, source: str, checkpoint: Checkpoint, more: Sequence[Path] = ()
) -> LockedInput:
    """Return the entry of a checkpoint: the digest of its content and of each file read.

    Parameters
    ----------
    more
        Further files of its folder that were read.

    Raises
    ------
    InputError
        A weight file has changed since the checkpoint was opened.
    """
    entry = LockedInput(
        name=name,
        source=source,
        content_digest=checkpoint.digest(),
        files={
            path.relative_to(checkpoint.folder).as_posix(): sha256_of_file(path)
            for path in sorted([*checkpoint.files(), *more])
        },
    )
    checkpoint.require_unchanged()
    return entry


def locked_corpus(name: str, corpus: PreparedCorpus, root: Path) -> list[LockedInput]:
    """Return the entries of a corpus: manifest and recordings.

    The content digest covers tracks, splits, tags and the decoded audio. Recordings that lie
    outside the corpus's folder stand in an entry of their own.

    Parameters
    ----------
    root
        The folder that the recipe's paths are relative to.
    """
    own, *elsewhere = origins(corpus, root)
    named = [(name, own), *((f"{name} (recordings)", origin) for origin in elsewhere)]
    return [
        LockedInput(
            name=label,
            source=origin.source,
            content_digest=corpus.digest,
            files=origin.files,
        )
        for label, origin in named
    ]
