"""The ``kind: measure`` recipe: what a data-driven merge must know of models, from audio alone."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Plugin, Strict, default_plugin
from mergekit_audio.recipe.evaluate import require_distinct
from mergekit_audio.recipe.train_arguments import Masking

DEFAULT_ALPHA = 0.95


class FisherSettings(Strict):
    """Whose information: the distribution over y that the model gives for a clip."""

    distribution: Literal["codes", "gaussian"] = "codes"
    """`codes`: the codes that the model's own pre-training heads predict at masked frames;
    `gaussian`: a unit Gaussian around the encoder's output, for a model without heads."""
    temperature: Annotated[FiniteFloat, Field(gt=0)] | None = None
    """The heads' temperature (`codes`); null: the one in the lock of the model's training."""
    samples: int = Field(default=1, gt=0)
    """Draws of y for each clip."""
    masking: Masking = Masking()
    """Which frames are masked (`codes`); every clip by itself, so `same_count` changes nothing."""


class MeasuredModel(Strict):
    """One model of a merge whose layers are measured together with the others'."""

    name: str = Field(default="", pattern=r"^[^/\\]*$")
    """The folder of its statistics; left out, the last part of `model`."""
    model: str
    """A checkpoint folder or a hub repo id."""
    corpus: str
    """The model's own audio: a folder of recordings or a manifest; no labels are needed."""
    weight: Annotated[FiniteFloat, Field(ge=0)] = 1.0
    """Its weight in the merge."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("model"), str):
            last = PurePosixPath(os.path.normpath(value["model"])).name
            return {"name": last.partition("@")[0], **value}
        return value


class MeasureRecipe(Strict):
    """Measure a model on audio once, so that merges need the statistics and not the audio."""

    kind: Literal["measure"]
    """Always `measure`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the clips, masks and labels."""
    model: str | None = None
    """The model to measure (`fisher`, `gram`): a checkpoint folder or a hub repo id."""
    corpus: str | None = None
    """Its audio: a folder of recordings or a manifest; no labels are needed."""
    base: str | None = None
    """The base of the merge (`gram_merged`)."""
    models: list[MeasuredModel] = Field(default=[])
    """All models of the merge with their audio (`gram_merged`)."""
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    """RegMean++'s α (`gram_merged`): the merge's own; null means 0.95."""
    statistics: list[Literal["fisher", "gram", "gram_merged"]] = Field(
        default=["fisher", "gram"], min_length=1
    )
    """`fisher` for Fisher merging, `gram` for RegMean; `gram_merged`, of several models at once and
    by itself, for RegMean++."""
    backbone: Annotated[Backbone, Plugin("backbones")] = Field(
        default_factory=lambda: default_plugin("backbones", "mert")
    )
    """The model family."""
    examples: int = Field(default=256, gt=0)
    """Clips of each model's audio, drawn by the seed."""
    crop_s: Annotated[FiniteFloat, Field(gt=0)] = 5.0
    """Seconds of a clip."""
    batch_size: int = Field(default=8, gt=0)
    """Clips of a forward pass for Grams (a Fisher needs every clip's own gradient: one by one)."""
    fisher: FisherSettings = FisherSettings()
    """What the Fisher is taken of."""
    num_threads: int | None = Field(default=None, gt=0)
    """CPU threads; a fixed number gives the same bytes on every machine, null means all cores."""
    store: str | None = None
    """The prepared store; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The folder to write, relative to the recipe file."""

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        require_distinct("statistics", self.statistics)
        if "gram_merged" in self.statistics:
            if len(self.statistics) > 1:
                raise ValueError(
                    "gram_merged is measured by itself: give the other statistics another recipe"
                )
            if self.base is None or len(self.models) < 2:
                raise ValueError("gram_merged needs `base` and two or more `models`")
            if self.model is not None or self.corpus is not None:
                raise ValueError("gram_merged takes `models`, each with its corpus, not `model`")
            require_distinct("names of models", [entry.name for entry in self.models])
            if not any(entry.weight for entry in self.models):
                raise ValueError("all models have weight 0")
            return self
        if self.model is None or self.corpus is None:
            raise ValueError("`model` and `corpus` are needed")
        if self.base is not None or self.models or self.alpha is not None:
            raise ValueError("`base`, `models` and `alpha` belong to statistics: [gram_merged]")
        return self

    @property
    def is_joint(self) -> bool:
        """Whether several models are measured together."""
        return "gram_merged" in self.statistics

    @property
    def merge_alpha(self) -> float:
        """RegMean++'s α."""
        return DEFAULT_ALPHA if self.alpha is None else self.alpha
