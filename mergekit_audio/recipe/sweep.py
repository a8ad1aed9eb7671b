"""The ``kind: sweep`` recipe: cultures, λ values, probing tasks and the rule of choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.base import (
    FiniteFloat,
    OutputPath,
    Plugin,
    RowName,
    Strict,
    default_plugin,
)
from mergekit_audio.recipe.evaluate import EvaluateModel, Task, require_distinct
from mergekit_audio.recipe.label_free import LabelFree, SimilarityScales
from mergekit_audio.recipe.objective import GROUPS, Objective, Term, parse_objective
from mergekit_audio.recipe.search import Search
from mergekit_audio.recipe.spaces import (
    Interpolate,
    ScaleRange,
    Scales,
    SpaceGroup,
    SpaceName,
    method_variants,
)
from mergekit_audio.registry import did_you_mean

OWN_ROWS = ("λ", "weight average", "label-free (", "similarity (")
"""How the names begin of rows that a sweep adds to those of the recipe."""


class Culture(Strict):
    """One culture: a checkpoint, or the training recipe that makes it."""

    name: RowName
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
    """The tasks that count, by their mean; null means all."""
    objective: str | None = None
    """What is maximised instead: `mean(non_western) subject to western >= base - 0.5`, of tasks,
    `all`, `western` and `non_western`, in points of the metric times 100."""
    confidence: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.95
    """Of the band of λ that can't be told apart from the best."""
    resamples: int = Field(default=1000, ge=0)
    """Resamples of the validation tracks for that band; 0 leaves it out."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.objective is not None:
            if self.tasks is not None:
                raise ValueError("give either `tasks` or `objective`")
            parse_objective(self.objective)
        if self.resamples == 1:
            raise ValueError("one resample has no spread: give 0, or more than one `resamples`")
        return self

    def rule(self) -> Objective:
        """Return the objective; without one, the mean of the tasks that count."""
        if self.objective is not None:
            return parse_objective(self.objective)
        return Objective(Term("mean", tuple(self.tasks or ["all"])))


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
    scales: Scales
    """The λ grid: a list, `{from, to, count}`, or `auto`, from 0 to where the merge is as far from
    the base as the models are. 0 (the base) and weight averaging are added where they are
    missing."""
    space: SpaceName = "shared"
    """`shared`: one λ; `per_culture`: one λ a culture (task arithmetic); `groups`: one λ for each
    of `groups`. Of several λ all combinations of `scales` are merged."""
    groups: list[SpaceGroup] = Field(default=[])
    """Tensors with a λ of their own, for `space: groups`; the first group that matches a tensor
    counts, and tensors of none keep the base's values."""
    method_grid: dict[str, list[Any]] = Field(default={})
    """Values of the method's own parameters, such as `{density: [0.1, 0.3]}`: every combination is
    swept."""
    interpolate: Interpolate | None = None
    """Probe many λ on interpolated features; null evaluates each λ of `scales` directly."""
    search: Search | None = None
    """Look for better λ between those of `scales`, one after the other; with several λ and without
    `interpolate`, instead of all combinations of `scales`."""
    label_free: LabelFree | None = None
    """Search λ without labels as well, and score what it finds beside the others."""
    similarity: SimilarityScales | None = None
    """Score the λ that `cmerge similarity` suggests beside the others."""
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
    mixture_hours: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """Hours of the training mixture that the chosen λ suggest (`suggested_mixture.yaml`); null
    means as many as the tasks' corpora hold at these ratios where the cultures were trained on
    them, else 100."""
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
        for name in models:
            if name.startswith(OWN_ROWS):
                raise ValueError(f"the row {name!r} is the sweep's own: give another name")
        require_distinct("task names", [task.name for task in self.tasks])
        if isinstance(self.scales, list):
            require_distinct("scales", self.scales)
        require_distinct("group names", [group.name for group in self.groups])
        if self.resamples == 1:
            raise ValueError("one resample has no spread: give 0, or more than one `resamples`")
        require_distinct("seeds", self.seeds)
        if self.select.tasks is not None:
            require_distinct("select.tasks", self.select.tasks)
        return self

    @model_validator(mode="after")
    def _fitting_space(self) -> Self:
        if (self.space == "groups") != bool(self.groups):
            raise ValueError("`space: groups` and `groups` go together")
        if self.space == "per_culture" and self.method.name != "task_arithmetic":
            raise ValueError(
                f"`space: per_culture` is a sum of task vectors, which {self.method.name} is not: "
                "take `method: {name: task_arithmetic}`, or another space"
            )
        for name, values in self.method_grid.items():
            if not values:
                raise ValueError(f"method_grid: {name} has no values")
            require_distinct(f"method_grid.{name}", values)
        method_variants(self.method, self.method_grid)
        listed = self.scales if isinstance(self.scales, list) else []
        if self.interpolate is not None and listed and len({0.0, *listed}) < 2:
            raise ValueError("interpolate needs two different λ")
        axes = {"shared": 1, "per_culture": len(self.cultures), "groups": len(self.groups)}
        fewest = max(3, axes[self.space] + 1)
        most = self.interpolate.max_nodes if self.interpolate is not None else None
        if most is not None and most < fewest:
            raise ValueError(f"interpolate.max_nodes is {most}, but {fewest} are the fewest")
        return self

    @model_validator(mode="after")
    def _fitting_search(self) -> Self:
        if self.search is None:
            return self
        if self.method_grid:
            raise ValueError("`search` looks for λ: leave `method_grid` out, or sweep it by itself")
        if self.search.sampler == "halving":
            if self.interpolate is not None:
                raise ValueError(
                    "`sampler: halving` saves extractions, which interpolated λ do not need: leave "
                    "`interpolate` out, or take another sampler"
                )
            for task in self.tasks:
                if task.protocol.select is not None and task.protocol.select.split == "test":
                    raise ValueError(
                        f"`sampler: halving` hears no test tracks, but task {task.name!r} selects "
                        "on test"
                    )
        if self.search.sampler == "nsga" and len({task.western for task in self.tasks}) < 2:
            raise ValueError(
                "`sampler: nsga` weighs non-Western tasks against Western ones, and all are of one "
                "kind"
            )
        return self

    @model_validator(mode="after")
    def _fitting_objective(self) -> Self:
        western = {task.name: task.western for task in self.tasks}
        for name in self.select.rule().names():
            if name in GROUPS and name in western and self.task_groups()[name] != [name]:
                raise ValueError(f"{name!r} is a task and a group of others: rename the task")
            if name in GROUPS:
                if name != "all" and (name == "western") not in western.values():
                    raise ValueError(f"select.objective names {name!r}, but no task is {name}")
            elif name not in western:
                known = [*western, *GROUPS]
                near = did_you_mean(name, known) or f"known: {', '.join(known)}"
                raise ValueError(f"select.objective names {name!r}, which is no task; {near}")
        if self.select.metric != "mean":
            other = [task.name for task in self.tasks if task.kind != "tagging"]
            counted = self.objective_tasks()
            if wrong := [name for name in other if name in counted]:
                raise ValueError(
                    f"select.metric is {self.select.metric}, which {wrong[0]!r} has not: "
                    "take `mean`, or leave this task out"
                )
        return self

    def task_groups(self) -> dict[str, list[str]]:
        """Return the tasks of ``all``, ``western`` and ``non_western``."""
        return {
            "all": [task.name for task in self.tasks],
            "western": [task.name for task in self.tasks if task.western],
            "non_western": [task.name for task in self.tasks if not task.western],
        }

    def objective_tasks(self) -> list[str]:
        """Return the tasks that the rule of choice looks at, in the recipe's order."""
        groups, names = self.task_groups(), self.select.rule().names()
        wanted = {task for name in names for task in groups.get(name, [name])}
        return [task.name for task in self.tasks if task.name in wanted]

    def scale_values(self) -> list[float] | None:
        """Return the λ of a list or a range; ``None`` for ``auto``."""
        if isinstance(self.scales, ScaleRange):
            return self.scales.values()
        return list(self.scales) if isinstance(self.scales, list) else None
