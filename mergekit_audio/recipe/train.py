"""The ``kind: train`` recipe: a base, corpora, teachers, stages and the trainer's settings."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.recipe.base import OutputPath, Plugin, Strict, default_plugin
from mergekit_audio.recipe.train_arguments import NonNegative, Positive, Share, TrainArguments
from mergekit_audio.recipe.trust import Forgetting
from mergekit_audio.teachers.base import Teacher
from mergekit_audio.transfers.base import FOLDING_HINT, Transfer

HEADS_WARMUP = "heads_warmup"
"""The name of the stage that ``heads: warmup`` puts before the others."""


class PresetBase(Strict):
    """A base made from a preset instead of a checkpoint."""

    preset: Literal["95m", "330m", "tiny"]
    """The size: MERT-v1-95M, MERT-v1-330M, or a small one of the same family."""
    init: Literal["random"]
    """Weights are drawn from the recipe's seed."""


class MixtureEntry(Strict):
    """A share of a stage's audio."""

    dataset: str
    """A culture of `corpus`."""
    hours: Positive | None = None
    """Hours of it that this stage draws from, whole segments chosen by the seed; null means all."""


class Stage(Strict):
    """One stage of training with its own optimiser and its own warmed and decayed schedule."""

    name: str = Field(default="", pattern=r"^[a-z0-9_-]*$")
    """The stage's name, part of file names; left out, `stage1`, `stage2`, …"""
    train: list[str] = Field(min_length=1)
    """Globs of the parameters that train, or the backbone's groups (`front`, `projection`, `mask`,
    `position`, `norm`, `encoder`); heads are `heads.<teacher>.*`."""
    steps: int = Field(default=0, ge=0)
    """Optimiser steps; left out, as many as hear `hours`."""
    hours: Positive | None = None
    """Instead of `steps`: hours of audio to hear, replay included:
    `steps = hours · 3600 / (clips of a step · crop_s)`, rounded."""
    peak_lr: Positive
    """The learning rate after warm-up."""
    min_lr: NonNegative = 0.0
    """Where the decay ends."""
    decay: Literal["cosine", "linear"] = "cosine"
    """How the rate falls from `peak_lr` to `min_lr`: by a cosine as CultureMERT's, or linearly as
    MERT's."""
    warmup_ratio: Share = 0.0
    """The share of the steps that warms up linearly."""
    mixture: list[MixtureEntry] = Field(default=[])
    """Which cultures and how many hours; empty means all of `corpus`."""
    balance: Literal["hours", "equal"] = "hours"
    """The cultures' shares of the clips: by their hours in this stage, or the same for each."""
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share of the clips drawn from `replay`."""
    frozen_mode: Literal["train", "eval"] = "eval"
    """Whether dropout is active in the parts that do not train (the paper does not say)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.steps == 0) == (self.hours is None):
            raise ValueError("give either `steps` (above 0) or `hours`")
        if self.min_lr > self.peak_lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above peak_lr {self.peak_lr:g}")
        names = [entry.dataset for entry in self.mixture]
        if len(set(names)) != len(names):
            raise ValueError(f"a culture can stand in the mixture once, found {names}")
        return self

    @property
    def warmup_steps(self) -> int:
        """Steps of the linear warm-up: ``⌈warmup_ratio · steps⌉``."""
        return math.ceil(round(self.warmup_ratio * self.steps, 9))


class TrainRecipe(Strict):
    """Continual pre-training (or pre-training from random weights) with staged adaptation."""

    kind: Literal["train"]
    """Always `train`."""
    seed: int = Field(default=0, ge=0)
    """Seed of initial weights, order, crops, masks, mixtures and dropout."""
    base: str | PresetBase
    """A checkpoint folder, a hub repo id, or `{preset: tiny, init: random}`."""
    backbone: Annotated[Backbone, Plugin("backbones")] = Field(
        default_factory=lambda: default_plugin("backbones", "mert")
    )
    """The model family."""
    culture: str
    """The name of what the model learns; shown in cards, tables and figures."""
    corpus: str | dict[str, str]
    """A folder of recordings or a manifest; or `{culture: source}` for several."""
    replay: str | None = None
    """The corpus that stages with a `replay_share` replay (Western music in the paper)."""
    teachers: list[Annotated[Teacher, Plugin("teachers")]] = Field(min_length=1)
    """What the model learns to predict."""
    heads: Literal["import", "warmup", "random"] | None = None
    """Where the pre-training heads come from: `import` takes all of them from the base (its
    `heads.safetensors`, or MERT's fairseq file) and fails where one is missing; `warmup` takes
    those that the base has, draws the others, and first trains the heads alone, in a stage of its
    own named `heads_warmup`; `random` draws new ones. Null: those that the base has, the others
    drawn."""
    heads_warmup_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps of `heads: warmup`; null means 1000 (no paper tells of such a stage)."""
    heads_warmup_lr: Positive | None = None
    """Peak learning rate of `heads: warmup`, reached after a tenth of its steps; null means 1e-3
    (no paper tells of such a stage)."""
    stages: list[Stage] = Field(min_length=1)
    """The stages, one after the other."""
    transfer: Annotated[Transfer, Plugin("transfers")] = Field(
        default_factory=lambda: default_plugin("transfers", "full")
    )
    """How data changes weights: `full`; or `lora`, `ssf`, `bitfit`, which train few numbers and
    fold them into plain weights after each stage."""
    arguments: TrainArguments = TrainArguments()
    """The trainer's settings."""
    forgetting: Forgetting | None = None
    """Watch while training how well the model still does on some corpora."""
    avoid: list[str] = Field(default=[])
    """Corpora (manifests, folders) whose `valid` and `test` tracks may not be trained on."""
    store: str | None = None
    """The prepared store; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The model folder to write, relative to the recipe file."""

    @field_validator("transfer", mode="after")
    @classmethod
    def _gives_plain_weights(cls, transfer: Transfer) -> Transfer:
        name = transfer.model_dump()["name"]
        if not transfer.folds:
            raise ValueError(
                f"{name!r} adds parts that no plain weights hold, so its result is no task vector; "
                f"{FOLDING_HINT}"
            )
        if not transfer.changes_encoder:
            raise ValueError(f"{name!r} leaves the encoder as it is; {FOLDING_HINT}")
        return transfer

    @field_validator("stages", mode="after")
    @classmethod
    def _named(cls, stages: list[Stage]) -> list[Stage]:
        return [
            stage if stage.name else stage.model_copy(update={"name": f"stage{number}"})
            for number, stage in enumerate(stages, 1)
        ]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ, found {names}")
        if self.heads == "import" and isinstance(self.base, PresetBase):
            raise ValueError("heads: import needs a base that has heads, and a preset has none")
        if self.heads == "warmup" and HEADS_WARMUP in names:
            raise ValueError(f"heads: warmup adds a stage {HEADS_WARMUP!r}, name yours otherwise")
        if self.heads != "warmup" and (self.heads_warmup_steps or self.heads_warmup_lr):
            raise ValueError("heads_warmup_steps and heads_warmup_lr belong to heads: warmup")
        teacher_names = [teacher.name for teacher in self.teachers]
        if len(set(teacher_names)) != len(teacher_names):
            raise ValueError(f"a teacher can be used once, found {teacher_names}")
        for stage in self.stages:
            if stage.replay_share and self.replay is None:
                raise ValueError(
                    f"stage {stage.name!r} has a replay_share but `replay` names no corpus"
                )
            for entry in stage.mixture:
                if entry.dataset not in self.corpora():
                    raise ValueError(
                        f"stage {stage.name!r} mixes {entry.dataset!r}, which is not in `corpus`: "
                        f"{sorted(self.corpora())}"
                    )
        return self

    def corpora(self) -> dict[str, str]:
        """Return the sources by culture, sorted by name."""
        if isinstance(self.corpus, str):
            return {self.culture: self.corpus}
        return dict(sorted(self.corpus.items()))
