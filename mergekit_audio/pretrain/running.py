"""Run a training: sound, teachers, stages, output; resumed where a killed process left it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mergekit_audio import __version__
from mergekit_audio.errors import InputError
from mergekit_audio.files import require_free, staged_file
from mergekit_audio.lock import LOCK_NAME, Lock, read_lock
from mergekit_audio.pretrain.batch import chosen_batch_size, settled
from mergekit_audio.pretrain.corpora import REPLAY, TrainingAudio, corpus_places, prepare_audio
from mergekit_audio.pretrain.heads import FITTED_FOLDER
from mergekit_audio.pretrain.notes import hour_notes
from mergekit_audio.pretrain.objective import device_name
from mergekit_audio.pretrain.output import write_output
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.processes import (
    Processes,
    joined,
    require_processes,
    started_processes,
)
from mergekit_audio.pretrain.sampling import FIT, seed_of
from mergekit_audio.pretrain.work import Work, open_work
from mergekit_audio.progress import Progress, remark, silent
from mergekit_audio.teachers.base import OpenTeacher, Teacher

_BATCH_SIZE = "chosen batch_size"


def run(
    plan: TrainPlan,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
) -> Lock:
    """Train all stages and write the model folder with its heads, teachers, log, card and lock.

    Work in progress is kept in ``<output>.work/`` and is taken up by the same call after a kill or
    Ctrl-C; on a CPU the weights are then those of an uninterrupted run, bit for bit.

    Started by ``torchrun -m mergekit_audio`` as N processes, on one machine or on several that
    share the files, each process trains on its part of every step, and the first alone writes. An
    optimiser step then has N times the clips, and the same N resumes it.

    Parameters
    ----------
    plan
        What ``plan`` returned.
    force
        Replace an output that exists, and throw away the unfinished work of another training.
    progress
        Told of every recording, code file and step.
    command, overrides
        The command line and its ``--set`` values, kept in the lock.
    output
        Another folder than the recipe's.

    Raises
    ------
    InputError
        The output exists (without ``force``) or holds an input, another training's work is in
        the way, no recording can be used, the training diverged, or something can't be written.
    DependencyError
        There are fewer GPUs than processes, or another process stopped.
    UsageError
        One process alone is to train in shards (``arguments.parallel: fsdp``).
    """
    from mergekit_audio.pretrain.stage import train_stage  # with transformers' Trainer: seconds

    target = Path(plan.output if output is None else output)
    _refuse_inputs_inside(plan, target)
    require_processes(plan.recipe.arguments)
    with joined(device_name()) as processes, contextlib.ExitStack() as held:
        progress = progress if processes.is_main else silent
        work = processes.on_main(lambda: held.enter_context(open_work(target)))
        written = processes.on_main(lambda: _begin(plan, target, work, force, progress))
        if written is not None:
            return written
        plan = _settled(plan, work, processes)
        with _threads(plan.recipe.arguments.num_threads), _random_state_kept(processes):
            audio = processes.on_main(lambda: _audio(plan, work, force, progress))
            teachers = _open_teachers(plan, work, audio, processes, progress)
            for index in range(len(plan.recipe.stages)):
                train_stage(plan, index, work, audio, teachers.opened, progress, processes)

            def finish() -> Lock:
                made = write_output(
                    plan,
                    target,
                    work,
                    audio,
                    teachers.fitted,
                    {name: teacher.digest for name, teacher in teachers.opened.items()},
                    force=force,
                    progress=progress,
                    command=command,
                    overrides=overrides,
                )
                work.remove()
                return made

            lock = processes.on_main(finish)
    return lock


def _begin(
    plan: TrainPlan, target: Path, work: Work, force: bool, progress: Progress
) -> Lock | None:
    """Claim the work folder; return the lock when the output is there already."""
    identity = _recipe_identity(plan)
    if work.holds(identity) and work.is_written(target / LOCK_NAME):
        work.remove()  # it was killed after its output got its name
        return read_lock(target)
    require_free(target, force=force)
    work.claim(identity, anew=force)
    for note in plan.notes:
        progress(remark("plan", note))
    return None


def _settled(plan: TrainPlan, work: Work, processes: Processes) -> TrainPlan:
    """Choose an automatic micro-batch once; a resumed training keeps it."""
    if plan.recipe.arguments.gradient_accumulation_steps != "auto":
        return plan

    def choose() -> int:
        kept = work.claimed(_BATCH_SIZE)
        if not isinstance(kept, int):
            kept = chosen_batch_size(plan)
            work.claim({_BATCH_SIZE: kept}, anew=False)
        return kept

    return settled(plan, processes.on_main(choose))


def _audio(plan: TrainPlan, work: Work, force: bool, progress: Progress) -> TrainingAudio:
    audio = prepare_audio(plan, progress)
    work.claim(_input_identity(plan, audio), anew=force)
    for note in hour_notes(plan.recipe, audio.hours()):
        progress(remark("plan", f"warning: {note}"))
    return audio


@dataclass(frozen=True)
class _Teachers:
    """Open teachers by name, and the files of those that were fitted."""

    opened: Mapping[str, OpenTeacher]
    fitted: Mapping[str, Path]


def _open_teachers(
    plan: TrainPlan,
    work: Work,
    audio: TrainingAudio,
    processes: Processes,
    progress: Progress,
) -> _Teachers:
    """Open the teachers; fit those that need it and that the base does not bring."""
    opened, fitted = {}, {}
    for place, teacher in enumerate(plan.recipe.teachers):
        if teacher.needs_fit:
            path = work.folder / FITTED_FOLDER / f"{teacher.name}.safetensors"
            processes.on_main(partial(_fit, plan, teacher, place, path, audio, progress))
            fitted[teacher.name] = path
        opened[teacher.name] = teacher.open(
            fitted.get(teacher.name), root=plan.root, device=device_name()
        )
    return _Teachers(opened, fitted)


def _fit(
    plan: TrainPlan,
    teacher: Teacher,
    place: int,
    path: Path,
    audio: TrainingAudio,
    progress: Progress,
) -> None:
    if path.exists():
        return
    path.parent.mkdir(exist_ok=True)
    if teacher.name in plan.fitted:
        with staged_file(path) as staging:
            shutil.copyfile(plan.fitted[teacher.name], staging)
        return
    keys = [REPLAY] if REPLAY in audio.sources else sorted(audio.sources)
    clips = _Waves(audio, keys)
    with staged_file(path) as staging:
        teacher.fit(clips, staging, seed=seed_of(FIT, plan.recipe.seed, place), progress=progress)


class _Waves:
    """The training segments of corpora as waveforms ``[S]``, read one at a time."""

    def __init__(self, audio: TrainingAudio, keys: Sequence[str]) -> None:
        self._sources = [audio.sources[key] for key in keys]

    def __iter__(self) -> Iterator[torch.Tensor]:
        for source in self._sources:
            for index in range(len(source.segments)):
                track, segment = source.item(index)
                yield torch.from_numpy(np.array(track.wave(segment.start, segment.stop)))


def _recipe_identity(plan: TrainPlan) -> dict[str, Any]:
    recipe = plan.recipe.model_dump(mode="json")
    # A run that stopped at a divergence may be taken up to go on with rollbacks.
    recipe["arguments"].pop("on_divergence")
    kept = {f"recipe.{key}": recipe[key] for key in recipe if key not in ("output", "store")}
    kept["processes"] = started_processes()
    versions = {"mergekit_audio": __version__, "device": device_name()}
    for package in ("torch", "transformers", "numpy"):
        versions[package] = importlib.metadata.version(package)
    return {**kept, "versions": versions}


def _input_identity(plan: TrainPlan, audio: TrainingAudio) -> dict[str, Any]:
    base = "" if plan.base is None else plan.base.digest()
    return {"base content": base} | {f"{key} content": d for key, d in audio.digests().items()}


def _refuse_inputs_inside(plan: TrainPlan, target: Path) -> None:
    inputs = dict(corpus_places(plan))
    if plan.base is not None:
        inputs["base"] = plan.base.folder
    place = target.resolve()
    for name, path in inputs.items():
        if place == path.resolve() or place in path.resolve().parents:
            raise InputError(
                f"{target}: the output would replace {name} ({path})",
                "choose another output (--set output=…)",
            )


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _random_state_kept(processes: Processes) -> Iterator[None]:
    """Give the caller's global random states back: transformers' Trainer seeds all of them.

    Of many processes each looks at its own GPU alone: a look takes memory there.
    """
    devices = list(range(torch.cuda.device_count()))
    if processes.count > 1 and devices:
        devices = [torch.cuda.current_device()]
    own, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpy_state)
