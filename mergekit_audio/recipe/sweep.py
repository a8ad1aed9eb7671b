"""The ``kind: sweep`` recipe: cultures, λ values, probing tasks and the rule of choice."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Plugin, Strict, default_plugin
from mergekit_audio.recipe.evaluate import EvaluateModel, Task, require_distinct


class Culture(Strict):
    """One culture: a checkpoint, or the training recipe that makes it."""

    name: str
    """The culture's name."""
    model: str | None = None
    """A checkpoint folder or a hub repo id."""
    train: str | None = None
    """A `kind: train` recipe, run first when its output is missing."""
    weight: FiniteFloat = 1.0
    """The culture's own factor beside λ."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.model is None) == (self.train is None):
            raise ValueError("give either `model` or `train`")
        return self


class Select(Strict):
    """How λ is chosen: always on validation, reported on test."""

    metric: Literal["roc_auc", "average_precision", "mean"] = "mean"
    """`mean` is the mean of both."""
    tasks: list[str] | None = Field(default=None, min_length=1)
    """The tasks that count; null means all."""


class SweepRecipe(Strict):
    """Merge at many λ, probe each merge on many tasks, choose λ on validation."""

    kind: Literal["sweep"]
    """Always `sweep`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the merge method."""
    base: str
    """The base checkpoint: a folder or a hub repo id."""
    base_train: str | None = None
    """A `kind: train` recipe that makes `base`, run first when `base` is missing."""
    backbone: Annotated[Backbone, Plugin("backbones")] = Field(
        default_factory=lambda: default_plugin("backbones", "mert")
    )
    """The model family."""
    cultures: list[Culture] = Field(min_length=1)
    """The models to merge."""
    compare: list[EvaluateModel] = Field(default=[])
    """More models for the table (a multi-cultural one, say)."""
    method: Annotated[MergeMethod, Plugin("methods")]
    """The merge method."""
    scales: list[FiniteFloat] = Field(min_length=1)
    """The λ grid; 0 (the base) and weight averaging are added where they are missing."""
    tasks: list[Task] = Field(min_length=1)
    """The probing tasks."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Seeds of the probes."""
    select: Select = Select()
    """How λ is chosen."""
    resamples: int = Field(default=10_000, ge=0)
    """Resamples of the tracks in the paired bootstrap of differences from the base; 0 leaves
    differences out."""
    store: str | None = None
    """The prepared store and the feature cache; null means `.cmerge_store` beside the recipe."""
    write_best: bool = False
    """Also write the best merge to `<output>/best`."""
    output: OutputPath
    """The folder of results, relative to the recipe file."""

    @model_validator(mode="after")
    def _known_tasks(self) -> Self:
        names = [task.name for task in self.tasks]
        unknown = [name for name in self.select.tasks or [] if name not in names]
        if unknown:
            raise ValueError(f"select.tasks names {unknown}, but tasks are {names}")
        return self

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        models = [*(culture.name for culture in self.cultures), *(row.name for row in self.compare)]
        require_distinct("names of cultures and compared models", ["base", *models])
        require_distinct("task names", [task.name for task in self.tasks])
        require_distinct("scales", self.scales)
        if self.resamples == 1:
            raise ValueError("one resample has no spread: give 0, or more than one `resamples`")
        require_distinct("seeds", self.seeds)
        if self.select.tasks is not None:
            require_distinct("select.tasks", self.select.tasks)
        return self
