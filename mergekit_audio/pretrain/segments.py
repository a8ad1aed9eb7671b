"""The segments of a prepared corpus that crops are taken from."""

from __future__ import annotations

from mergekit_audio.audio.prepared import PreparedCorpus, Segment
from mergekit_audio.errors import InputError

SEGMENT_S = 30.0


def require_segments(
    corpus: PreparedCorpus, crop_s: float, split: str | None
) -> tuple[Segment, ...]:
    """Return the segments of at most 30 s of a split (None means all tracks).

    Raises
    ------
    InputError
        No track of it is as long as a crop.
    """
    segments = corpus.segments(max(SEGMENT_S, crop_s), crop_s, split)
    if not segments:
        which = f"no track of the split {split!r}" if split else "no track"
        raise InputError(
            f"{corpus.source}: {which} is as long as a crop of {crop_s:g} s",
            "give longer recordings, or shorter crops (--set arguments.crop_s=…)",
        )
    return tuple(segments)
