"""The rows of a sweep that are no merges at a λ: base, cultures, compared models, an average."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from mergekit_audio.probe.model_row import ModelRow, checkpoint_row
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.sweep.executors.base import Outcome
from mergekit_audio.sweep.merges import AVERAGE_NAME, Merges, point_facts
from mergekit_audio.sweep.spaces import BASE_NAME, Point, Space
from mergekit_audio.weights.checkpoint import Checkpoint


@dataclass
class ModelRows:
    """Makes these rows.

    Parameters
    ----------
    recipe, space
        The sweep and its points.
    models
        The base, the cultures and the compared models by name.
    merges
        Makes the average, where no λ of the method gives it.
    """

    recipe: SweepRecipe
    space: Space
    models: Mapping[str, Checkpoint]
    merges: Merges

    def names(self) -> list[str]:
        """Return the rows' names, in their order."""
        cultures = [each.name for each in self.recipe.cultures]
        compared = [each.name for each in self.recipe.compare]
        average = [AVERAGE_NAME] if self.merges.planned.has_extra_average else []
        return [BASE_NAME, *cultures, *compared, *average]

    def rows(
        self, outcome: Callable[[str], Outcome | None] = lambda name: None
    ) -> Iterator[ModelRow]:
        """Yield the rows, each when its outcome is known.

        Parameters
        ----------
        outcome
            Waits until a worker has computed a row by its name; ``None`` where none does.
        """
        backbone, space = self.recipe.backbone, self.space
        outcome(BASE_NAME)
        yield self.base
        for culture in self.recipe.cultures:
            outcome(culture.name)
            row = checkpoint_row(culture.name, "culture", self.models[culture.name], backbone)
            point = space.single(culture.name)
            if point is not None:
                facts = {**point_facts(space, point), "parameters": {}}
                row = replace(row, in_grid=True, scale=point.scale, facts=facts)
            yield row
        for compared in self.recipe.compare:
            outcome(compared.name)
            yield checkpoint_row(compared.name, "compare", self.models[compared.name], backbone)
        if self.merges.planned.has_extra_average:
            yield self.merges.average_row(outcome(AVERAGE_NAME))

    @functools.cached_property
    def base(self) -> ModelRow:
        """The row of λ = 0."""
        axes = self.space.axes
        facts = {**point_facts(self.space, Point((0.0,) * len(axes))), "parameters": {}}
        row = checkpoint_row(
            BASE_NAME,
            "base",
            self.models[BASE_NAME],
            self.recipe.backbone,
            scale=0.0 if len(axes) == 1 else None,
            in_grid=True,
        )
        return replace(row, facts=facts)

    def at(self, point: Point) -> ModelRow:
        """Return a point's row; that of a culture's checkpoint where it is its own model."""
        for culture, scales in self.space.singles.items():
            if scales == point.scales:
                model = self.models[culture]
                return checkpoint_row(culture, "culture", model, self.recipe.backbone)
        return self.merges.row(point)
