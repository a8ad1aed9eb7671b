"""How long recordings are, without decoding them."""

from __future__ import annotations

from collections.abc import Iterable

from mergekit_audio.audio.corpus import Track


def hours_of(tracks: Iterable[Track]) -> float | None:
    """Return the hours of tracks by manifest or file header; None when no track says anything.

    Tracks whose length can't be read (they may not decode either) count as nothing.
    """
    lengths = [_seconds(track) for track in tracks]
    known = [length for length in lengths if length is not None]
    return sum(known) / 3600 if known else None


def _seconds(track: Track) -> float | None:
    if track.duration_s is not None:
        return track.duration_s
    if track.end_s is not None:
        return track.end_s - (track.start_s or 0.0)
    import soundfile

    try:
        return float(soundfile.info(str(track.path)).duration) - (track.start_s or 0.0)
    except (OSError, RuntimeError):
        return None
