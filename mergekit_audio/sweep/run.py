"""Sweep λ: train what is missing, Δ once, every λ in memory, probe, choose."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from mergekit_audio import merge
from mergekit_audio.audio.store import Store
from mergekit_audio.files import require_free, staged_folder
from mergekit_audio.lock import Lock, LockedInput, make_lock, write_lock
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.probe.inputs import locked_checkpoint, locked_tasks
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.notes import selection_notes, task_notes
from mergekit_audio.probe.points import (
    ModelRow,
    PointRunner,
    checkpoint_row,
    model_key,
    require_config,
)
from mergekit_audio.probe.run import (
    RESULTS_NAME,
    differences_of,
    leakage_of,
    store_folder,
    work_folder,
    write_results,
)
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.report.tables import table_rows
from mergekit_audio.sweep.grid import weight_average_scale
from mergekit_audio.sweep.planner import SweepPlan, plan
from mergekit_audio.sweep.selection import select_scale
from mergekit_audio.sweep.training import train_missing
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.digest import content_digest, tensor_digest
from mergekit_audio.weights.dtypes import from_torch

BEST_NAME = "best"


def sweep(
    recipe: SweepRecipe,
    root: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
    workers: int | None = None,
) -> Lock:
    """Merge at every λ, probe each merge, choose λ on validation, and write the results.

    Corpora are prepared first, then models trained whose outputs are missing. Finished points are
    kept in ``<output>.work`` until the output is complete, so that the same call goes on where an
    earlier one stopped.

    Parameters
    ----------
    recipe
        Base, cultures, λ, tasks, seeds.
    root
        The folder that the recipe's paths are relative to.
    force
        Replace an existing output; models that are there are not trained again.
    progress
        Called with every step.
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
        The output exists, a model can't be opened or has another layout than the base, or a corpus
        has no splits, tags or usable audio.
    RecipeError
        A training recipe has faults.
    """
    root = Path(root)
    target = root / recipe.output if output is None else Path(output)
    require_free(target, force=force)
    planned = plan(recipe, root)
    store = Store(store_folder(recipe.store, root))
    tasks = [
        prepare_task(task, recipe.backbone, root, store, progress, workers) for task in recipe.tasks
    ]
    train_missing(list(planned.trainings), progress)
    runner = PointRunner(
        tasks=tasks,
        seeds=recipe.seeds,
        backbone=recipe.backbone,
        ledger=Ledger(work_folder(target) / RESULTS_NAME),
        cache=store.root / "features",
        total=planned.points,
        progress=progress,
        workers=workers,
    )
    models = {name: Checkpoint.open(source, root=root) for name, source in planned.sources()}
    rows = [runner.run(row) for row in _rows(planned, models, progress)]
    selection = select_scale(rows, recipe.select, [task.name for task in recipe.tasks])
    summary = {
        "kind": recipe.kind,
        "seeds": list(recipe.seeds),
        "method": recipe.method.model_dump(mode="json"),
        "cultures": [{"name": each.name, "weight": each.weight} for each in recipe.cultures],
        "weight_average_scale": weight_average_scale(recipe),
        "notes": [*planned.notes(), *task_notes(tasks), *selection_notes(rows, tasks)],
        "tasks": [task.facts() for task in tasks],
        "rows": rows,
        "reference": "base",
        "selection": selection,
    }
    shown = list(dict.fromkeys(str(row["name"]) for _, row in table_rows(summary)))
    inputs = [*_locked_models(planned, models), *locked_tasks(tasks, root)]
    summary["leakage"] = leakage_of(
        tasks, [(name, each.folder) for name, each in models.items()], inputs, root, progress
    )
    summary["differences"] = differences_of(runner, shown, "base", recipe.resamples, progress)
    with staged_folder(target, force=force) as staging:
        write_results(staging, runner.lines, summary, runner.scores)
        if recipe.write_best:
            _write_best(planned, selection["scale"], staging, progress, command)
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


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return what ``Checkpoint.digest`` of these tensors would be, so that λ = 0 has the base's."""
    digests: dict[str, str] = {}
    for name, tensor in state.items():
        bits, dtype = from_torch(tensor)
        digests[name] = tensor_digest(name, dtype, bits)
    return content_digest(digests)


def _rows(
    planned: SweepPlan, models: Mapping[str, Checkpoint], progress: Progress
) -> Iterator[ModelRow]:
    """Yield the rows one by one, so that one merge at a time is in memory."""
    recipe = planned.recipe
    base = checkpoint_row("base", "base", models["base"], recipe.backbone, scale=0.0, in_grid=True)
    yield base
    for culture in recipe.cultures:
        yield checkpoint_row(culture.name, "culture", models[culture.name], recipe.backbone)
    for compared in recipe.compare:
        yield checkpoint_row(compared.name, "compare", models[compared.name], recipe.backbone)
    if planned.has_extra_average:
        averaging = planned.merge(scale=1.0, output=recipe.output, average=True)
        state = merge.apply_delta(averaging, merge.compute_delta(averaging, progress), 1.0)
        yield _merge_row(planned, models["base"], state, name="weight average", weight_average=True)
    merging = planned.merge(scale=1.0, output=recipe.output)
    delta = merge.compute_delta(merging, progress)
    for point in planned.grid:
        if point.scale:
            state = merge.apply_delta(merging, delta, point.scale)
            yield _merge_row(
                planned,
                models["base"],
                state,
                name=point.name,
                scale=point.scale,
                weight_average=point.weight_average,
                in_grid=True,
            )


def _merge_row(
    planned: SweepPlan,
    base: Checkpoint,
    state: dict[str, torch.Tensor],
    *,
    name: str,
    scale: float | None = None,
    weight_average: bool = False,
    in_grid: bool = False,
) -> ModelRow:
    config = require_config(base)
    digest = state_digest(state)
    return ModelRow(
        name=name,
        kind="merge",
        digest=digest,
        key=model_key(digest, config),
        encoder=FrozenEncoder.of_state(state, config, planned.recipe.backbone),
        scale=scale,
        weight_average=weight_average,
        in_grid=in_grid,
    )


def _write_best(
    planned: SweepPlan, scale: float, staging: Path, progress: Progress, command: str
) -> None:
    best = planned.merge(scale=scale, output=f"{planned.recipe.output}/{BEST_NAME}")
    merge.run(best, output=staging / BEST_NAME, progress=progress, command=command)


def _locked_models(planned: SweepPlan, models: Mapping[str, Checkpoint]) -> list[LockedInput]:
    cultures = [culture.name for culture in planned.recipe.cultures]
    entries = []
    for name, source in planned.sources():
        family = "cultures." if name in cultures else "" if name == "base" else "compare."
        entries.append(locked_checkpoint(f"{family}{name}", source, models[name]))
    return entries
