"""The command similarity of the panel Evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.commands import recipe_command
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe


def _plan(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import similarity as engine
    from mergekit_audio.recipe.similarity import SimilarityRecipe

    assert isinstance(loaded.recipe, SimilarityRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import similarity as engine

    return engine.run(plan, **keywords)


def _finish(target: Path, lock: Lock) -> Finished:
    import json

    summary = json.loads((target / "summary.json").read_text(encoding="utf-8"))
    table = (target / "similarity.md").read_text(encoding="utf-8")
    what = f"compared {len(lock.recipe['corpora'])} corpora by tokens of "
    what += str(lock.recipe["teacher"]["name"])
    return Finished(
        what, f"look at {shown(target / 'similarity.png')}", table, {"summary": summary}
    )


similarity = recipe_command(
    Job("similarity", "similarity", _plan, _run, _finish),
    """Compare corpora by their acoustic tokens: divergences with intervals, and λ they suggest.

Stopped, the same command goes on where it was.

Example: cmerge similarity similarity.yaml --set tracks=100
""",
)
