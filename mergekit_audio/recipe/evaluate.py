"""The ``kind: evaluate`` recipe: models, probing tasks and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.recipe.base import OutputPath, Plugin, Strict, default_plugin


class Protocol(Strict):
    """How a frozen encoder is probed; what the papers leave open is a setting here."""

    chunk_s: Annotated[float, Field(gt=0)] = 30.0
    """Length of a chunk; a shorter track is one chunk of its own length; nothing is padded."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of a chunk that the next one repeats."""
    last_chunk: Literal["drop", "keep", "align"] = "drop"
    """A last, shorter chunk is dropped, kept, or moved back to full length."""
    min_last_chunk_s: Annotated[float, Field(gt=0)] = 1.0
    """With `keep`: the shortest last chunk that counts."""
    max_duration_s: Annotated[float, Field(gt=0)] | None = None
    """Only the first seconds of a track are used (150 makam, 780 Hindustani, 330 Carnatic)."""
    normalize: bool = True
    """Give each chunk zero mean and unit variance first (MARBLE does; MERT's training did not)."""
    standardize: bool = False
    """Give each feature zero mean and unit variance over the training chunks (MARBLE does not)."""
    layer: int | Literal["weighted"] = "weighted"
    """A hidden state (0 is the front's output) or a learned softmax-weighted sum of all."""
    hidden_size: int = Field(default=512, gt=0)
    """Units of the probe's one hidden layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout after the hidden layer."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's learning rate."""
    batch_size: int = Field(default=64, gt=0)
    """Chunks of a step."""
    max_epochs: int = Field(default=100, gt=0)
    """At most this many epochs."""
    patience: int = Field(default=10, gt=0)
    """Epochs without a better validation score before stopping."""
    plateau_patience: int = Field(default=3, gt=0)
    """Epochs without a better validation score before the learning rate is halved."""
    monitor: Literal["roc_auc", "average_precision"] = "roc_auc"
    """The validation score that stops the training and restores the best weights."""
    aggregate: Literal["mean_probability", "mean_logit"] = "mean_probability"
    """How a track's chunks become one prediction."""


class Task(Strict):
    """One probing task: a corpus with tags and splits."""

    name: str
    """The column's name in tables."""
    corpus: str
    """A manifest, a folder or a prepared corpus with `split` and `tags`."""
    western: bool = False
    """Counts to the Western average (the others to the non-Western one)."""
    top_tags: int | None = Field(default=None, gt=0)
    """Keep the most frequent tags of the training split (ties alphabetical); null keeps all."""
    tags: list[str] | None = Field(default=None, min_length=1)
    """A pinned tag list instead."""
    protocol: Protocol = Protocol()
    """How this task is probed."""

    @model_validator(mode="after")
    def _one_tag_rule(self) -> Self:
        if self.tags is not None:
            if self.top_tags is not None:
                raise ValueError("give either `tags` or `top_tags`")
            require_distinct("tags", self.tags)
        return self


class EvaluateModel(Strict):
    """One row of the table."""

    name: str = ""
    """The row's name; left out, the last part of `model`."""
    model: str
    """A checkpoint folder or a hub repo id."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("model"), str):
            return {"name": PurePosixPath(value["model"]).name, **value}
        return value


class EvaluateRecipe(Strict):
    """Probe frozen encoders on tagging tasks: every model on every task with every seed."""

    kind: Literal["evaluate"]
    """Always `evaluate`."""
    backbone: Annotated[Backbone, Plugin("backbones")] = Field(
        default_factory=lambda: default_plugin("backbones", "mert")
    )
    """The model family."""
    models: list[EvaluateModel] = Field(min_length=1)
    """The rows."""
    tasks: list[Task] = Field(min_length=1)
    """The columns."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    """Seeds of the probes (initial weights, order, dropout)."""
    store: str | None = None
    """The prepared store and the feature cache; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The folder of results, relative to the recipe file."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        require_distinct("model names", [entry.name for entry in self.models])
        require_distinct("task names", [task.name for task in self.tasks])
        require_distinct("seeds", self.seeds)
        return self


def require_distinct(what: str, values: Sequence[object]) -> None:
    """Raise ``ValueError`` when a value comes twice."""
    if len(set(values)) != len(values):
        raise ValueError(f"{what} must differ, found {list(values)}")
