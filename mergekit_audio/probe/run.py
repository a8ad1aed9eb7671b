"""Probe models on tasks with several seeds and write the table: ``cmerge evaluate``."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mergekit_audio.audio.store import Store
from mergekit_audio.files import (
    canonical_json,
    require_free,
    require_outside,
    staged_folder,
    write_json,
    write_text,
)
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.locked import locked_checkpoint
from mergekit_audio.probe.comparison import compare
from mergekit_audio.probe.features import probed_tracks
from mergekit_audio.probe.inputs import locked_tasks
from mergekit_audio.probe.leakage import find_leakage
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.model_row import checkpoint_row, require_config
from mergekit_audio.probe.notes import selection_notes, task_notes
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.tasks import PreparedTask, plan_task, prepare_task
from mergekit_audio.probe.track_scores import TrackScores
from mergekit_audio.probe.tuning_processes import side_by_side
from mergekit_audio.probe.tuning_rows import trainable_parameters, tuned_rows
from mergekit_audio.progress import Progress, remark, silent
from mergekit_audio.recipe.evaluate import EvaluateRecipe, Task
from mergekit_audio.report.evaluation import write_tables
from mergekit_audio.report.html import REPORT_NAME, write_report
from mergekit_audio.report.leakage import leakage_sentences
from mergekit_audio.report.page.made import made_of
from mergekit_audio.report.petl import write_petl_table
from mergekit_audio.weights.checkpoint import Checkpoint

RESULTS_NAME = "results.jsonl"
SUMMARY_NAME = "summary.json"
DEFAULT_STORE = ".cmerge_store"


@dataclass(frozen=True)
class EvaluatePlan:
    """What an evaluation will do: every model on every task with every seed.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    checkpoints
        The models, opened, in the recipe's order.
    tasks
        Each task's tracks by split.
    """

    recipe: EvaluateRecipe
    root: Path
    checkpoints: tuple[Checkpoint, ...]
    tasks: tuple[dict[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        recipe = self.recipe
        return {
            "kind": recipe.kind,
            "models": [
                {"name": entry.name, "model": entry.model, "folder": str(checkpoint.folder)}
                for entry, checkpoint in zip(recipe.models, self.checkpoints, strict=True)
            ],
            "tasks": list(self.tasks),
            "reference": reference_of(recipe),
            "seeds": list(recipe.seeds),
            **({"transfers": self.transfers(), "tuning": self.tuning()} if recipe.tuned() else {}),
            "points": len(recipe.row_names()) * len(recipe.tasks) * len(recipe.seeds),
            "store": str(store_folder(recipe.store, self.root)),
            "output": str(self.root / recipe.output),
        }

    def transfers(self) -> list[dict[str, Any]]:
        """Return the rows of encoders that are tuned, with the number of parameters that train."""
        return trainable_parameters(self.recipe, self.checkpoints)

    def tuning(self) -> dict[str, Any]:
        """Return the settings of tuning."""
        return self.recipe.tuning.model_dump(mode="json")


def plan(recipe: EvaluateRecipe, root: Path) -> EvaluatePlan:
    """Open the models, check that each has a config, and read manifests; nothing is written."""
    checkpoints = tuple(Checkpoint.open(entry.model, root=root) for entry in recipe.models)
    for checkpoint in checkpoints:
        require_config(checkpoint)
    trainable_parameters(recipe, checkpoints)  # refuses models with too few layers
    tasks = tuple(plan_task(task, root) for task in recipe.tasks)
    return EvaluatePlan(recipe, root, checkpoints, tasks)


def evaluate(
    recipe: EvaluateRecipe,
    root: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
    workers: int | None = None,
) -> Lock:
    """Probe every model on every task with every seed, and write results, table, figure and lock.

    Finished points are kept in ``<output>.work`` until the output is complete, so that the same
    call goes on where an earlier one stopped.

    Parameters
    ----------
    recipe
        Models, tasks, seeds.
    root
        The folder that the recipe's paths are relative to.
    force
        Replace an existing output.
    progress
        Called with every batch of audio and every point.
    command, overrides
        Recorded in the lock.
    output
        Another folder than the recipe's.
    workers
        Threads that embed and probe, each on one core; ``None`` means torch's number. The results
        do not depend on it.

    Raises
    ------
    InputError
        The output exists, a model can't be opened, or a corpus has no splits, tags or usable audio.
    """
    target = root / recipe.output if output is None else Path(output)
    require_free(target, force=force)
    planned = plan(recipe, root)
    store_root = store_folder(recipe.store, root)
    sources = [(entry.name, entry.model) for entry in recipe.models]
    require_outside(target, probed_places(root, store_root, sources, recipe.tasks))
    store = Store(store_root)
    tasks = [
        prepare_task(task, recipe.backbone, root, store, progress, workers) for task in recipe.tasks
    ]
    runner = PointRunner(
        tasks=tasks,
        seeds=recipe.seeds,
        backbone=recipe.backbone,
        ledger=Ledger(work_folder(target) / RESULTS_NAME),
        cache=store_root / "features",
        total=len(recipe.row_names()) * len(tasks) * len(recipe.seeds),
        progress=progress,
        workers=workers,
    )
    rows = [
        checkpoint_row(entry.name, "model", checkpoint, recipe.backbone)
        for entry, checkpoint in zip(recipe.models, planned.checkpoints, strict=True)
    ]
    with contextlib.ExitStack() as processes:
        if recipe.tuned():
            count = torch.get_num_threads() if workers is None else workers
            work = work_folder(target)
            rows = tuned_rows(recipe, planned.checkpoints, work)
            rows = processes.enter_context(
                side_by_side(recipe, root, work, store_root, rows, runner, count)
            )
        scored = [runner.run(row) for row in rows]
    inputs = [
        *(
            locked_checkpoint(f"models.{entry.name}", entry.model, checkpoint)
            for entry, checkpoint in zip(recipe.models, planned.checkpoints, strict=True)
        ),
        *locked_tasks(tasks, root),
    ]
    names = [entry.name for entry in recipe.models]
    folders = [checkpoint.folder for checkpoint in planned.checkpoints]
    summary = {
        "kind": recipe.kind,
        "seeds": list(recipe.seeds),
        "reference": reference_of(recipe),
        "notes": [f"{recipe.tuning.statement()}."]
        if recipe.tuned()
        else [*task_notes(tasks), *selection_notes(scored, tasks)],
        "tasks": [task.facts() for task in tasks],
        "rows": scored,
        "leakage": leakage_of(
            tasks, list(zip(names, folders, strict=True)), inputs, root, progress
        ),
        "differences": differences_of(
            runner, recipe.row_names(), reference_of(recipe), recipe.resamples, progress
        ),
    }
    with staged_folder(target, force=force) as staging:
        made = made_of(recipe.model_dump(mode="json"), inputs)
        write_results(staging, runner.lines, summary, runner.scores, made=made)
        if recipe.tuned():
            write_petl_table(summary, staging)
        lock = make_lock(
            staging,
            target=target,
            recipe=recipe.model_dump(mode="json"),
            root=root,
            inputs=inputs,
            overrides=overrides,
            command=command,
        )
        write_lock(staging, lock)
    shutil.rmtree(work_folder(target), ignore_errors=True)
    return lock


def write_results(
    folder: Path,
    lines: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    scores: TrackScores | None = None,
    *,
    made: Mapping[str, Any] | None = None,
) -> None:
    """Write the points, the summary, every table and figure of it, and the report.

    Parameters
    ----------
    folder
        Where the files go.
    lines
        The points in the table's order.
    summary
        What they sum up to.
    scores
        What each point said of every track, copied to ``scores``.
    made
        What ``made_of`` returned of recipe and inputs, for the report.
    """
    if scores is not None:
        scores.export(folder, lines)
    write_text(folder / RESULTS_NAME, "".join(canonical_json(line) + "\n" for line in lines))
    write_json(folder / SUMMARY_NAME, summary)
    write_tables(summary, folder)
    write_report(folder / REPORT_NAME, summary, made=made)


def reference_of(recipe: EvaluateRecipe) -> str:
    """Return the name of the row that the others are compared with."""
    return recipe.row_names()[0] if recipe.reference is None else recipe.reference


def differences_of(
    runner: PointRunner, models: Sequence[str], reference: str, resamples: int, progress: Progress
) -> dict[str, Any] | None:
    """Return every model's difference from the reference; ``None`` where nothing is compared.

    Parameters
    ----------
    runner
        Holds the track scores of all points.
    models
        The names of the table's rows, in their order.
    reference
        The row that the others are compared with.
    resamples
        Of the tracks; 0 compares nothing.
    """
    if resamples == 0 or len(models) == 1:
        return None
    tasks = runner.scores.of_tasks(runner.tasks, runner.lines)
    return compare(tasks, models, reference=reference, resamples=resamples, progress=progress)


def leakage_of(
    tasks: Sequence[PreparedTask],
    models: Sequence[tuple[str, Path]],
    inputs: Sequence[LockedInput],
    root: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Return what training has heard of the test tracks, and tell each finding.

    Parameters
    ----------
    tasks
        The prepared tasks.
    models
        Each model's name and folder.
    inputs
        The lock's entries, with the sha256 of the tasks' recordings.
    root
        The folder that the recipe's paths are relative to.
    """
    named = [(task.task.name, probed_tracks(task.corpus)) for task in tasks]
    found = find_leakage(named, models, inputs, root)
    for sentence in leakage_sentences({"leakage": found}):
        progress(remark("check leakage", sentence))
    return found


def probed_places(
    root: Path, store: Path, models: Sequence[tuple[str, str]], tasks: Sequence[Task]
) -> dict[str, Path]:
    """Return what lies where, so that no output replaces it: recipe, store, models, corpora."""
    return {
        "the recipe's own folder": root,
        "the prepared store": store,
        **{name: root / Path(source).expanduser() for name, source in models},
        **{f"the corpus of {task.name}": root / Path(task.corpus).expanduser() for task in tasks},
    }


def work_folder(target: Path) -> Path:
    """Return the folder of finished points of an unfinished output."""
    return target.with_name(target.name + ".work")


def store_folder(store: str | None, root: Path) -> Path:
    """Return the prepared store's folder."""
    return Path(os.path.normpath(root / (store or DEFAULT_STORE)))
