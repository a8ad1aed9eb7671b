"""The command `sweep-lambda`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.options import (
    Address,
    DryRun,
    ExecutorName,
    Force,
    Json,
    NoProgress,
    Quiet,
    RecipeFile,
    RunOptions,
    Set,
    SideBySide,
)
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job, run_recipe

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe


def _plan_sweep(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import sweep as engine
    from mergekit_audio.recipe.sweep import SweepRecipe

    assert isinstance(loaded.recipe, SweepRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _describe_sweep(
    plan: Any, executor: str, address: str | None, workers: int | None
) -> dict[str, Any]:
    from mergekit_audio.sweep.estimate import estimate
    from mergekit_audio.sweep.executors.choice import make_executor

    place = make_executor(executor, address, workers)
    return {**plan.as_dict(), "estimate": {**estimate(plan), **place.as_dict()}}


def _check_executor(executor: str, address: str | None, workers: int | None) -> None:
    """Raise before anything is opened where the executor can't be had."""
    from mergekit_audio.sweep.executors.choice import make_executor

    make_executor(executor, address, workers)


def _run_sweep(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import sweep as engine
    from mergekit_audio.recipe.sweep import SweepRecipe

    assert isinstance(loaded.recipe, SweepRecipe)
    return engine.sweep(loaded.recipe, loaded.root, **keywords)


def _swept(target: Path, lock: Lock) -> Finished:
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    table = (target / "table.txt").read_text(encoding="utf-8")
    best = shown(target / "best") if (target / "best").is_dir() else ""
    then = f"cmerge verify {best}" if best else "add --set write_best=true to write the best merge"
    selection = summary["selection"]
    best_row = "λ = 0" if selection["row"] == "base" else selection["row"]
    what = f"swept {len(selection['curve'])} points, best on validation: {best_row}"
    band = selection.get("band")
    if band is not None and len(band["members"]) > 1:
        what += f" ({len(band['members']) - 1} more can't be told apart from it)"
    return Finished(what, then, text=table, extra={"summary": summary})


def sweep_lambda(
    recipe: RecipeFile,
    overrides: Set = None,
    executor: ExecutorName = "serial",
    address: Address = None,
    workers: SideBySide = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Merge at many λ, probe each merge, choose λ on validation and report on test.

    Trains cultures whose models are missing. Stopped, the same command goes on where it was.

    Results depend neither on the executor nor on the number of workers.

    Example: cmerge sweep-lambda sweep.yaml --set "scales=[0.1, 0.2, 0.3]"
    """
    options = RunOptions(overrides or [], dry_run, force, as_json, quiet, no_progress)
    job = Job(
        "sweep-lambda",
        "sweep",
        _plan_sweep,
        _run_sweep,
        _swept,
        describe=lambda plan: _describe_sweep(plan, executor, address, workers),
        check=lambda loaded: _check_executor(executor, address, workers),
        notes=lambda plan: plan.notes(),
        settings={"executor": executor, "address": address, "workers": workers},
    )
    run_recipe(job, recipe, options)
