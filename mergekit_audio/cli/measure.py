"""The command measure of the panel Merge."""

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
    from mergekit_audio import measure as engine
    from mergekit_audio.recipe.measure import MeasureRecipe

    assert isinstance(loaded.recipe, MeasureRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import measure as engine

    return engine.run(plan, **keywords)


def _finish(target: Path, lock: Lock) -> Finished:
    recipe = lock.recipe
    names = [each["name"] for each in recipe["models"]]
    kinds = " and ".join(recipe["statistics"])
    of = f"{len(names)} models" if names else recipe["model"]
    where = f"{shown(target)}/{names[0]}, …" if names else shown(target)
    return Finished(
        f"measured {kinds} of {of} on {recipe['examples']} clips",
        f"name it in a merge recipe, models: [{{model: …, statistics: {where}}}]",
    )


measure = recipe_command(
    Job("measure", "measure", _plan, _run, _finish),
    """Measure a model on unlabelled audio once, for Fisher merging, RegMean and RegMean++.

Example: cmerge measure fisher_gram.yaml --set examples=64
""",
)
