"""Cut tracks into the chunks that a protocol asks for; nothing is ever padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergekit_audio.audio.store import PreparedTrack
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.evaluate import Protocol


@dataclass(frozen=True, order=True)
class Chunk:
    """A piece of a track: samples ``start`` to ``stop`` of the track at ``track_index``."""

    track_index: int
    start: int
    stop: int


def cut_tracks(
    tracks: Sequence[PreparedTrack], protocol: Protocol, sample_rate_hz: int, receptive_field: int
) -> list[Chunk]:
    """Return the chunks of all tracks, in the order of the tracks.

    Parameters
    ----------
    tracks
        Prepared tracks.
    protocol
        Length, overlap and the rule of the last chunk.
    sample_rate_hz
        Samples in a second.
    receptive_field
        The fewest samples that give a frame.

    Raises
    ------
    InputError
        Tracks give no frame at all; each is named.
    """
    chunks: list[Chunk] = []
    too_short = []
    for index, prepared in enumerate(tracks):
        spans = chunk_spans(prepared.samples, protocol, sample_rate_hz)
        if any(stop - start < receptive_field for start, stop in spans):
            shortest = min(stop - start for start, stop in spans)
            too_short.append(f"  {prepared.track.path}: a chunk of {shortest} samples")
        chunks.extend(Chunk(index, start, stop) for start, stop in spans)
    if too_short:
        raise InputError(
            f"{len(too_short)} tracks give chunks shorter than one frame of the encoder "
            f"({receptive_field} samples at {sample_rate_hz} Hz):\n" + "\n".join(too_short),
            "take these tracks out of the manifest, or raise chunk_s or min_last_chunk_s",
        )
    return chunks


def chunk_spans(samples: int, protocol: Protocol, sample_rate_hz: int) -> list[tuple[int, int]]:
    """Return ``(start, stop)`` of the chunks of one track.

    Whole chunks start every ``chunk_s · (1 - overlap)`` seconds. A track shorter than a chunk is
    one chunk of its own length. What is left behind the last whole chunk is dropped, kept from the
    next start on (``keep``, at least ``min_last_chunk_s`` long), or covered by one more whole chunk
    that ends with the track (``align``).
    """
    if protocol.max_duration_s is not None:
        samples = min(samples, round(protocol.max_duration_s * sample_rate_hz))
    length = round(protocol.chunk_s * sample_rate_hz)
    if samples <= length:
        return [(0, samples)]
    step = max(1, round(length * (1 - protocol.overlap)))
    spans = [(start, start + length) for start in range(0, samples - length + 1, step)]
    if spans[-1][1] == samples or protocol.last_chunk == "drop":
        return spans
    if protocol.last_chunk == "align":
        return [*spans, (samples - length, samples)]
    last_start = spans[-1][0] + step
    if samples - last_start >= protocol.min_last_chunk_s * sample_rate_hz:
        spans.append((last_start, samples))
    return spans
