"""The command `sweep-lambda`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.commands import recipe_command_with_workers
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe


def _plan_sweep(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import sweep as engine
    from mergekit_audio.recipe.sweep import SweepRecipe

    assert isinstance(loaded.recipe, SweepRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _describe_sweep(plan: Any) -> dict[str, Any]:
    from mergekit_audio.sweep.estimate import estimate

    return {**plan.as_dict(), "estimate": estimate(plan)}


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


sweep_lambda = recipe_command_with_workers(
    Job(
        "sweep-lambda",
        "sweep",
        _plan_sweep,
        _run_sweep,
        _swept,
        describe=_describe_sweep,
        notes=lambda plan: plan.notes(),
    ),
    """Merge at many λ, probe each merge, choose λ on validation and report on test.

Trains cultures whose models are missing. Stopped, the same command goes on where it was.

Example: cmerge sweep-lambda sweep.yaml --set "scales=[0.1, 0.2, 0.3]"
""",
)
