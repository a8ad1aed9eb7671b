"""A corpus as it stands in the store: tracks of 16-bit samples that are mapped, not read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mergekit_audio.audio.corpus import Track
from mergekit_audio.audio.report import PrepareReport
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_DTYPE = np.dtype("<i2")
FULL_SCALE = 32_768.0


@dataclass(frozen=True, order=True)
class Segment:
    """Samples ``start`` to ``stop`` of the track at ``track_index`` of a corpus."""

    track_index: int
    start: int
    stop: int


@dataclass(frozen=True)
class PreparedTrack:
    """A decoded track.

    Parameters
    ----------
    track
        What the corpus says about it.
    samples
        How many, at the corpus's rate.
    digest
        The sha256 of the 16-bit samples (little-endian).
    object_path
        The file that holds them.
    """

    track: Track
    samples: int
    digest: str
    object_path: Path

    def wave(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return the samples ``[start, stop)`` as float32 ``[S]``: 16-bit value / 32768.

        Only this part of the file is read; a ``stop`` behind the end means the end.

        Raises
        ------
        InputError
            The store's file is missing or has lost samples.
        """
        try:
            held = os.path.getsize(self.object_path)
            if held != self.samples * SAMPLE_DTYPE.itemsize:
                raise OSError(f"{held} bytes instead of {self.samples * SAMPLE_DTYPE.itemsize}")
            samples = np.memmap(self.object_path, dtype=SAMPLE_DTYPE, mode="r")
        except OSError as error:
            raise InputError(
                f"{self.object_path}: can't read the prepared samples of {self.track.id}: "
                f"{error.strerror or error}",
                "run the same command again: it prepares what the store lacks",
            ) from error
        return samples[start:stop].astype(np.float32) / np.float32(FULL_SCALE)


@dataclass(frozen=True)
class PreparedCorpus:
    """The usable tracks of a corpus, sorted by id, and the report about the others.

    Parameters
    ----------
    source
        The folder or manifest.
    sample_rate_hz
        Of every track.
    tracks
        Without what could not be decoded, was silent, too short or a duplicate.
    report
        What was found.
    paths
        Every recording that was looked at, used or left out.
    """

    source: Path
    sample_rate_hz: int
    tracks: tuple[PreparedTrack, ...]
    report: PrepareReport
    paths: tuple[Path, ...]

    @cached_property
    def digest(self) -> str:
        """The sha256 of the content: sample rate, ids, splits, labels and samples (not paths)."""
        content = [_described(prepared) for prepared in self.tracks]
        return sha256_of_text(canonical_json([self.sample_rate_hz, content]))

    @property
    def hours(self) -> float:
        """Hours of usable sound."""
        return sum(prepared.samples for prepared in self.tracks) / self.sample_rate_hz / 3600

    def segments(
        self, segment_s: float = 30.0, min_s: float = 5.0, split: str | None = None
    ) -> list[Segment]:
        """Cut each track into segments from its beginning, in the order of tracks and of time.

        Parameters
        ----------
        segment_s
            Their length in seconds.
        min_s
            A track's rest becomes one more segment when it is at least that long.
        split
            Only tracks of this split; ``None`` means all.
        """
        length = round(segment_s * self.sample_rate_hz)
        shortest = round(min(min_s, segment_s) * self.sample_rate_hz)
        return [
            Segment(index, start, min(start + length, prepared.samples))
            for index, prepared in enumerate(self.tracks)
            if split is None or prepared.track.split == split
            for start in range(0, prepared.samples, length)
            if prepared.samples - start >= shortest
        ]


def _described(prepared: PreparedTrack) -> list[object]:
    """Return what the digest says of a track; values only where there are any."""
    track = prepared.track
    described: list[object] = [track.id, track.split, sorted(track.tags), prepared.digest]
    return [*described, sorted(track.values)] if track.values else described
