"""The ``kind: ablation`` recipe: a two-stage training, and how its one-stage rivals are trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import OutputPath, Strict
from mergekit_audio.recipe.evaluate import Task, require_distinct
from mergekit_audio.recipe.train_arguments import NonNegative, Positive, Share

Metric = Literal["roc_auc", "average_precision", "mean"]


class SingleStage(Strict):
    """How the two single-stage runs train all parameters; the paper gives none of these values."""

    peak_lr: Positive | None = None
    """The learning rate after re-warming; null means the last stage's."""
    min_lr: NonNegative | None = None
    """Where the cosine decay ends; null means the last stage's."""
    warmup_ratio: Share | None = None
    """The share of the steps that re-warms; null means the last stage's."""
    constant_lr: Positive | None = None
    """The rate of the run without re-warming, from its first step to its last; null means `min_lr`,
    where the base's own schedule would have ended."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The share of replayed clips; null means the first stage's (all runs of Table 1 replay)."""


class AblationRecipe(Strict):
    """Train one recipe by four strategies, probe them beside their base, print the paper's Table 1.

    The strategies: single-stage, single-stage without re-warming, the first stage alone, both
    stages. The single-stage runs take as many steps as both stages together.
    """

    kind: Literal["ablation"]
    """Always `ablation`."""
    train: str
    """A `kind: train` recipe of two stages; both stages together are its own output."""
    changes: list[str] = Field(default=[])
    """`key=value` changes of the training recipe, as with `--set`; they hold for every run."""
    base_train: str | None = None
    """A `kind: train` recipe that makes the training's base, run first when the base is missing."""
    single_stage: SingleStage = SingleStage()
    """How the single-stage runs train."""
    runs: str | None = None
    """The folder of the three other trainings; null means `<output>_runs`."""
    tasks: list[Task] = Field(min_length=1)
    """The probing tasks, the table's columns."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Seeds of the probes."""
    metric: Metric = "roc_auc"
    """What the table shows: ROC-AUC (the paper), average precision, or the mean of both."""
    store: str | None = None
    """The prepared store and the feature cache; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The folder of results, relative to the recipe file."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [task.name for task in self.tasks]
        require_distinct("task names and the column of the average", [*names, "average"])
        require_distinct("seeds", self.seeds)
        return self

    @property
    def runs_folder(self) -> str:
        """The folder of the derived trainings, relative to the recipe file."""
        return self.runs if self.runs is not None else f"{self.output.rstrip('/')}_runs"
