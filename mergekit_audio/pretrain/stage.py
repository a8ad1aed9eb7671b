"""Train one stage: the model as the stage before left it, its clips, its targets, its trainer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import nn

from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_folder
from mergekit_audio.pretrain.corpora import TrainingAudio, stage_sources
from mergekit_audio.pretrain.data import Clips, ClipShape, Collate, window_pool
from mergekit_audio.pretrain.forgetting import ForgettingProbe
from mergekit_audio.pretrain.guard import DivergenceError
from mergekit_audio.pretrain.job import StageJob
from mergekit_audio.pretrain.objective import PretrainModel, device_name, teacher_weights
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.processes import Processes, clips_per_step
from mergekit_audio.pretrain.rollback import Rollbacks, last_step
from mergekit_audio.pretrain.sampling import clip_order
from mergekit_audio.pretrain.stage_log import StageLog, open_board
from mergekit_audio.pretrain.stage_model import build_model, choose_parameters
from mergekit_audio.pretrain.start_check import check_start
from mergekit_audio.pretrain.targets import TargetCache
from mergekit_audio.pretrain.trainer import StageTrainer
from mergekit_audio.pretrain.work import StageFolder, Work
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.train import Stage, TrainRecipe
from mergekit_audio.teachers.base import OpenTeacher
from mergekit_audio.weights.writer import TensorSpec, write_tensors


def train_stage(
    plan: TrainPlan,
    index: int,
    work: Work,
    audio: TrainingAudio,
    teachers: Mapping[str, OpenTeacher],
    progress: Progress,
    processes: Processes,
) -> None:
    """Train a stage, or do nothing when its result stands in the work folder.

    Raises
    ------
    RecipeError
        A glob matches no parameter (of heads that could not be known when the plan was made).
    InputError
        The training diverged, or a file can't be read or written.
    """
    stage = plan.recipe.stages[index]
    folder = work.stage(index, stage.name)
    task = f"stage {stage.name}"
    if processes.on_main(folder.finished.is_dir):
        progress(ProgressEvent(task, stage.steps, stage.steps, "finished before"))
        return
    shape = clip_shape(plan.recipe)
    clips = _clips(plan, index, audio, teachers, shape, progress, processes)
    probe = _probe(plan, audio, clips, shape, progress, processes)
    rollbacks = Rollbacks(folder)
    while True:
        lowered = processes.on_main(lambda: rollbacks.lowered(stage))
        try:
            model = _train(
                plan, index, lowered, work, teachers, clips, shape, probe, progress, processes
            )
            break
        except DivergenceError as error:
            failure = error.with_traceback(None)  # lets go of the model
        processes.on_main(partial(_roll_back, plan, failure, lowered, rollbacks, task, progress))
    processes.on_main(lambda: _finish(plan, folder, model))


def _train(
    plan: TrainPlan,
    index: int,
    stage: Stage,
    work: Work,
    teachers: Mapping[str, OpenTeacher],
    clips: Clips,
    shape: ClipShape,
    probe: ForgettingProbe | None,
    progress: Progress,
    processes: Processes,
) -> PretrainModel:
    """Train a stage from its last checkpoint, or from its beginning, and return the model."""
    folder = work.stage(index, stage.name)
    model = build_model(plan, index, work, teachers)
    groups = choose_parameters(plan, index, stage, model)
    first_step = last_step(folder)
    logs = work.folder / "logs" / stage.name
    board = open_board(logs, first_step=first_step) if processes.is_main else None
    arguments = plan.recipe.arguments
    try:
        job = StageJob(
            stage=stage,
            index=index,
            seed=plan.recipe.seed,
            arguments=arguments,
            weights=teacher_weights(plan.recipe),
            clips=clips,
            collate=Collate(
                arguments,
                shape,
                seed=plan.recipe.seed,
                stage=index,
                keep_clean=set(clips.caches) != set(teachers),
                pool=window_pool(arguments, clips),
            ),
            folder=folder,
            log=StageLog(
                folder.log,
                stage=stage.name,
                every=arguments.logging_steps,
                steps=stage.steps,
                weights=teacher_weights(plan.recipe),
                feature_penalty=arguments.feature_penalty,
                board=board,
                speed_path=logs / "speed.jsonl",
                step_audio_s=clips_per_step(arguments) * arguments.crop_s,
            ),
            progress=progress,
            processes=processes,
            groups=groups,
            probe=probe,
            forgetting=plan.recipe.forgetting,
        )
        progress(ProgressEvent(f"stage {stage.name}", first_step, stage.steps))
        if index == 0 and plan.imported_heads:
            processes.on_main(lambda: check_start(model, job))
        StageTrainer(model, job).train_or_resume()
    finally:
        if board is not None:
            board.close()
    return model


def _roll_back(
    plan: TrainPlan,
    error: DivergenceError,
    stage: Stage,
    rollbacks: Rollbacks,
    task: str,
    progress: Progress,
) -> None:
    made = rollbacks.add(error, stage, plan.recipe.arguments)
    note = f"step {made.step}: {made.reason}; back to step {made.to_step}, peak_lr {made.peak_lr:g}"
    progress(ProgressEvent(task, made.to_step, stage.steps, note, is_remark=True))


def _probe(
    plan: TrainPlan,
    audio: TrainingAudio,
    clips: Clips,
    shape: ClipShape,
    progress: Progress,
    processes: Processes,
) -> ForgettingProbe | None:
    """Open the forgetting probe in the main process, which alone measures, unless in shards."""
    if not audio.probed:
        return None

    made: list[ForgettingProbe] = []

    def open_one() -> None:
        made.append(ForgettingProbe(plan.recipe, audio.probed, clips.caches, shape, progress))

    processes.on_main(open_one)  # it also makes codes that lack, for all
    if plan.recipe.arguments.parallel == "fsdp" and not made:
        open_one()
    return made[0] if made else None


def clip_shape(recipe: TrainRecipe) -> ClipShape:
    """Return the sizes of a crop.

    Raises
    ------
    InputError
        A crop holds no more frames than a masked span.
    """
    backbone, arguments = recipe.backbone, recipe.arguments
    samples = round(arguments.crop_s * backbone.sample_rate_hz)
    frames = backbone.frame_count(samples)
    if frames <= arguments.masking.mask_length:
        raise InputError(
            f"arguments.crop_s: {arguments.crop_s:g} s has {max(frames, 0)} frames, too few "
            f"for masked spans of {arguments.masking.mask_length}",
            "train on longer crops (--set arguments.crop_s=5)",
        )
    return ClipShape(samples, frames, backbone.hop_length, backbone.sample_rate_hz)


def _clips(
    plan: TrainPlan,
    index: int,
    audio: TrainingAudio,
    teachers: Mapping[str, OpenTeacher],
    shape: ClipShape,
    progress: Progress,
    processes: Processes,
) -> Clips:
    recipe, stage = plan.recipe, plan.recipe.stages[index]
    arguments = recipe.arguments
    sources, shares = stage_sources(stage, audio, seed=recipe.seed, index=index)
    order = clip_order(
        shares,
        [len(source.segments) for source in sources],
        stage.steps * clips_per_step(arguments),
        seed=recipe.seed,
        stage=index,
    )
    caches = {
        teacher.name: TargetCache(plan.store, teacher.name, teachers[teacher.name], device_name())
        for teacher in recipe.teachers
        if type(teacher).targets_are_cached
    }
    used = sorted(set(zip(order.sources.tolist(), order.segments.tolist(), strict=True)))
    workers = arguments.num_threads or core_count()
    for cache in caches.values():
        items = [sources[source].item(segment) for source, segment in used]
        processes.on_main(partial(cache.prepare, items, progress, workers=workers))
    return Clips(
        sources,
        order,
        caches,
        shape,
        snap=arguments.snap_crops_to_frames,
        seed=recipe.seed,
        stage=index,
    )


def _finish(plan: TrainPlan, folder: StageFolder, model: PretrainModel) -> None:
    """Write the stage's result; its checkpoints have done their work."""
    _keep(folder.finished, plan.recipe.transfer.finish(model.backbone), model.heads)
    folder.drop_checkpoints()


def _keep(target: Path, backbone: Mapping[str, torch.Tensor], heads: nn.ModuleDict) -> None:
    with staged_folder(target, force=True) as staging:
        for stem, state in (("model", backbone), ("heads", heads.state_dict())):
            tensors = sorted((name, each.detach().cpu()) for name, each in state.items())
            specs = [
                TensorSpec(name, tuple(each.shape), str(each.dtype).removeprefix("torch."))
                for name, each in tensors
            ]
            write_tensors(staging, specs, tensors, stem=stem)
