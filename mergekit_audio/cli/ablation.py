"""The command `ablation`."""

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


def _plan_ablation(loaded: LoadedRecipe) -> Any:
    from mergekit_audio.recipe.ablation import AblationRecipe
    from mergekit_audio.sweep.ablations import running as engine

    assert isinstance(loaded.recipe, AblationRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run_ablation(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio.recipe.ablation import AblationRecipe
    from mergekit_audio.sweep.ablations import running as engine

    assert isinstance(loaded.recipe, AblationRecipe)
    return engine.ablation(loaded.recipe, loaded.root, **keywords)


def _finished(target: Path, lock: Lock) -> Finished:
    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    table = (target / "table.md").read_text(encoding="utf-8")
    tasks = [task["name"] for task in summary["tasks"]]
    return Finished(
        f"compared {len(summary['strategies'])} strategies on {', '.join(tasks)}",
        f"see {shown(target / 'stability_gap.png')}",
        text=table,
        extra={"summary": summary},
    )


ablation = recipe_command_with_workers(
    Job("ablation", "ablation", _plan_ablation, _run_ablation, _finished),
    """Train one recipe by four strategies, probe each, print the paper's Table 1.

Single-stage, single-stage without re-warming, stage 1 alone, both stages. Trainings that are
finished are not run again; stopped, the same command goes on where it was.

Example: cmerge ablation culturemert.yaml --dry-run
""",
)
