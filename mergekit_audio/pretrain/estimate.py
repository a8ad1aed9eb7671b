"""Estimate what a training costs on this device, from a few measured steps on synthetic clips."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from mergekit_audio.pretrain.batch import chosen_batch_size, settled
from mergekit_audio.pretrain.measuring import (
    STAND_IN_WIDTH,
    measure,
    open_teachers,
    random_model,
)
from mergekit_audio.pretrain.metering import seeded, timed
from mergekit_audio.pretrain.objective import device_name
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.processes import clips_per_step
from mergekit_audio.pretrain.timing import hours_of
from mergekit_audio.recipe.train import Stage
from mergekit_audio.teachers.base import OpenTeacher

BUDGET_S = 15.0
_CODEBOOKS = 8
_FLOAT_BYTES, _CODE_BYTES, _SAMPLE_BYTES = 4, 2, 2
_GB = 1e9


def estimate(plan: TrainPlan, *, budget_s: float = BUDGET_S) -> dict[str, Any]:
    """Return time, memory and disk of a training as JSON values.

    Each stage does micro-batches of noise, forward and backward, with its own parameters and one
    step of AdamW, on a model of the plan's shape with random weights. A stage's time is
    ``steps · (micro-batches · seconds + optimiser)``. Where a whole micro-batch would not fit into
    the budget it is one clip's time and memory above the model's, times the clips. Stages that the
    budget does not reach get the figures of the dearest stage before, and say so.

    Parameters
    ----------
    budget_s
        Seconds to spend, about; opening the model and each stage's first clip come on top.
    """
    if plan.recipe.arguments.gradient_accumulation_steps == "auto":
        plan = settled(plan, chosen_batch_size(plan))
    recipe, device = plan.recipe, device_name()
    with seeded(recipe.arguments.num_threads, recipe.seed):
        teachers = open_teachers(plan, device)
        model = random_model(plan, teachers, device)
        until = time.monotonic() + budget_s
        stages: list[dict[str, Any]] = []
        for place, stage in enumerate(recipe.stages):
            left = until - time.monotonic()
            if stages and left <= 0:
                dearest = max(stages, key=lambda each: each["seconds_per_step"])
                seconds, clips = dearest["seconds_per_step"], 0
                memory = dearest["memory_gb"] + _more_state_gb(plan, stage, dearest["name"])
            else:
                found = measure(plan, stage, model, left / (len(recipe.stages) - place))
                seconds, memory, clips = found.seconds, found.memory_bytes / _GB, found.clips
            stages.append(_stage(plan, stage, seconds, memory, clips))
        encoding = _encoding_hours(plan, teachers, device)
    disk = _disk(plan)
    hours = sum(each["hours"] for each in stages)
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": recipe.arguments.num_threads or torch.get_num_threads(),
        "precision": recipe.arguments.precision,
        "batch_size": recipe.arguments.batch_size,
        "gradient_accumulation_steps": recipe.arguments.accumulation,
        "stages": stages,
        "hours": round(hours + sum(encoding.values()), 4),
        "hours_of_making_codes": {name: round(value, 4) for name, value in encoding.items()},
        "memory_gb": max(each["memory_gb"] for each in stages),
        "disk_gb": {name: round(value / _GB, 4) for name, value in disk.items()},
        "notes": list(_notes(plan, stages, disk)),
    }


def _more_state_gb(plan: TrainPlan, stage: Stage, measured: str) -> float:
    """Return what a stage's gradients and AdamW's state take above those of a measured stage."""
    counts = {each["name"]: each["trainable_parameters"] for each in plan.as_dict()["stages"]}
    return float(3 * _FLOAT_BYTES * max(0, counts[stage.name] - counts[measured]) / _GB)


def _stage(
    plan: TrainPlan, stage: Stage, seconds: float, memory_gb: float, clips: int
) -> dict[str, Any]:
    audio_s = clips_per_step(plan.recipe.arguments) * plan.recipe.arguments.crop_s
    return {
        "name": stage.name,
        "seconds_per_step": round(seconds, 4),
        "hours": round(stage.steps * seconds / 3600, 4),
        "audio_seconds_per_second": round(audio_s / seconds, 3),
        "memory_gb": round(memory_gb, 3),
        "measured_clips": clips,
    }


def _encoding_hours(
    plan: TrainPlan, teachers: dict[str, OpenTeacher], device: str
) -> dict[str, float]:
    """Return the hours to make each cached teacher's codes of all corpora, once."""
    recipe = plan.recipe
    samples = round(recipe.arguments.crop_s * recipe.backbone.sample_rate_hz)
    wave = 0.1 * torch.randn(1, samples, device=device)
    held = _audio_hours(plan)
    hours = {}
    for teacher in recipe.teachers:
        if type(teacher).targets_are_cached and teacher.name not in plan.pending_teachers:
            with torch.no_grad():
                opened = teachers[teacher.name]
                opened.targets(wave)
                seconds = timed(partial(opened.targets, wave), torch.device(device))
            hours[teacher.name] = held * seconds / recipe.arguments.crop_s
    return hours


def _audio_hours(plan: TrainPlan) -> float:
    return sum(hours_of(tracks) or 0.0 for tracks in plan.tracks.values())


def _disk(plan: TrainPlan) -> dict[str, float]:
    """Return bytes: of the store, of checkpoints (three while one is written), of the output."""
    facts = plan.as_dict()
    stages, weights = facts["stages"], facts["parameters"] * _FLOAT_BYTES
    trained = max(stage["trainable_parameters"] for stage in stages) * _FLOAT_BYTES
    seconds = _audio_hours(plan) * 3600
    rate = plan.recipe.backbone.sample_rate_hz
    frames = rate / plan.recipe.backbone.hop_length
    books = sum(
        int(getattr(teacher, "codebooks", _CODEBOOKS))
        for teacher in plan.recipe.teachers
        if type(teacher).targets_are_cached
    )
    return {
        "samples": seconds * rate * _SAMPLE_BYTES,
        "codes": seconds * frames * books * _CODE_BYTES,
        "checkpoints": 3 * (weights + 2 * trained),
        "finished_stages": len(stages) * weights,
        "output": weights,
    }


def _notes(plan: TrainPlan, stages: list[dict[str, Any]], disk: dict[str, float]) -> Iterator[str]:
    for stage in stages:
        if stage["measured_clips"] == 0:
            yield f"stage {stage['name']!r} was not measured: the figures of the dearest one before"
        elif stage["measured_clips"] < plan.recipe.arguments.batch_size:
            yield f"stage {stage['name']!r} was measured with one clip, and scaled"
    for name in plan.pending_teachers:
        yield f"{name} is fitted first: measured with a head of {STAND_IN_WIDTH} outputs instead"
    if plan.recipe.arguments.torch_compile:
        yield "measured without torch_compile"
    place = plan.output.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < sum(disk.values()):
        yield (
            f"warning: needs up to {sum(disk.values()) / _GB:.1f} GB of disk, and {place} has "
            f"{free / _GB:.1f} GB free"
        )
    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory / _GB
        if max(stage["memory_gb"] for stage in stages) > total:
            yield f"warning: needs more memory than the device's {total:.1f} GB"
