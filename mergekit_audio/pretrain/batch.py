"""Settle what a recipe leaves open: steps from hours, and the micro-batch that the memory holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.pretrain.measuring import memory_of_clips, open_teachers, random_model
from mergekit_audio.pretrain.metering import seeded
from mergekit_audio.pretrain.objective import device_name
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.processes import clips_per_step, started_processes

MEMORY_SHARE = 0.8
"""How much of a device's memory a micro-batch may take; the rest is for what is not measured."""


def settled(plan: TrainPlan, batch_size: int) -> TrainPlan:
    """Return the plan with a chosen micro-batch and the accumulation that follows from it.

    ``accumulation = clips_per_step / (batch_size · processes)``; the recipe that goes into the lock
    says the same numbers, so that a rebuild does not choose again.
    """
    arguments = plan.recipe.arguments
    accumulation = clips_per_step(arguments) // (batch_size * started_processes())
    chosen = {
        "arguments": arguments.model_copy(
            update={
                "batch_size": batch_size,
                "gradient_accumulation_steps": accumulation,
                "clips_per_step": None,
            }
        )
    }
    return replace(
        plan,
        recipe=plan.recipe.model_copy(update=chosen),
        written=plan.written.model_copy(update=chosen),
    )


def chosen_batch_size(plan: TrainPlan) -> int:
    """Return the largest micro-batch that divides a process's part of the step and fits.

    The memory of b clips is a straight line through measured micro-batches of 1 and 2 clips, on the
    stage with the most trainable parameters. A single clip is taken on trust.

    Raises
    ------
    RecipeError
        The clips of a step can't be dealt out evenly to the processes.
    """
    arguments, processes = plan.recipe.arguments, started_processes()
    clips = clips_per_step(arguments)
    if clips % processes:
        problem = f"{clips} clips can't be dealt out evenly to {processes} processes"
        hint = f"choose a multiple of {processes} (--set arguments.clips_per_step=…)"
        raise RecipeError([Fault("", 0, 0, "arguments.clips_per_step", problem)], hint)
    own = clips // processes
    sizes = [size for size in range(1, min(own, arguments.batch_size) + 1) if own % size == 0]
    if len(sizes) == 1:
        return sizes[0]
    device = device_name()
    limit = MEMORY_SHARE * device_memory(device)
    with seeded(arguments.num_threads, plan.recipe.seed):
        needed = _needed(plan, device)
    return max((size for size in sizes if needed(size) <= limit), default=1)


def device_memory(device: str) -> float:
    """Return the bytes of a GPU, or of this machine as far as its control group lets us."""
    if device == "cuda":
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    physical = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limits = [physical]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(float(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return min(limits)


def _needed(plan: TrainPlan, device: str) -> Callable[[int], float]:
    counts = {each["name"]: each["trainable_parameters"] for each in plan.as_dict()["stages"]}
    dearest = max(plan.recipe.stages, key=lambda stage: counts[stage.name])
    teachers = open_teachers(plan, device)
    model = random_model(plan, teachers, device)
    try:
        return memory_of_clips(plan, dearest, model)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return lambda clips: 0.0 if clips == 1 else float("inf")
