"""What a dataset's metadata say: recordings, what to fetch, and what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Source:
    """Something that the user fetches.

    Parameters
    ----------
    what
        A few words: ``split files``, ``recordings (22 GiB)``.
    fetch
        The address, or the command that fetches it; never run by this package.
    place
        Where it must lie in the raw folder, such as ``split/train.npy`` or ``audios/<id>.mp3``.
    note
        What else the user must know: an account, a licence of its own.
    """

    what: str
    fetch: str
    place: str
    note: str = ""


class Finding(NamedTuple):
    """Something to know about one item, file or label; it does not stop the import."""

    kind: str
    """``missing_metadata``, ``broken_metadata`` or another kind of ``FINDINGS``."""
    id: str
    reason: str


@dataclass(frozen=True)
class Item:
    """One recording as the metadata lists it.

    Parameters
    ----------
    id
        Its name in the corpus; unique.
    split
        ``train``, ``valid`` or ``test``; ``None`` when it has none (listed, and left out).
    labels
        All its labels ``category--value``, before the pinned ones are chosen.
    audio
        Places to look for its file, relative to the raw folder, in order; of each also the same
        name with another readable suffix.
    values
        Named numbers, for regression and tempo.
    artist
        Who plays; what the leakage check compares.
    start_s, end_s
        The window in seconds of the file; ``None`` means its beginning and its end.
    known_broken
        Why its audio is known to be unusable; such an item is reported, and not counted as listed.
    problem
        Kind (one of ``LEFT_OUT``) and reason of what is wrong with its metadata; then it is left
        out, and still counted as listed.
    """

    id: str
    split: str | None
    labels: tuple[str, ...]
    audio: tuple[str, ...]
    values: tuple[tuple[str, float], ...] = ()
    artist: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    known_broken: str = ""
    problem: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Listing:
    """What the metadata of a raw folder says, in any order.

    Parameters
    ----------
    items
        Each recording once.
    findings
        What `read` found about items that are not among them (or about files).
    files
        The metadata files that were read, relative to the raw folder; their sha256 are recorded
        and compared with `PublicDataset.checksums`.
    """

    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()
    files: tuple[str, ...] = ()
