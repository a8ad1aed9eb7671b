"""Plan a sweep: what has to be trained, which λ are merged, how many points are probed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.merge import MergePlan
from mergekit_audio.merge import plan as plan_merge
from mergekit_audio.probe.points import require_config
from mergekit_audio.probe.run import store_folder
from mergekit_audio.probe.tasks import plan_task
from mergekit_audio.recipe.merge import MergeRecipe, ModelEntry
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.grid import GridPoint, can_average, scale_grid, weight_average_scale
from mergekit_audio.sweep.training import Training, trainings
from mergekit_audio.weights.checkpoint import Checkpoint


def plan(recipe: SweepRecipe, root: Path) -> SweepPlan:
    """Load the training recipes and open the models that are there already; nothing is written.

    Raises
    ------
    RecipeError
        A training recipe has faults, or ``base_train`` writes another folder than ``base``.
    InputError
        A model that is there can't be opened or has another layout than the base, or a task's
        corpus is missing or has no splits or tags.
    """
    root = Path(root)
    needed = trainings(recipe, root)
    made = {training.name for training in needed if training.is_missing}
    tasks = tuple(plan_task(task, root) for task in recipe.tasks)
    planned = SweepPlan(recipe, root, tuple(scale_grid(recipe)), tuple(needed), tasks)
    opened = {
        name: Checkpoint.open(source, root=root)
        for name, source in planned.sources()
        if name not in made
    }
    for checkpoint in opened.values():
        require_config(checkpoint)
    for culture in recipe.cultures:
        if "base" in opened and culture.name in opened:
            opened["base"].require_same_layout(opened[culture.name])
    return planned


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will do.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    grid
        λ in rising order.
    trainings
        The training recipes that it names, the base's first.
    tasks
        Each task's tracks by split.
    """

    recipe: SweepRecipe
    root: Path
    grid: tuple[GridPoint, ...]
    trainings: tuple[Training, ...]
    tasks: tuple[dict[str, Any], ...]

    def sources(self) -> list[tuple[str, str]]:
        """Return name and checkpoint of the base, the cultures and the compared models."""
        trained = {training.name: training.source for training in self.trainings}
        cultures = [(each.name, each.model or trained[each.name]) for each in self.recipe.cultures]
        compared = [(each.name, each.model) for each in self.recipe.compare]
        return [("base", self.recipe.base), *cultures, *compared]

    @property
    def has_extra_average(self) -> bool:
        """Whether weight averaging is a row of its own, since no λ of the method gives it."""
        return can_average(self.recipe) and weight_average_scale(self.recipe) is None

    @property
    def points(self) -> int:
        """Rows times tasks times seeds."""
        models = len(self.recipe.cultures) + len(self.recipe.compare) + len(self.grid)
        rows = models + self.has_extra_average
        return rows * len(self.recipe.tasks) * len(self.recipe.seeds)

    def merge(self, *, scale: float, output: str, average: bool = False) -> MergePlan:
        """Return the plan of one merge of the cultures; all models must be there.

        Parameters
        ----------
        scale
            λ.
        output
            The folder that the merge's own recipe names, relative to the sweep's recipe.
        average
            Use ``weighted_average`` instead of the recipe's method.
        """
        from mergekit_audio.methods.weighted_average import WeightedAverage

        sources = dict(self.sources())
        recipe = MergeRecipe(
            kind="merge",
            seed=self.recipe.seed,
            base=self.recipe.base,
            models=[
                ModelEntry(model=sources[culture.name], weight=culture.weight)
                for culture in self.recipe.cultures
            ],
            method=WeightedAverage() if average else self.recipe.method,
            scale=scale,
            output=output,
        )
        return plan_merge(recipe, self.root)

    def notes(self) -> list[str]:
        """Return what a reader must know of the models."""
        return [note for training in self.trainings if (note := training.note())]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        recipe = self.recipe
        missing = {training.name for training in self.trainings if training.is_missing}
        return {
            "kind": recipe.kind,
            "train_first": [
                {"name": each.name, "recipe": each.path.name, "output": each.source}
                for each in self.trainings
                if each.name in missing
            ],
            "models": [
                {"name": name, "model": source, "is_there": name not in missing}
                for name, source in self.sources()
            ],
            "method": recipe.method.model_dump(mode="json"),
            "scales": [
                {"scale": point.scale, "weight_average": point.weight_average}
                for point in self.grid
            ],
            "tasks": list(self.tasks),
            "seeds": list(recipe.seeds),
            "points": self.points,
            "select": recipe.select.model_dump(mode="json"),
            "write_best": recipe.write_best,
            "store": str(store_folder(recipe.store, self.root)),
            "output": recipe.output,
            "notes": self.notes(),
        }
