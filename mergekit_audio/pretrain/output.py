"""Write what a training made: weights in the base's spelling, heads, teachers, log, card, lock."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.files import sha256_of_file, staged_folder, write_json, write_text
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.locked import locked_checkpoint, locked_corpus
from mergekit_audio.pretrain.corpora import TrainingAudio
from mergekit_audio.pretrain.heads import FITTED_FOLDER, HEADS_NAME, heads_file
from mergekit_audio.pretrain.planner import TrainPlan
from mergekit_audio.pretrain.processes import started_processes
from mergekit_audio.pretrain.start_check import start_log
from mergekit_audio.pretrain.summary import card_facts
from mergekit_audio.pretrain.work import Work
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.report.card import write_card
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.side_files import copy_side_files
from mergekit_audio.weights.writer import TensorSpec, write_tensors

LOG_NAME = "log.jsonl"
_PREPROCESSOR_NAME = "preprocessor_config.json"


def write_output(
    plan: TrainPlan,
    target: Path,
    work: Work,
    audio: TrainingAudio,
    fitted: Mapping[str, Path],
    teacher_digests: Mapping[str, str],
    *,
    force: bool,
    progress: Progress,
    command: str,
    overrides: Sequence[str],
) -> Lock:
    """Write the model folder under a temporary name, rename it, and return its lock.

    Parameters
    ----------
    work
        Holds the finished stages.
    fitted
        The files of the fitted teachers by name.
    teacher_digests
        What the lock says about the teachers.
    """
    recipe = plan.recipe
    stages = [work.stage(index, stage.name) for index, stage in enumerate(recipe.stages)]
    progress(ProgressEvent("write", 0, 1, str(target)))
    with staged_folder(target, force=force) as staging:
        _write_weights(plan, stages[-1].finished, staging)
        _write_configs(plan, staging)
        shutil.copyfile(stages[-1].finished / HEADS_NAME, staging / HEADS_NAME)
        for name, path in sorted(fitted.items()):
            (staging / FITTED_FOLDER).mkdir(exist_ok=True)
            shutil.copyfile(path, staging / FITTED_FOLDER / f"{name}.safetensors")
        lines = "".join(
            path.read_text(encoding="utf-8")
            for stage in stages
            for path in (start_log(stage), stage.log)
            if path.is_file()
        )
        write_text(staging / LOG_NAME, lines)
        if (work.folder / "logs").is_dir():
            shutil.copytree(work.folder / "logs", staging / "logs")
        inputs = [
            *_base_inputs(plan),
            *_corpus_inputs(plan, audio),
            *_teacher_inputs(plan, teacher_digests),
        ]
        write_card(staging, card_facts(plan, audio, lines))
        lock = make_lock(
            staging,
            target=target,
            recipe=plan.written.model_dump(mode="json"),
            root=plan.root,
            inputs=inputs,
            overrides=overrides,
            command=command,
        )
        lock = _with_processes(lock, started_processes())
        work.mark_written(write_lock(staging, lock))
    progress(ProgressEvent("write", 1, 1, str(target)))
    return lock


def _with_processes(lock: Lock, count: int) -> Lock:
    """Tell of many processes, which decide the size of a step; one needs no word."""
    if count == 1:
        return lock
    return lock.model_copy(update={"environment": lock.environment | {"processes": str(count)}})


def _write_weights(plan: TrainPlan, finished: Path, staging: Path) -> None:
    """Write the backbone in the base's names, order and dtypes; MERT's own for a preset."""
    trained = Checkpoint.open(str((finished / "model.safetensors").resolve()))
    if plan.base is None:
        spellings = {name: (name, info.dtype) for name, info in trained.index.items()}
    else:
        spellings = {name: (info.stored_name, info.dtype) for name, info in plan.base.index.items()}
    rows = sorted((stored, name, dtype) for name, (stored, dtype) in spellings.items())
    specs = [
        TensorSpec(stored, tuple(trained.index[name].shape), dtype) for stored, name, dtype in rows
    ]
    tensors: Iterable[tuple[str, torch.Tensor]] = (
        (stored, trained.tensor(name)) for stored, name, _ in rows
    )
    write_tensors(staging, specs, tensors)


def _write_configs(plan: TrainPlan, staging: Path) -> None:
    if plan.base is not None and plan.base.fairseq is None:
        copy_side_files(plan.base.folder, staging)
    else:
        write_json(staging / "config.json", dict(plan.config))
    if not (staging / _PREPROCESSOR_NAME).exists():
        write_json(
            staging / _PREPROCESSOR_NAME,
            {
                "do_normalize": False,
                "feature_extractor_type": "Wav2Vec2FeatureExtractor",
                "feature_size": 1,
                "padding_side": "right",
                "padding_value": 0.0,
                "return_attention_mask": True,
                "sampling_rate": plan.recipe.backbone.sample_rate_hz,
            },
        )


def _base_inputs(plan: TrainPlan) -> list[LockedInput]:
    base = plan.base
    if base is None:
        return []
    more = [*plan.fitted.values()]
    if plan.imported_heads and (heads := heads_file(base)) is not None:
        more.append(heads)
    card = base.folder / "README.md"
    if card.is_file():
        more.append(card)
    return [locked_checkpoint("base", base.source, base, more)]


def _corpus_inputs(plan: TrainPlan, audio: TrainingAudio) -> list[LockedInput]:
    """Return each corpus with its manifest and recordings; those elsewhere have an entry too."""
    return [
        entry
        for key, corpus in audio.everything().items()
        for entry in locked_corpus(key, corpus, plan.root)
    ]


def _teacher_inputs(plan: TrainPlan, digests: Mapping[str, str]) -> list[LockedInput]:
    """Return the teachers that were read from a model of their own."""
    inputs = []
    for teacher in plan.recipe.teachers:
        settings: dict[str, Any] = teacher.model_dump(mode="json")
        if isinstance(source := settings.get("model"), str):
            inputs.append(
                LockedInput(
                    name=f"teachers.{teacher.name}",
                    source=source,
                    content_digest=digests[teacher.name],
                    files=_model_files(plan.root / source),
                )
            )
    return inputs


def _model_files(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    kept = [path for path in sorted(folder.iterdir()) if path.suffix in (".json", ".safetensors")]
    return {path.name: sha256_of_file(path) for path in kept}
