"""Commands of the panel Evaluate: evaluate."""

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


def _plan(loaded: LoadedRecipe) -> Any:
    from mergekit_audio.probe import run as engine
    from mergekit_audio.recipe.evaluate import EvaluateRecipe

    assert isinstance(loaded.recipe, EvaluateRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio.probe import run as engine
    from mergekit_audio.recipe.evaluate import EvaluateRecipe

    assert isinstance(loaded.recipe, EvaluateRecipe)
    return engine.evaluate(loaded.recipe, loaded.root, **keywords)


def _finish(target: Path, lock: Lock) -> Finished:
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    table = (target / "table.md").read_text(encoding="utf-8")
    models, tasks = len(lock.recipe["models"]), len(lock.recipe["tasks"])
    what = f"probed {models} model{'s'[: models > 1]} on {tasks} task{'s'[: tasks > 1]}"
    return Finished(what, f"read {shown(target / 'table.md')}", table, {"summary": summary})


evaluate = recipe_command_with_workers(
    Job("evaluate", "evaluate", _plan, _run, _finish),
    """Probe frozen encoders on tagging tasks: ROC-AUC and average precision, mean ± std over seeds.

Stopped, the same command goes on where it was.

Example: cmerge evaluate evaluate.yaml --set "seeds=[0]"
""",
)
