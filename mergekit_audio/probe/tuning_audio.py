"""The audio that an encoder is tuned on: random crops by position, and segments of whole tracks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.audio.store import PreparedTrack
from mergekit_audio.errors import InputError
from mergekit_audio.probe.chunks import chunk_spans
from mergekit_audio.probe.features import SPLITS, probed_tracks
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.evaluate import Protocol
from mergekit_audio.recipe.tuning import Tuning

_ORDER, _CROP, _VALID_CROP = 1, 2, 3
_VARIANCE_FLOOR = 1e-7  # transformers' feature extractor adds it too


class TuningAudio:
    """The tracks of a task, cut as ``tuning`` says; everything random comes from seed and position.

    Parameters
    ----------
    task
        The prepared task.
    tuning
        Lengths and normalisation.
    receptive_field
        The fewest samples that give a frame.

    Raises
    ------
    InputError
        Tracks are shorter than one frame; each is named.
    """

    def __init__(self, task: PreparedTask, tuning: Tuning, receptive_field: int) -> None:
        tracks = probed_tracks(task.corpus)
        self.tracks: dict[str, list[PreparedTrack]] = {
            split: [each for each, own in zip(tracks, task.splits, strict=True) if own == split]
            for split in SPLITS
        }
        self.rate = task.corpus.sample_rate_hz
        self.tuning = tuning
        self.length = round(tuning.crop_s * self.rate)
        short = [each for each in tracks if min(self._usable(each), self.length) < receptive_field]
        if short:
            listed = "\n".join(f"  {each.track.path}: {each.samples} samples" for each in short)
            raise InputError(
                f"{len(short)} tracks are shorter than one frame of the encoder "
                f"({receptive_field} samples at {self.rate} Hz):\n{listed}",
                "take these tracks out of the manifest, or raise tuning.crop_s",
            )

    def training_rows(self, step: int, seed: int) -> NDArray[np.int64]:
        """Return the training tracks of a step: each once in a pass, passes follow each other."""
        size, count = self.tuning.batch_size, len(self.tracks["train"])
        positions = range(step * size, (step + 1) * size)
        orders = {
            epoch: np.random.default_rng((_ORDER, seed, epoch)).permutation(count)
            for epoch in sorted({position // count for position in positions})
        }
        return np.array([orders[each // count][each % count] for each in positions], np.int64)

    def training_crops(
        self, step: int, rows: NDArray[np.int64], seed: int
    ) -> list[NDArray[np.float32]]:
        """Return a random crop of each track of a step."""
        first = step * self.tuning.batch_size
        return [
            self._random_crop("train", row, (_CROP, seed, first + place))
            for place, row in enumerate(rows.tolist())
        ]

    def valid_crops(self, turn: int, seed: int) -> list[NDArray[np.float32]]:
        """Return a random crop of every validation track, others at each validation."""
        count = len(self.tracks["valid"])
        return [
            self._random_crop("valid", row, (_VALID_CROP, seed, turn * count + row))
            for row in range(count)
        ]

    def segments(self, split: str) -> tuple[list[tuple[int, int, int]], NDArray[np.int64]]:
        """Return ``(track, start, stop)`` of all segments, and where each track's begin."""
        rule = Protocol(
            chunk_s=self.tuning.crop_s,
            max_duration_s=self.tuning.max_duration_s,
            last_chunk="drop",
        )
        found: list[tuple[int, int, int]] = []
        firsts = []
        for row, prepared in enumerate(self.tracks[split]):
            firsts.append(len(found))
            found += [(row, *span) for span in chunk_spans(prepared.samples, rule, self.rate)]
        return found, np.array(firsts, np.int64)

    def wave(self, split: str, row: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return ``[start, stop)`` of a track, normalised if so set, float32 ``[S]``."""
        wave = np.asarray(self.tracks[split][row].wave(start, stop), dtype=np.float32)
        if not self.tuning.normalize:
            return wave
        centred = wave - wave.mean(dtype=np.float64)
        scaled: NDArray[np.float32] = (centred / np.sqrt(centred.var() + _VARIANCE_FLOOR)).astype(
            np.float32
        )
        return scaled

    def names(self, split: str, rows: Sequence[int]) -> list[str]:
        """Return the ids of some tracks, for messages."""
        return [self.tracks[split][row].track.id for row in rows]

    def _usable(self, prepared: PreparedTrack) -> int:
        if self.tuning.max_duration_s is None:
            return prepared.samples
        return min(prepared.samples, round(self.tuning.max_duration_s * self.rate))

    def _random_crop(self, split: str, row: int, words: tuple[int, ...]) -> NDArray[np.float32]:
        usable = self._usable(self.tracks[split][row])
        room = max(0, usable - self.length)
        start = int(np.random.default_rng(words).integers(room + 1))
        return self.wave(split, row, start, min(start + self.length, usable))


def by_length(waves: Sequence[NDArray[np.float32]]) -> list[tuple[list[int], torch.Tensor]]:
    """Return batches ``(places, waves [B, S])`` of equal length, for nothing is ever padded."""
    places: dict[int, list[int]] = {}
    for place, wave in enumerate(waves):
        places.setdefault(len(wave), []).append(place)
    return [
        (group, torch.from_numpy(np.stack([waves[place] for place in group])))
        for _, group in sorted(places.items())
    ]
