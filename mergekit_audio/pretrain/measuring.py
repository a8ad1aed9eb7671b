"""Measure what a training's micro-batches and optimiser steps cost here, on synthetic clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from mergekit_audio.pretrain.masking import span_masks
from mergekit_audio.pretrain.metering import peak_memory, timed
from mergekit_audio.pretrain.objective import (
    PretrainModel,
    prepare_layers,
    public_names,
    teacher_weights,
)
from mergekit_audio.pretrain.parameters import trainable_names
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.sampling import BATCH, stream
from mergekit_audio.recipe.train import Stage
from mergekit_audio.teachers.base import OpenTeacher

STAND_IN_WIDTH = 512
"""Eight codebooks' projections to 64 numbers, as MERT-95M's."""


@dataclass(frozen=True)
class Measured:
    """Seconds of an optimiser step, peak memory in bytes, and the clips it was measured with."""

    seconds: float
    memory_bytes: float
    clips: int


class _StandIn(OpenTeacher):
    """In place of a teacher that has to be fitted first: a head of MERT's size."""

    digest = ""

    def __init__(self, frame_count: Callable[[int], int]) -> None:
        self.frame_count = frame_count

    def targets(self, wave: torch.Tensor) -> torch.Tensor:
        """Return zeros ``[B, T, 512]``."""
        frames = self.frame_count(wave.shape[1])
        return torch.zeros(len(wave), frames, STAND_IN_WIDTH, device=wave.device)

    def head(self, hidden_size: int) -> nn.Module:
        """Return a linear head."""
        return nn.Linear(hidden_size, STAND_IN_WIDTH)

    def loss(
        self, head: nn.Module, frames: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return a squared error."""
        return (head(frames) - target).square().mean(-1).sum(), {}


def open_teachers(plan: TrainPlan, device: str) -> dict[str, OpenTeacher]:
    """Return the recipe's teachers, a stand-in for each that has to be fitted first."""
    opened: dict[str, OpenTeacher] = {}
    for teacher in plan.recipe.teachers:
        if teacher.name in plan.pending_teachers:
            opened[teacher.name] = _StandIn(plan.recipe.backbone.frame_count)
        else:
            fitted = plan.fitted.get(teacher.name)
            opened[teacher.name] = teacher.open(fitted, root=plan.root, device=device)
    return opened


def random_model(plan: TrainPlan, teachers: dict[str, OpenTeacher], device: str) -> PretrainModel:
    """Return a model of the plan's shape with random weights."""
    recipe = plan.recipe
    hidden_size = int(plan.config["hidden_size"])
    model = PretrainModel(
        recipe.backbone.build(plan.config, None, training=True, device=device, seed=recipe.seed),
        {name: teacher.head(hidden_size).float() for name, teacher in teachers.items()},
        teachers,
        feature_grad_mult=recipe.arguments.feature_grad_mult,
    )
    prepare_layers(model, checkpointing=recipe.arguments.gradient_checkpointing, compiling=False)
    return model.to(device)


def measure(plan: TrainPlan, stage: Stage, model: PretrainModel, budget_s: float) -> Measured:
    """Measure a stage's micro-batch and its optimiser.

    A whole micro-batch that would not fit into the budget is one clip's time, and its memory above
    the model's, times the clips.

    Parameters
    ----------
    budget_s
        Seconds to spend, about, after the first clip.
    """
    arguments = plan.recipe.arguments
    optimizer, trained = _begin(plan, stage, model)
    device = next(model.parameters()).device
    with peak_memory(device) as idle:
        pass
    with peak_memory(device) as peak:
        seconds = _micro_batch(plan, model, 1)
        optimizer.step()
        clips = 1
        if seconds * arguments.batch_size < budget_s:
            clips, spent = arguments.batch_size, 0.0
            best = float("inf")
            while best == float("inf") or spent + best < min(budget_s, 0.5):
                optimizer.zero_grad()
                last = _micro_batch(plan, model, clips)
                best, spent = min(best, last), spent + last
            seconds = best
        update = timed(optimizer.step, device)
    for parameter in trained:
        parameter.grad = None
    share = arguments.batch_size / clips
    memory = peak[0] if clips > 1 else idle[0] + (peak[0] - idle[0]) * share
    return Measured(seconds * share * arguments.accumulation + update, memory, clips)


def memory_of_clips(plan: TrainPlan, stage: Stage, model: PretrainModel) -> Callable[[int], float]:
    """Return the bytes that a micro-batch takes as a function of its clips.

    A straight line through the measured peaks of 1 and 2 clips, AdamW's state included.
    """
    optimizer, trained = _begin(plan, stage, model)
    optimizer.step()
    device = next(model.parameters()).device
    peaks = []
    for clips in (1, 2):
        with peak_memory(device) as peak:
            _micro_batch(plan, model, clips)
        peaks.append(peak[0])
    for parameter in trained:
        parameter.grad = None
    return lambda clips: peaks[0] + (clips - 1) * max(0.0, peaks[1] - peaks[0])


def _begin(
    plan: TrainPlan, stage: Stage, model: PretrainModel
) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """Set what trains, and do what only the first micro-batch costs."""
    names = public_names(model)
    chosen = set(trainable_names(plan.recipe, stage, names.values()))
    plan.recipe.transfer.prepare(model, [own for own, name in names.items() if name in chosen])
    model.eval_when_frozen = stage.frozen_mode == "eval"
    model.eval()
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0, fused=True)
    _micro_batch(plan, model, 1)
    optimizer.zero_grad()
    return optimizer, trained


def _micro_batch(plan: TrainPlan, model: PretrainModel, clips: int) -> float:
    """Return the seconds of one micro-batch, forward and backward, targets of crops included."""
    recipe = plan.recipe
    arguments = recipe.arguments
    samples = round(arguments.crop_s * recipe.backbone.sample_rate_hz)
    frames = recipe.backbone.frame_count(samples)
    device = next(model.parameters()).device
    wave = (0.1 * torch.randn(clips, samples)).to(device)
    generator = stream(BATCH, recipe.seed, clips)
    mask = torch.from_numpy(span_masks(clips, frames, arguments.masking, generator)).to(device)
    cached = {each.name for each in recipe.teachers if type(each).targets_are_cached}
    with torch.no_grad():
        codes = {name: model.teachers[name].targets(wave) for name in cached}
    dtype = torch.float16 if arguments.precision == "fp16" else torch.bfloat16

    def work() -> None:
        with torch.no_grad():
            made = {
                name: teacher.targets(wave)
                for name, teacher in model.teachers.items()
                if name not in cached
            }
        with torch.autocast(device.type, dtype=dtype, enabled=arguments.precision != "fp32"):
            objective = model(wave, mask, codes | made)
            loss = objective.loss(
                teacher_weights(recipe), arguments.feature_penalty, objective.masked_frames
            )
        loss.backward()

    return timed(work, device)
