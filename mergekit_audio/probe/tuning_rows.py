"""The rows of an evaluation that tunes its encoders: each transfer of each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.kinds import output_count
from mergekit_audio.probe.model_row import ModelRow, checkpoint_row, require_config
from mergekit_audio.probe.scoring import ProbeResult
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.probe.tuning import TuningJob, tune
from mergekit_audio.probe.tuning_model import TunedModel, build_tuned, kept_names
from mergekit_audio.recipe.evaluate import EvaluateRecipe
from mergekit_audio.recipe.tuning import transfer_label
from mergekit_audio.transfers.base import Transfer
from mergekit_audio.weights.checkpoint import Checkpoint

TUNING_VERSION = 1
TUNING_FOLDER = "tuning"

Steps = Callable[[int, int], None]
"""Told that some steps of all are done."""


def trainable_parameters(
    recipe: EvaluateRecipe, checkpoints: Sequence[Checkpoint]
) -> list[dict[str, Any]]:
    """Return how many of each row's encoder parameters train, without the head; reads no weights.

    Raises
    ------
    RecipeError
        A model has fewer layers than ``tuning.layers``.
    """
    names = iter(recipe.row_names())
    rows = []
    for checkpoint in checkpoints:
        for transfer in recipe.tuned():
            count = _trainable(recipe, checkpoint, transfer)
            rows.append(
                {
                    "name": next(names),
                    "transfer": transfer_label(transfer),
                    "trainable_parameters": count,
                }
            )
    return rows


def tuned_rows(
    recipe: EvaluateRecipe, checkpoints: Sequence[Checkpoint], work: Path
) -> list[ModelRow]:
    """Return a row for each transfer of each model.

    Parameters
    ----------
    recipe
        With transfers that tune.
    checkpoints
        The models, opened, in the recipe's order.
    work
        The folder of work in progress, where unfinished tunings are kept.
    """
    names = iter(recipe.row_names())
    return [
        _row(recipe, checkpoint, transfer, next(names), work / TUNING_FOLDER)
        for checkpoint in checkpoints
        for transfer in recipe.tuned()
    ]


def tune_point(
    recipe: EvaluateRecipe,
    row: ModelRow,
    checkpoint: Checkpoint,
    transfer: Transfer,
    task: PreparedTask,
    seed: int,
    folder: Path,
    told: Steps,
) -> ProbeResult:
    """Tune one encoder for one task with one seed; what it has done so far is kept in a folder."""
    tuning = recipe.tuning.for_task(task.task.name)

    def build() -> TunedModel:
        return build_tuned(
            recipe.backbone,
            require_config(checkpoint),
            checkpoint.state_dict(),
            transfer,
            tuning,
            output_count(task.task.kind, len(task.labels)),
            seed,
        )

    point = sha256_of_text(canonical_json([row.key, task.digest, seed]))
    job = TuningJob(
        task=task,
        transfer=transfer,
        tuning=tuning,
        seed=seed,
        receptive_field=recipe.backbone.receptive_field,
        checkpoint=folder / f"{point[:32]}.pt",
        told=lambda step: told(step, tuning.max_steps),
    )
    return tune(job, build)


def _row(
    recipe: EvaluateRecipe, checkpoint: Checkpoint, transfer: Transfer, name: str, folder: Path
) -> ModelRow:
    plain = checkpoint_row(name, "model", checkpoint, recipe.backbone)
    described = {
        "version": TUNING_VERSION,
        "model": plain.key,
        "transfer": transfer.model_dump(mode="json"),
        "tuning": recipe.tuning.model_dump(mode="json"),
    }
    row = replace(
        plain,
        key=sha256_of_text(canonical_json(described)),
        facts={
            "transfer": transfer_label(transfer),
            "trainable_parameters": _trainable(recipe, checkpoint, transfer),
        },
        settings={"layer": None, "learning_rate": recipe.tuning.learning_rate_of(transfer)},
    )

    def tuned(task: PreparedTask, seed: int, told: Steps) -> ProbeResult:
        return tune_point(recipe, row, checkpoint, transfer, task, seed, folder, told)

    return replace(row, tune=tuned)


def _trainable(recipe: EvaluateRecipe, checkpoint: Checkpoint, transfer: Transfer) -> int:
    names = kept_names(require_config(checkpoint), list(checkpoint.index), recipe.tuning)
    shapes = {name: checkpoint.index[name].shape for name in names}
    return sum(transfer.trained_sizes(shapes, names).values())
