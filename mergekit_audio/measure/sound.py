"""The clips that a model is measured on: drawn from its corpus by the seed, without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.audio.store import Store
from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.measure.planner import MeasurePlan, Subject
from mergekit_audio.progress import Progress

SEGMENT_S = 30.0
# What a stream of random numbers is for; the first word of its seed.
_ORDER, _START, MASK = 1, 2, 3


@dataclass(frozen=True)
class Clip:
    """A clip's track (its place in the corpus) and its first sample."""

    track_index: int
    start: int


@dataclass(frozen=True)
class Sound:
    """The clips of one model.

    Parameters
    ----------
    corpus
        The prepared corpus.
    clips
        In their order.
    samples
        S, samples of a clip.
    """

    corpus: PreparedCorpus
    clips: tuple[Clip, ...]
    samples: int

    def waves(self, clips: Sequence[Clip]) -> npt.NDArray[np.float32]:
        """Return the waveforms ``[B, S]`` of some clips."""
        return np.stack(
            [
                self.corpus.tracks[each.track_index].wave(each.start, each.start + self.samples)
                for each in clips
            ]
        )

    def batches(self, size: int) -> Iterator[npt.NDArray[np.float32]]:
        """Yield all clips' waveforms, at most ``size`` at a time."""
        for first in range(0, len(self.clips), size):
            yield self.waves(self.clips[first : first + size])


def prepare_sound(plan: MeasurePlan, subject: Subject, progress: Progress) -> Sound:
    """Decode what the store lacks of a model's corpus and draw its clips.

    Raises
    ------
    InputError
        The corpus can't be read, or none of its tracks is as long as a clip.
    """
    recipe = plan.recipe
    corpus = Store(plan.store).prepare(
        plan.root / subject.corpus,
        sample_rate_hz=recipe.backbone.sample_rate_hz,
        workers=recipe.num_threads or core_count(),
        progress=progress,
    )
    clips = draw_clips(
        corpus,
        recipe.examples,
        recipe.crop_s,
        snap=recipe.backbone.hop_length,
        seed=recipe.seed,
    )
    return Sound(corpus, tuple(clips), plan.crop_samples)


def draw_clips(
    corpus: PreparedCorpus, count: int, crop_s: float, *, snap: int, seed: int
) -> list[Clip]:
    """Return clips: every segment of at most 30 s once a pass, each at a random start in it.

    Segments are of the split ``train`` where tracks have splits, else of all tracks.

    Parameters
    ----------
    corpus
        The prepared corpus.
    count
        Clips to draw.
    crop_s
        Their length in seconds.
    snap
        Starts are multiples of so many samples.
    seed
        The recipe's seed.
    """
    has_splits = any(prepared.track.split for prepared in corpus.tracks)
    split = "train" if has_splits else None
    segments = corpus.segments(max(SEGMENT_S, crop_s), crop_s, split)
    if not segments:
        which = "no track of the split 'train'" if has_splits else "no track"
        raise InputError(
            f"{corpus.source}: {which} is as long as a clip of {crop_s:g} s",
            "give longer recordings, or measure shorter clips (--set crop_s=…)",
        )
    samples = round(crop_s * corpus.sample_rate_hz)
    clips: list[Clip] = []
    while len(clips) < count:
        order = _stream(_ORDER, seed, len(clips)).permutation(len(segments))
        for place in order[: count - len(clips)]:
            segment = segments[int(place)]
            choices = (segment.stop - segment.start - samples) // snap + 1
            start = int(_stream(_START, seed, len(clips)).integers(choices)) * snap
            clips.append(Clip(segment.track_index, segment.start + start))
    return clips


def clip_stream(purpose: int, seed: int, index: int) -> np.random.Generator:
    """Return the generator of what is random about one clip."""
    return _stream(purpose, seed, index)


def _stream(*words: int) -> np.random.Generator:
    return np.random.default_rng([len(words), *words])
