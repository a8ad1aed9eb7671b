"""Search λ by the models' own pre-training loss on unlabelled audio."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.audio.prepared import PreparedCorpus
from mergekit_audio.errors import InputError
from mergekit_audio.lock import LOCK_NAME, read_lock, recipe_root
from mergekit_audio.pretrain.forgetting import ForgettingProbe, ProbeBatch
from mergekit_audio.pretrain.groups import group_of
from mergekit_audio.pretrain.heads import FITTED_FOLDER, HEADS_NAME, heads_file
from mergekit_audio.pretrain.metering import seeded
from mergekit_audio.pretrain.objective import (
    PretrainModel,
    device_name,
    teacher_weights,
)
from mergekit_audio.pretrain.stage import clip_shape
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.label_free import LabelFree
from mergekit_audio.recipe.load import from_dict
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.recipe.trust import Forgetting
from mergekit_audio.sweep.unlabelled.composed_model import compose
from mergekit_audio.sweep.unlabelled.descent import Composition, Descent, descend
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name

ALL = "all"
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


@dataclass(frozen=True)
class Found:
    """What one space's search came to.

    Parameters
    ----------
    space
        ``shared``, ``per_culture`` or ``per_layer``.
    descent
        λ, loss and history; culture weights are not in these λ.
    losses
        The loss of each corpus at the λ found.
    state
        The merged backbone by parameter name, float32 on the CPU.
    """

    space: str
    descent: Descent
    losses: dict[str, float]
    state: dict[str, torch.Tensor]


@dataclass(frozen=True)
class LabelFreeResult:
    """The searches, and the loss along the shared λ.

    Parameters
    ----------
    found
        One a space.
    curve
        For each shared λ asked for: ``{"scale", "loss", "losses"}``, losses by corpus.
    """

    found: tuple[Found, ...]
    curve: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for the summary."""
        return {
            "spaces": {
                each.space: {
                    "scales": each.descent.scales,
                    "loss": each.descent.loss,
                    "losses": each.losses,
                    "history": [loss for loss, _ in each.descent.history],
                }
                for each in self.found
            },
            "curve": list(self.curve),
        }


def search_label_free(
    settings: LabelFree,
    *,
    base: Checkpoint,
    cultures: Mapping[str, tuple[Checkpoint, float]],
    corpora: Mapping[str, PreparedCorpus],
    store: Path,
    scales: Sequence[float],
    seed: int,
    progress: Progress,
) -> LabelFreeResult:
    """Minimise the mean over corpora of the masked-prediction loss over λ.

    ``θ(λ) = base + Σ_i λ_i w_i τ_i`` for the backbone, and for heads that base and cultures share.
    The objective is that of the models' training (teachers and settings from the lock of the first
    model that has one), on clean clips with fixed masks, without dropout, and with the gradient of
    the front at full size.

    Parameters
    ----------
    settings
        Audio, spaces, descent.
    base
        θ_base.
    cultures
        θ_i with the weight w_i of each.
    corpora
        Prepared audio by name.
    store
        The prepared store, where teachers' codes are kept.
    scales
        Shared λ at which the loss is computed as well, for the curve.
    seed
        Draws the clips and masks.
    progress
        Told of every round.

    Raises
    ------
    InputError
        No model has pre-training heads and the recipe that trained them, tracks are shorter than a
        clip, or the loss is not finite.
    """
    device = device_name()
    models = {"base": base, **{name: each for name, (each, _) in cultures.items()}}
    recipe, root = _recipe(models, settings, seed)
    with seeded(settings.num_threads, seed):
        teachers = _open_teachers(recipe, root, models, device)
        caches = {
            teacher.name: TargetCache(store, teacher.name, teachers[teacher.name], device)
            for teacher in recipe.teachers
            if type(teacher).targets_are_cached
        }
        probe = ForgettingProbe(recipe, corpora, caches, clip_shape(recipe), progress)
        model, vectors, base_values = compose(recipe, models, cultures, teachers, device)
        loss = _Loss(recipe, probe, model)
        found = []
        for space in settings.spaces:
            groups = {name: _group(recipe, name, space) for name in base_values}
            composition = Composition(model, base_values, vectors, groups)
            descent = descend(
                composition,
                loss.step,
                rounds=settings.rounds,
                steps_a_round=loss.steps,
                learning_rate=settings.learning_rate,
                initial=settings.initial,
                shared=space == "shared",
                told=_teller(progress, space, settings.rounds),
            )
            composition.set_scales(_tensor(descent.scales))
            state = {
                name: value.detach().cpu().clone()
                for name, value in model.backbone.state_dict().items()
            }
            found.append(Found(space, descent, loss.by_corpus(), state))
        curve = []
        everywhere = Composition(model, base_values, vectors, dict.fromkeys(base_values, ALL))
        for scale in scales:
            everywhere.set_scales(torch.full((len(vectors), 1), scale, dtype=torch.float64))
            losses = loss.by_corpus()
            mean = math.fsum(losses.values()) / len(losses)
            curve.append({"scale": scale, "loss": mean, "losses": losses})
    return LabelFreeResult(tuple(found), tuple(curve))


class _Loss:
    """The mean over corpora of the loss per masked frame."""

    def __init__(self, recipe: TrainRecipe, probe: ForgettingProbe, model: PretrainModel) -> None:
        self.recipe, self.probe, self.model = recipe, probe, model
        self.weights = teacher_weights(recipe)
        self.device = next(model.parameters()).device
        self.steps = max(len(batches) for batches in probe.batches.values())

    def step(self, number: int) -> torch.Tensor:
        """Return the loss of the step's batch of each corpus; short corpora begin again."""
        parts = [
            self._of(batches[number % len(batches)]) for batches in self.probe.batches.values()
        ]
        return torch.stack(parts).mean()

    def by_corpus(self) -> dict[str, float]:
        """Return the loss of every corpus with the weights as they are."""
        scores = self.probe.measure(self.model)
        return {name: each["loss"] for name, each in scores.items()}

    def _of(self, batch: ProbeBatch) -> torch.Tensor:
        objective = self.probe.objective(self.model, batch, self.device)
        return objective.loss(
            self.weights, self.recipe.arguments.feature_penalty, objective.masked_frames
        )


def _recipe(
    models: Mapping[str, Checkpoint], settings: LabelFree, seed: int
) -> tuple[TrainRecipe, Path]:
    """Return the recipe that trained the first model with heads, made to probe, and its root."""
    for checkpoint in models.values():
        if heads_file(checkpoint) is None or not (checkpoint.folder / LOCK_NAME).is_file():
            continue
        lock = read_lock(checkpoint.folder)
        root = recipe_root(checkpoint.folder, lock)
        recipe = from_dict(lock.recipe, root)
        if isinstance(recipe, TrainRecipe):
            clips = max(1, round(settings.minutes * 60 / settings.crop_s))
            arguments = {
                "batch_size": settings.batch_size,
                "crop_s": settings.crop_s,
                "precision": "fp32",
            }
            probing = recipe.model_copy(
                update={
                    "seed": seed,
                    "forgetting": Forgetting(every_steps=1, clips=clips, split="train"),
                    "arguments": recipe.arguments.model_copy(update=arguments),
                }
            )
            return probing, root
    raise InputError(
        f"none of {', '.join(models)} has {HEADS_NAME} and the {LOCK_NAME} of its training",
        "label_free needs models that `cmerge train-culture` wrote; leave it out otherwise",
    )


def _open_teachers(
    recipe: TrainRecipe, root: Path, models: Mapping[str, Checkpoint], device: str
) -> dict[str, OpenTeacher]:
    opened = {}
    for teacher in recipe.teachers:
        places = [each.folder / FITTED_FOLDER for each in models.values()]
        files = [place / f"{teacher.name}.safetensors" for place in places]
        fitted = next((path for path in files if path.is_file()), None)
        opened[teacher.name] = teacher.open(fitted, root=root, device=device)
    return opened


def _group(recipe: TrainRecipe, name: str, space: str) -> str:
    """Return what shares a λ: everything, or a layer of the encoder and the other groups."""
    if space != "per_layer":
        return ALL
    public = canonical_name(name.removeprefix("backbone."))
    layer = _LAYER.match(public)
    return f"layer {layer[1]}" if layer else group_of(recipe, public)


def _tensor(scales: Mapping[str, Mapping[str, float]]) -> torch.Tensor:
    rows = [list(own.values()) for own in scales.values()]
    return torch.tensor(rows, dtype=torch.float64)


def _teller(progress: Progress, space: str, rounds: int) -> Any:
    def told(done: int, loss: float) -> None:
        progress(ProgressEvent(f"label-free λ, {space}", done, rounds, f"loss {loss:.4f}"))

    return told
