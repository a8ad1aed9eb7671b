"""Commands of the panel Merge: merge and sweep-lambda."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mergekit_audio.cli.options import (
    DryRun,
    Force,
    Json,
    NoProgress,
    Quiet,
    RecipeFile,
    RunOptions,
    Set,
    Workers,
)
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job, run_recipe

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe

OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FOLDER",
        help="The folder to write, from here; instead of the recipe's `output`.",
        show_default=False,
    ),
]
Mergekit = Annotated[
    bool,
    typer.Option(
        "--mergekit", help="Read the recipe as mergekit's (seen by itself where it has no kind)."
    ),
]


def merge(
    recipe: RecipeFile,
    overrides: Set = None,
    output: OutputFolder = None,
    mergekit: Mergekit = False,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Merge models into a base: θ = θ_base + λ · Δ. mergekit's recipes run as they are.

    Example: cmerge merge culturemert_ta.yaml --set scale=0.2 --dry-run
    """
    changes = [*(overrides or []), *_output_change(output, recipe)]
    options = RunOptions(changes, dry_run, force, as_json, quiet, no_progress)
    job = Job(
        "merge",
        "merge",
        _plan_merge,
        _run_merge,
        _merged,
        preview=_merge_preview,
        notes=lambda plan: plan.notes,
        mergekit=mergekit,
    )
    run_recipe(job, recipe, options)


def sweep_lambda(
    recipe: RecipeFile,
    overrides: Set = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
) -> None:
    """Merge at many λ, probe each merge, choose λ on validation and report on test.

    Trains cultures whose models are missing. Stopped, the same command goes on where it was.

    Example: cmerge sweep-lambda sweep.yaml --set "scales=[0.1, 0.2, 0.3]"
    """
    options = RunOptions(overrides or [], dry_run, force, as_json, quiet, no_progress)
    job = Job(
        "sweep-lambda",
        "sweep",
        _plan_sweep,
        _run_sweep,
        _swept,
        notes=lambda plan: plan.notes(),
        settings={"workers": workers},
    )
    run_recipe(job, recipe, options)


def _output_change(output: Path | None, recipe: Path) -> list[str]:
    """Return ``--output`` as the override that the lock keeps: a path from the recipe's folder."""
    if output is None:
        return []
    wanted = os.path.expanduser(output)
    if not os.path.isabs(wanted):
        wanted = os.path.relpath(wanted, recipe.resolve().parent)
    return [f"output={json.dumps(wanted, ensure_ascii=False)}"]


def _plan_merge(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import merge as engine
    from mergekit_audio.recipe.merge import MergeRecipe

    assert isinstance(loaded.recipe, MergeRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run_merge(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import merge as engine
    from mergekit_audio.methods.greedy_soup import GreedySoup
    from mergekit_audio.recipe.merge import MergeRecipe

    assert isinstance(loaded.recipe, MergeRecipe)
    method = loaded.recipe.method
    if isinstance(method, GreedySoup) and method.accepted is None:
        from mergekit_audio.sweep.soup import greedy_soup

        return greedy_soup(loaded.recipe, loaded.root, **keywords)
    return engine.run(plan, **keywords)


def _merged(target: Path, lock: Lock) -> Finished:
    models = lock.recipe["models"]
    count = f"{len(models)} model" + ("s" if len(models) != 1 else "")
    what = f"merged {count} by {lock.recipe['method']['name']}"
    return Finished(what, f"cmerge verify {shown(target)} --rebuild")


def _merge_preview(plan: dict[str, Any]) -> dict[str, Any]:
    """Leave out the rows of merged tensors, which are the rule; name those that are copied."""
    copied = [
        {"tensor": row["name"], "because": row["reason"]}
        for row in plan["tensors"]
        if row["action"] == "copy"
    ]
    return {**{key: item for key, item in plan.items() if key != "tensors"}, "copied": copied}


def _plan_sweep(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import sweep as engine
    from mergekit_audio.recipe.sweep import SweepRecipe

    assert isinstance(loaded.recipe, SweepRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run_sweep(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import sweep as engine
    from mergekit_audio.recipe.sweep import SweepRecipe

    assert isinstance(loaded.recipe, SweepRecipe)
    return engine.sweep(loaded.recipe, loaded.root, **keywords)


def _swept(target: Path, lock: Lock) -> Finished:
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    table = (target / "table.md").read_text(encoding="utf-8")
    best = shown(target / "best") if (target / "best").is_dir() else ""
    then = f"cmerge verify {best}" if best else "add --set write_best=true to write the best merge"
    selection = summary["selection"]
    what = f"swept {len(selection['curve'])} values of λ, best {selection['scale']:g} on validation"
    return Finished(what, then, text=table, extra={"summary": summary})
