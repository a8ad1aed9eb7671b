"""The clips of a stage: crops by position, and batches with noise mixture, masks and codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mergekit_audio.audio.prepared import PreparedCorpus, PreparedTrack, Segment
from mergekit_audio.pretrain.masking import span_masks
from mergekit_audio.pretrain.mixture import FloatArray, mix_in_batch
from mergekit_audio.pretrain.processes import clips_per_step
from mergekit_audio.pretrain.sampling import BATCH, ClipOrder, crop_start, stream
from mergekit_audio.pretrain.targets import TargetCache, UintArray
from mergekit_audio.recipe.train_arguments import TrainArguments


@dataclass(frozen=True)
class Source:
    """The segments that one culture (or the replay) gives a stage."""

    name: str
    corpus: PreparedCorpus
    segments: tuple[Segment, ...]

    def item(self, index: int) -> tuple[PreparedTrack, Segment]:
        """Return a segment with its track."""
        segment = self.segments[index]
        return self.corpus.tracks[segment.track_index], segment


@dataclass(frozen=True)
class Clip:
    """One crop: its place in the stage, its samples ``[S]``, and codes ``[T, K]`` by teacher."""

    position: int
    track: str
    wave: FloatArray
    codes: dict[str, UintArray]


@dataclass(frozen=True)
class ClipShape:
    """Sizes of a crop: samples S, frames T, samples between frames, samples in a second."""

    samples: int
    frames: int
    hop_length: int
    sample_rate_hz: int


class Clips(Dataset[Clip]):
    """The crops of a stage in their order; each is a pure function of its position."""

    def __init__(
        self,
        sources: Sequence[Source],
        order: ClipOrder,
        caches: Mapping[str, TargetCache],
        shape: ClipShape,
        *,
        snap: bool,
        seed: int,
        stage: int,
    ) -> None:
        self.sources = list(sources)
        self.order = order
        self.caches = dict(caches)
        self.shape = shape
        self.snap_samples = shape.hop_length if snap else 1
        self.seed = seed
        self.stage = stage

    def __len__(self) -> int:
        return len(self.order.sources)

    def __getitem__(self, position: int) -> Clip:
        source, track, segment, start = self._crop(position)
        frame = round(start / self.shape.hop_length)
        codes = {
            name: cache.read(track, segment, frame, self.shape.frames)
            for name, cache in self.caches.items()
        }
        wave = self._wave(track, segment, start)
        return Clip(position, f"{source.name}/{track.track.id}", wave, codes)

    def track(self, position: int) -> str:
        """Return the name of a position's track, ``corpus/track id``."""
        source = self.sources[int(self.order.sources[position])]
        return f"{source.name}/{source.item(int(self.order.segments[position]))[0].track.id}"

    def wave(self, position: int) -> FloatArray:
        """Return the samples ``[S]`` of a position alone."""
        return self._wave(*self._crop(position)[1:])

    def _crop(self, position: int) -> tuple[Source, PreparedTrack, Segment, int]:
        source = self.sources[int(self.order.sources[position])]
        track, segment = source.item(int(self.order.segments[position]))
        start = crop_start(
            segment.stop - segment.start,
            self.shape.samples,
            snap=self.snap_samples,
            seed=self.seed,
            stage=self.stage,
            position=position,
        )
        return source, track, segment, start

    def _wave(self, track: PreparedTrack, segment: Segment, start: int) -> FloatArray:
        offset = segment.start + start
        return track.wave(offset, offset + self.shape.samples)


class WindowPool:
    """The clean clips of a whole accumulation window, for noise from more than a micro-batch.

    Parameters
    ----------
    clips
        The stage's crops.
    size
        Clips of an optimiser step.
    """

    def __init__(self, clips: Clips, size: int) -> None:
        self.clips = clips
        self.size = size
        self._kept: tuple[int, FloatArray] | None = None

    def __call__(self, position: int) -> tuple[FloatArray, int]:
        """Return the window's clips ``[W, S]``, and the place of ``position`` among them."""
        first = position - position % self.size
        if self._kept is None or self._kept[0] != first:
            stop = min(first + self.size, len(self.clips))
            self._kept = first, np.stack([self.clips.wave(each) for each in range(first, stop)])
        return self._kept[1], position - first


def window_pool(arguments: TrainArguments, clips: Clips) -> WindowPool | None:
    """Return where noise comes from by the recipe; None means the micro-batch itself."""
    if arguments.noise.pool == "batch":
        return None
    return WindowPool(clips, clips_per_step(arguments))


class Collate:
    """Make a batch of clips; noise and masks come from a generator of the first clip's position."""

    def __init__(
        self,
        arguments: TrainArguments,
        shape: ClipShape,
        *,
        seed: int,
        stage: int,
        keep_clean: bool,
        pool: WindowPool | None = None,
    ) -> None:
        self.pool = pool
        self.arguments = arguments
        self.shape = shape
        self.seed = seed
        self.stage = stage
        self.keep_clean = keep_clean

    def __call__(self, clips: list[Clip]) -> dict[str, Any]:
        """Return ``wave [B, S]``, ``mask [B, T]``, ``codes {teacher: [B, T, K]}``, ``tracks``.

        ``clean [B, S]`` is there only when a teacher makes its targets from the crop.
        """
        generator = stream(BATCH, self.seed, self.stage, clips[0].position)
        clean = np.stack([clip.wave for clip in clips])
        pool, place = (clean, 0) if self.pool is None else self.pool(clips[0].position)
        mixed = mix_in_batch(
            clean,
            self.arguments.noise,
            generator,
            sample_rate_hz=self.shape.sample_rate_hz,
            pool=pool,
            place=place,
        )
        mask = span_masks(len(clips), self.shape.frames, self.arguments.masking, generator)
        batch: dict[str, Any] = {
            "wave": torch.from_numpy(mixed),
            "mask": torch.from_numpy(mask),
            "codes": {
                name: torch.from_numpy(
                    np.stack([clip.codes[name] for clip in clips]).astype(np.int64)
                )
                for name in clips[0].codes
            },
            "first_position": clips[0].position,
            "tracks": [clip.track for clip in clips],
        }
        if self.keep_clean:
            batch["clean"] = torch.from_numpy(clean)
        return batch
