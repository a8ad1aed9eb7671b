"""The paper's Table 1: train one recipe by four strategies, probe each beside the base."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mergekit_audio.audio.store import Store
from mergekit_audio.files import (
    canonical_json,
    require_free,
    require_outside,
    sha256_of_file,
    staged_folder,
    write_json,
    write_text,
)
from mergekit_audio.lock import Lock, LockedInput, make_lock, recipe_digest, write_lock
from mergekit_audio.locked import locked_checkpoint
from mergekit_audio.probe.inputs import locked_tasks
from mergekit_audio.probe.ledger import Ledger
from mergekit_audio.probe.model_row import checkpoint_row
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.run import (
    RESULTS_NAME,
    SUMMARY_NAME,
    probed_places,
    store_folder,
    work_folder,
)
from mergekit_audio.probe.summary import average
from mergekit_audio.probe.tasks import prepare_task
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.ablation import AblationRecipe
from mergekit_audio.report.ablation import ablation_table, table_notes
from mergekit_audio.report.stability_figure import (
    read_curve,
    stability_gaps,
    write_stability_figure,
)
from mergekit_audio.sweep.ablations.planner import (
    AblationPlan,
    plan,
    require_made_by,
    strategy_facts,
)
from mergekit_audio.sweep.ablations.strategies import BOTH, NO_REWARM, SINGLE, TITLES
from mergekit_audio.sweep.training import train_missing
from mergekit_audio.weights.checkpoint import Checkpoint

__all__ = ["AblationPlan", "ablation", "plan"]

BASE_NAME = "base"
CURVES_NAME = "curves.json"
LOG_NAME = "log.jsonl"
TABLE_NAME = "table"
DRAWN = (BOTH, SINGLE, NO_REWARM)
"""The runs in the figure; the first stage alone is the beginning of both."""


def ablation(
    recipe: AblationRecipe,
    root: Path,
    *,
    force: bool = False,
    progress: Progress = silent,
    command: str = "",
    overrides: Sequence[str] = (),
    output: Path | None = None,
    workers: int | None = None,
) -> Lock:
    """Train what is missing, probe the base and the four models, write the table and the figure.

    Every training is a normal one in a folder of its own: resumed when it was killed, and not run
    again while its folder holds what this recipe makes. Finished probes are kept in
    ``<output>.work`` until the output is complete.

    Parameters
    ----------
    recipe
        The two-stage training, the single stage's settings, tasks, seeds.
    root
        The folder that the recipe's paths are relative to.
    force
        Replace an existing output; trainings that are there are never replaced.
    progress
        Called with every step.
    command, overrides
        Recorded in the lock.
    output
        Another folder than the recipe's, for the results alone.
    workers
        Threads that embed and probe, each on one core; ``None`` means torch's number. The results
        do not depend on it.

    Raises
    ------
    RecipeError
        A training recipe has faults, or does not have two stages.
    InputError
        The output exists, a finished training was made by other settings, or a model, a corpus or
        a task can't be used.

    References
    ----------
    arXiv 2506.17818, Table 1.
    """
    root = Path(root)
    target = root / recipe.output if output is None else Path(output)
    require_free(target, force=force)
    planned = plan(recipe, root)
    store = Store(store_folder(recipe.store, root))
    sources = [(BASE_NAME, planned.strategies.base)]
    require_outside(target, probed_places(root, store.root, sources, recipe.tasks))
    backbone = planned.strategies.recipe.backbone
    tasks = [prepare_task(task, backbone, root, store, progress, workers) for task in recipe.tasks]
    train_missing(planned.trainings, progress)
    models = {BASE_NAME: Checkpoint.open(planned.strategies.base, root=root)}
    for training in planned.strategies.runs:
        require_made_by(training, models[BASE_NAME])
        models[training.name] = Checkpoint.open(training.source, root=root)
    runner = PointRunner(
        tasks=tasks,
        seeds=recipe.seeds,
        backbone=backbone,
        ledger=Ledger(work_folder(target) / RESULTS_NAME),
        cache=store.root / "features",
        total=planned.points,
        progress=progress,
        workers=workers,
    )
    rows = [
        runner.run(checkpoint_row(name, _kind(name), checkpoint, backbone))
        for name, checkpoint in models.items()
    ]
    curves = {
        training.name: read_curve(training.output / LOG_NAME)
        for training in planned.strategies.runs
    }
    summary = {
        "kind": recipe.kind,
        "culture": planned.strategies.recipe.culture,
        "train": recipe.train,
        "metric": recipe.metric,
        "seeds": list(recipe.seeds),
        "strategies": strategy_facts(planned.strategies),
        "tasks": [task.facts() for task in tasks],
        "table": [_table_row(recipe, row) for row in rows],
        "stability_gaps": stability_gaps(curves),
        "rows": rows,
    }
    with staged_folder(target, force=force) as staging:
        lines = "".join(canonical_json(line) + "\n" for line in runner.lines)
        write_text(staging / RESULTS_NAME, lines)
        write_json(staging / SUMMARY_NAME, summary)
        write_json(staging / CURVES_NAME, curves)
        _write_table(staging, summary)
        write_stability_figure(curves, {name: TITLES[name] for name in DRAWN}, staging)
        lock = make_lock(
            staging,
            target=target,
            recipe=recipe.model_dump(mode="json"),
            root=root,
            inputs=[*_locked_models(planned, models), *locked_tasks(tasks, root)],
            overrides=overrides,
            command=command,
        )
        write_lock(staging, lock)
    shutil.rmtree(work_folder(target), ignore_errors=True)
    return lock


def _kind(name: str) -> str:
    return "base" if name == BASE_NAME else "model"


def _table_row(recipe: AblationRecipe, row: dict[str, Any]) -> dict[str, Any]:
    """Return a row's cells on test: each task, and of several tasks their average."""
    metrics = None if recipe.metric == "mean" else [recipe.metric]
    names = [task.name for task in recipe.tasks]
    cells = {name: average(row["scores"], [name], metrics, "test") for name in names}
    if len(names) > 1:
        cells["average"] = average(row["scores"], names, metrics, "test")
    return {"name": row["name"], "cells": cells}


def _write_table(folder: Path, summary: dict[str, Any]) -> None:
    table = ablation_table(summary)
    notes = "\n".join(f"- {note}" for note in table_notes(summary))
    write_text(folder / f"{TABLE_NAME}.md", f"{table.markdown()}\n{notes}\n")
    write_text(folder / f"{TABLE_NAME}.csv", table.csv())
    write_json(folder / f"{TABLE_NAME}.json", table.as_dict())


def _locked_models(planned: AblationPlan, models: dict[str, Checkpoint]) -> list[LockedInput]:
    """Return the base, the runs with their logs, and the training recipe's file."""
    derived = planned.strategies
    sources = {BASE_NAME: derived.base} | {each.name: each.source for each in derived.runs}
    entries = []
    for name, checkpoint in models.items():
        family = "" if name == BASE_NAME else "runs."
        entry = locked_checkpoint(f"{family}{name}", sources[name], checkpoint)
        if name != BASE_NAME:
            log = {LOG_NAME: sha256_of_file(checkpoint.folder / LOG_NAME)}
            entry = entry.model_copy(update={"files": dict(sorted({**entry.files, **log}.items()))})
        entries.append(entry)
    recipe = next(each.recipe for each in derived.runs if each.name == BOTH)
    entries.append(
        LockedInput(
            name="train",
            source=planned.recipe.train,
            content_digest=recipe_digest(recipe.model_dump(mode="json")),
            files={derived.path.name: sha256_of_file(derived.path)},
        )
    )
    return entries
