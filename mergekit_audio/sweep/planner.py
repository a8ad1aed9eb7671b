"""Plan a sweep: what has to be trained, which λ are merged, how many points are probed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.merge import MergePlan
from mergekit_audio.merge import plan as plan_merge
from mergekit_audio.probe.model_row import require_config
from mergekit_audio.probe.run import store_folder
from mergekit_audio.probe.tasks import plan_task
from mergekit_audio.recipe.merge import Group, MergeRecipe, ModelEntry
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.searches.halving import search_extractions
from mergekit_audio.sweep.spaces import (
    Point,
    Space,
    can_average,
    direct_points,
    make_space,
    most_nodes,
    weight_average_scale,
)
from mergekit_audio.sweep.training import Training, trainings
from mergekit_audio.sweep.trust_region import trusted_scales
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
    space = None if recipe.scales == "auto" else make_space(recipe)
    planned = SweepPlan(recipe, root, space, tuple(needed), tasks)
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
    if recipe.space == "groups" and not made:
        planned.merge(Point((1.0,) * len(recipe.groups)))  # refuses globs that match no tensor
    return planned.with_space() if space is None and not made else planned


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will do.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    space
        λ; ``None`` while an automatic range waits for models that have to be trained.
    trainings
        The training recipes that it names, the base's first.
    tasks
        Each task's tracks by split.
    """

    recipe: SweepRecipe
    root: Path
    space: Space | None
    trainings: tuple[Training, ...]
    tasks: tuple[dict[str, Any], ...]

    def with_space(self) -> SweepPlan:
        """Return the plan with its λ; all models must be there."""
        if self.space is not None:
            return self
        values, reasons = trusted_scales(self)
        space = make_space(self.recipe, values, reasons)
        return SweepPlan(self.recipe, self.root, space, self.trainings, self.tasks)

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
    def checkpoints(self) -> int:
        """Rows that are no points of the space: base, cultures, compared models, average."""
        models = 1 + len(self.recipe.cultures) + len(self.recipe.compare)
        return models + self.has_extra_average

    @property
    def points(self) -> int | None:
        """Rows times tasks times seeds; ``None`` while λ are not known."""
        if self.space is None:
            return None
        rows = self.checkpoints + len(self.space.points)
        return rows * len(self.recipe.tasks) * len(self.recipe.seeds)

    def extractions(self) -> tuple[int, int] | None:
        """Return the fewest and the most λ and models whose features are computed, per task.

        Without interpolation both are the rows and the search's trials. With it the fewest is where
        three nodes are enough, the most where the tolerance is not met and the recipe's λ, and the
        trials, are evaluated directly.
        """
        if self.space is None:
            return None
        trials = search_extractions(self.recipe.search, [task["tracks"] for task in self.tasks])
        if self.recipe.interpolate is None:
            rows = self.checkpoints + len(self.space.points) + trials
            return rows, rows
        fewest, most = self.checkpoints, self.checkpoints + trials
        for variant in range(len(self.space.variants)):
            points = [point for point in self.space.points if point.variant == variant]
            marked = sum(point.is_marked for point in points)
            nodes = most_nodes(self.recipe.interpolate, len(self.space.axes))
            fewest += marked + len(self.space.axes) + 1
            most += nodes + len(direct_points(self.recipe, self.space, variant))
        return fewest, most

    def merge(self, point: Point | None, *, output: str = "", average: bool = False) -> MergePlan:
        """Return the plan of one merge of the cultures; all models must be there.

        Parameters
        ----------
        point
            λ and the method's parameters; ``None`` with ``average``.
        output
            The folder that the merge's own recipe names, relative to the sweep's recipe.
        average
            Use ``weighted_average`` at λ = 1 instead.
        """
        from mergekit_audio.methods.weighted_average import WeightedAverage

        recipe, sources = self.recipe, dict(self.sources())
        space = "shared" if point is None else recipe.space
        scales = (1.0,) if point is None else point.scales
        factors = scales if space == "per_culture" else (1.0,) * len(recipe.cultures)
        method = recipe.method
        if point is not None and recipe.method_grid:
            method = self._variant(point.variant)
        made = MergeRecipe(
            kind="merge",
            seed=recipe.seed,
            base=recipe.base,
            models=[
                ModelEntry(model=sources[each.name], name=each.name, weight=factor * each.weight)
                for each, factor in zip(recipe.cultures, factors, strict=True)
            ],
            method=WeightedAverage() if average else method,
            scale={"shared": scales[0], "per_culture": 1.0, "groups": 0.0}[space],
            groups=_groups(recipe, scales) if space == "groups" else [],
            output=output or recipe.output,
        )
        return plan_merge(made, self.root)

    def _variant(self, variant: int) -> Any:
        from mergekit_audio.recipe.spaces import method_variants

        return method_variants(self.recipe.method, self.recipe.method_grid)[variant][1]

    def notes(self) -> list[str]:
        """Return what a reader must know of the models and of the range of λ."""
        reasons = () if self.space is None else self.space.reasons
        return [*(note for each in self.trainings if (note := each.note())), *reasons]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for ``--dry-run``."""
        recipe, space = self.recipe, self.space
        missing = {training.name for training in self.trainings if training.is_missing}
        found = self.extractions()
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
            "space": recipe.space,
            "variants": [] if space is None else [dict(each[0]) for each in space.variants],
            "scales": "auto" if space is None else _listed(space),
            "interpolate": None
            if recipe.interpolate is None
            else recipe.interpolate.model_dump(mode="json"),
            "tasks": list(self.tasks),
            "seeds": list(recipe.seeds),
            "points": self.points,
            "extractions": None if found is None else {"fewest": found[0], "most": found[1]},
            "select": recipe.select.model_dump(mode="json"),
            "write_best": recipe.write_best,
            "store": str(store_folder(recipe.store, self.root)),
            "output": recipe.output,
            "notes": self.notes(),
        }


def _listed(space: Space) -> list[dict[str, Any]]:
    """Return the λ of the first variant with the base, in rising order."""
    base = Point((0.0,) * len(space.axes))
    points = sorted(
        [base, *(each for each in space.points if each.variant == 0)], key=lambda each: each.scales
    )
    return [
        {
            "scale": point.scale if len(space.axes) == 1 else list(point.scales),
            "weight_average": point.weight_average,
        }
        for point in points
    ]


def _groups(recipe: SweepRecipe, scales: Sequence[float]) -> list[Group]:
    return [
        Group(match=each.match, layers=each.layers, scale=scale)
        for each, scale in zip(recipe.groups, scales, strict=True)
    ]
