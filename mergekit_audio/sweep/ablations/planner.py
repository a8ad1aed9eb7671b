"""Plan an ablation: its trainings, which of them are finished, and whether those are the ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergekit_audio.errors import InputError
from mergekit_audio.lock import Lock, compare_outputs, hash_outputs, read_lock, recipe_root
from mergekit_audio.probe.model_row import require_config
from mergekit_audio.probe.run import store_folder
from mergekit_audio.probe.tasks import plan_task
from mergekit_audio.recipe.ablation import AblationRecipe
from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.sweep.ablations.strategies import TITLES, Strategies, strategies
from mergekit_audio.sweep.training import Training
from mergekit_audio.weights.checkpoint import Checkpoint


def plan(recipe: AblationRecipe, root: Path) -> AblationPlan:
    """Derive the trainings, check those that are finished, plan those that are not.

    Nothing is written. While the base itself has still to be trained, trainings from it are not
    planned further.

    Raises
    ------
    RecipeError
        A training recipe has faults, or does not have two stages.
    InputError
        A finished training was made by other settings or from another base, or the base, a
        corpus or a task can't be used.
    """
    from mergekit_audio import pretrain

    root = Path(root)
    derived = strategies(recipe, root)
    planned = AblationPlan(
        recipe, root, derived, tuple(plan_task(task, root) for task in recipe.tasks)
    )
    if derived.base_training is not None and derived.base_training.is_missing:
        return planned
    base = Checkpoint.open(derived.base, root=root)
    require_config(base)
    for training in derived.runs:
        if training.is_missing:
            pretrain.plan(training.recipe, training.path.parent)
        else:
            require_made_by(training, base)
    return planned


@dataclass(frozen=True)
class AblationPlan:
    """What an ablation will do.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    strategies
        The four trainings, their base, and the training that makes it.
    tasks
        Each task's tracks by split.
    """

    recipe: AblationRecipe
    root: Path
    strategies: Strategies
    tasks: tuple[dict[str, Any], ...]

    @property
    def trainings(self) -> list[Training]:
        """All trainings in the order in which they run, the base's first."""
        first = self.strategies.base_training
        return [*([first] if first is not None else []), *self.strategies.runs]

    @property
    def points(self) -> int:
        """Rows times tasks times seeds."""
        rows = 1 + len(self.strategies.runs)
        return rows * len(self.recipe.tasks) * len(self.recipe.seeds)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        return {
            "kind": self.recipe.kind,
            "train": self.recipe.train,
            "base": self.strategies.base,
            "train_first": [each.source for each in self.trainings if each.is_missing],
            "strategies": strategy_facts(self.strategies),
            "tasks": list(self.tasks),
            "seeds": list(self.recipe.seeds),
            "points": self.points,
            "metric": self.recipe.metric,
            "store": str(store_folder(self.recipe.store, self.root)),
            "output": self.recipe.output,
        }


def strategy_facts(derived: Strategies) -> list[dict[str, Any]]:
    """Return what each strategy trains, for the plan, the summary and the table's notes."""
    return [
        {
            "name": training.name,
            "title": TITLES[training.name],
            "output": training.source,
            "steps": sum(stage.steps for stage in training.recipe.stages),
            "stages": [
                stage.model_dump(
                    mode="json",
                    include={
                        "name",
                        "train",
                        "steps",
                        "peak_lr",
                        "min_lr",
                        "warmup_ratio",
                        "replay_share",
                    },
                )
                for stage in training.recipe.stages
            ],
        }
        for training in derived.runs
    ]


def require_made_by(training: Training, base: Checkpoint) -> None:
    """Raise ``InputError`` unless a finished training's folder holds what its recipe makes.

    The lock's recipe must be this one (``output`` and ``store`` aside), started from this base, and
    the files those of the lock. Recordings are not hashed here.
    """
    lock = read_lock(training.output)
    differences = _changed_settings(lock, training)
    if recipe_root(training.output, lock) != training.path.parent.resolve():
        differences.append("the recipe's folder")
    bases = [each.content_digest for each in lock.inputs if each.name == "base"]
    if bases != [base.digest()]:
        differences.append("base")
    if differences:
        raise InputError(
            f"{training.output}: made by another training than {training.path.name} asks for as "
            f"{training.name}; different: {', '.join(differences)}",
            "move it away or choose another folder (--set runs=…, or the training's own output); "
            "trainings are never replaced by an ablation",
        )
    if changed := compare_outputs(lock.outputs, hash_outputs(training.output)):
        raise InputError(
            f"{training.output}: changed since it was trained: {changed[0]}",
            "move it away to train it again",
        )


def _changed_settings(lock: Lock, training: Training) -> list[str]:
    """Return the keys of the training's recipe that its lock tells otherwise, sorted."""
    try:
        locked = TrainRecipe.model_validate(lock.recipe).model_dump(mode="json")
    except ValidationError:
        return ["the lock's recipe is of another version or kind"]
    wanted = training.recipe.model_dump(mode="json")
    decisive = [key for key in wanted if key not in ("output", "store")]
    return sorted(key for key in decisive if locked[key] != wanted[key])
