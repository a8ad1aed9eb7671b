"""Probe without labels what a training forgets: the objective on fixed clips of some corpora."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mergekit_audio.audio.prepared import PreparedCorpus, PreparedTrack, Segment
from mergekit_audio.pretrain.data import ClipShape
from mergekit_audio.pretrain.masking import span_masks
from mergekit_audio.pretrain.objective import Objective, PretrainModel
from mergekit_audio.pretrain.sampling import stream
from mergekit_audio.pretrain.segments import require_segments
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.progress import Progress
from mergekit_audio.recipe.train import TrainRecipe

PREFIX = "forgetting."


# What these streams of random numbers are for; numbers of their own beside those of sampling.
_CHOICE, _MASK = 101, 102


def probe_sources(recipe: TrainRecipe) -> dict[str, str]:
    """Return the source of each probed corpus by name; none without ``forgetting``.

    Without ``forgetting.corpora`` these are the recipe's own cultures and ``replay``.
    """
    if recipe.forgetting is None:
        return {}
    own = dict(recipe.corpora())
    if recipe.replay is not None:
        own["replay"] = recipe.replay
    return dict(sorted((recipe.forgetting.corpora or own).items()))


@dataclass(frozen=True)
class ProbeBatch:
    """Clips ``wave [B, S]`` with their fixed masks ``[B, T]`` and cached codes ``[B, T, K]``."""

    wave: torch.Tensor
    mask: torch.Tensor
    codes: Mapping[str, torch.Tensor]


class ForgettingProbe:
    """Fixed clips, crops and masks of each corpus; the same for every stage and step.

    Parameters
    ----------
    recipe
        The recipe, with ``forgetting``.
    corpora
        The prepared corpora by name.
    caches
        The codes of the teachers whose targets are cached.
    shape
        The sizes of a crop.
    progress
        Told of codes that have to be made first.

    Raises
    ------
    InputError
        A corpus has no track as long as a crop.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        corpora: Mapping[str, PreparedCorpus],
        caches: Mapping[str, TargetCache],
        shape: ClipShape,
        progress: Progress,
    ) -> None:
        assert recipe.forgetting is not None
        self.recipe = recipe
        self.batches: dict[str, list[ProbeBatch]] = {}
        for place, (name, corpus) in enumerate(sorted(corpora.items())):
            chosen = _chosen(recipe, corpus, place, shape)
            for cache in caches.values():
                cache.prepare([(track, segment) for track, segment, _ in chosen], progress)
            size = recipe.arguments.batch_size
            self.batches[name] = [
                _batch(chosen[first : first + size], recipe, caches, shape, (place, first))
                for first in range(0, len(chosen), size)
            ]

    @torch.no_grad()
    def measure(self, model: PretrainModel) -> dict[str, dict[str, float]]:
        """Return the loss and the masked accuracy of a model on each corpus.

        ``loss`` is that of training, per masked frame, of clips without noise; ``accuracy`` is the
        share of right answers over masked frames and codebooks, where a teacher has codes. The
        model is in evaluation mode meanwhile, and no random state is used up.

        Parameters
        ----------
        model
            The model, on the device that trains; its mode is given back.
        """
        was_training = model.training
        model.eval()
        device = next(model.parameters()).device
        try:
            with torch.random.fork_rng(
                devices=[device] if device.type == "cuda" else [],
            ):
                return {
                    name: _scores(
                        self.recipe,
                        [self.objective(model, batch, device) for batch in batches],
                    )
                    for name, batches in self.batches.items()
                }
        finally:
            model.train(was_training)

    def objective(self, model: PretrainModel, batch: ProbeBatch, device: torch.device) -> Objective:
        """Return the parts of a batch's loss, with gradients where they are on."""
        wave, mask = batch.wave.to(device), batch.mask.to(device)
        targets = {name: codes.to(device) for name, codes in batch.codes.items()}
        for name, teacher in model.teachers.items():
            if name not in targets:
                targets[name] = teacher.targets(wave)
        precision = self.recipe.arguments.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        with torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32"):
            objective: Objective = model(wave, mask, targets)
        return objective


def _scores(recipe: TrainRecipe, objectives: Sequence[Objective]) -> dict[str, float]:
    frames = sum(each.masked_frames for each in objectives)
    loss = sum(
        recipe.arguments.feature_penalty * float(each.penalty) * each.masked_frames
        for each in objectives
    )
    answers: list[float] = []
    for teacher in recipe.teachers:
        parts = [each.teachers[teacher.name] for each in objectives]
        loss += teacher.weight * sum(float(part.total) for part in parts)
        for name in parts[0].sums:
            if name.startswith("accuracy"):
                answers.append(sum(float(part.sums[name]) for part in parts) / frames)
    scores = {"loss": loss / frames}
    if answers:
        scores["accuracy"] = sum(answers) / len(answers)
    return scores


def _chosen(
    recipe: TrainRecipe, corpus: PreparedCorpus, place: int, shape: ClipShape
) -> list[tuple[PreparedTrack, Segment, int]]:
    """Return track, segment and the crop's start in it, of as many segments as there are."""
    assert recipe.forgetting is not None
    crop_s = recipe.arguments.crop_s
    splits = {prepared.track.split for prepared in corpus.tracks} - {None}
    split = recipe.forgetting.split if recipe.forgetting.split in splits else "train"
    segments = require_segments(corpus, crop_s, split if splits else None)
    generator = stream(_CHOICE, recipe.seed, place)
    order = generator.permutation(len(segments))
    chosen = []
    for number in range(recipe.forgetting.clips):
        segment = segments[int(order[number % len(order)])]
        choices = (segment.stop - segment.start - shape.samples) // shape.hop_length + 1
        start = int(generator.integers(choices)) * shape.hop_length
        chosen.append((corpus.tracks[segment.track_index], segment, start))
    return chosen


def _batch(
    chosen: Sequence[tuple[PreparedTrack, Segment, int]],
    recipe: TrainRecipe,
    caches: Mapping[str, TargetCache],
    shape: ClipShape,
    words: tuple[int, int],
) -> ProbeBatch:
    waves = [
        track.wave(segment.start + start, segment.start + start + shape.samples)
        for track, segment, start in chosen
    ]
    codes: dict[str, Any] = {
        name: np.stack(
            [
                cache.read(track, segment, start // shape.hop_length, shape.frames)
                for track, segment, start in chosen
            ]
        ).astype(np.int64)
        for name, cache in caches.items()
    }
    generator = stream(_MASK, recipe.seed, *words)
    mask = span_masks(len(chosen), shape.frames, recipe.arguments.masking, generator)
    return ProbeBatch(
        torch.from_numpy(np.stack(waves)),
        torch.from_numpy(mask),
        {name: torch.from_numpy(value) for name, value in codes.items()},
    )
