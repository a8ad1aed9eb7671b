"""Commands of the panel Train: train-culture and train-multi."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.cli.commands import recipe_command
from mergekit_audio.cli.output import shown
from mergekit_audio.cli.running import Finished, Job
from mergekit_audio.errors import RecipeError

if TYPE_CHECKING:
    from mergekit_audio.lock import Lock
    from mergekit_audio.recipe.load import LoadedRecipe


def _job(command: str, check: Any) -> Job:
    return Job(command, "train", _plan, _run, _finish, describe=_described, check=check)


def _described(plan: Any) -> dict[str, Any]:
    """Return the plan and what it costs on this device, from a few measured steps."""
    from mergekit_audio.pretrain.estimate import estimate

    return {**plan.as_dict(), "estimate": estimate(plan)}


def _one_culture(loaded: LoadedRecipe) -> None:
    cultures = _cultures(loaded)
    if len(cultures) > 1:
        problem = f"train-culture takes one corpus, found {len(cultures)}: {', '.join(cultures)}"
        _refuse(loaded, problem, "train-multi")


def _several_cultures(loaded: LoadedRecipe) -> None:
    cultures = _cultures(loaded)
    if len(cultures) < 2:
        problem = (
            f"train-multi takes several corpora as `culture: source`, found one: {cultures[0]}"
        )
        _refuse(loaded, problem, "train-culture")


def _cultures(loaded: LoadedRecipe) -> list[str]:
    from mergekit_audio.recipe.train import TrainRecipe

    assert isinstance(loaded.recipe, TrainRecipe)
    return list(loaded.recipe.corpora())


def _refuse(loaded: LoadedRecipe, problem: str, other: str) -> None:
    fault = loaded.document.fault(("corpus",), problem)
    raise RecipeError([fault], f"run: cmerge {other} {loaded.path}")


def _plan(loaded: LoadedRecipe) -> Any:
    from mergekit_audio import pretrain as engine
    from mergekit_audio.recipe.train import TrainRecipe

    assert isinstance(loaded.recipe, TrainRecipe)
    return engine.plan(loaded.recipe, loaded.root)


def _run(loaded: LoadedRecipe, plan: Any, **keywords: Any) -> Lock:
    from mergekit_audio import pretrain as engine

    return engine.run(plan, **keywords)


def _finish(target: Path, lock: Lock) -> Finished:
    steps = sum(stage["steps"] for stage in lock.recipe["stages"])
    what = f"trained {lock.recipe['culture']} for {steps} steps"
    then = f"name {shown(target)} under models: of a merge recipe (cmerge recipe ls)"
    return Finished(what, then)


train_culture = recipe_command(
    _job("train-culture", _one_culture),
    """Train a model on one culture: continual pre-training, or a base from random weights.

Stopped at any moment, the same command resumes.

Example: cmerge train-culture makam.yaml --set corpus=recordings/makam
""",
)


train_multi = recipe_command(
    _job("train-multi", _several_cultures),
    """Train one model on several cultures at once.

Stopped at any moment, the same command resumes.

Example: cmerge train-multi multi.yaml --dry-run
""",
)
