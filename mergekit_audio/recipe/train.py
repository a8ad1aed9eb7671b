"""The ``kind: train`` recipe: a base, corpora, teachers, stages and the trainer's settings."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.recipe.base import OutputPath, Plugin, Strict, default_plugin
from mergekit_audio.recipe.trust import Divergence, Forgetting
from mergekit_audio.teachers.base import Teacher
from mergekit_audio.transfers.base import Transfer

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

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
    steps: int = Field(gt=0)
    """Optimiser steps."""
    peak_lr: Positive
    """The learning rate after warm-up."""
    min_lr: NonNegative = 0.0
    """Where the cosine decay ends."""
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


class Masking(Strict):
    """Span masking as in MERT (fairseq's `compute_mask_indices`, static length)."""

    mask_prob: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Spans in a row: `int(mask_prob · frames / mask_length + u)`."""
    mask_length: int = Field(default=5, gt=0)
    """Frames of a span; spans may overlap."""
    min_masks: int = Field(default=2, gt=0)
    """At least this many spans a row."""
    same_count: bool = True
    """Trim all rows of a batch to the least masked count by random deletion."""


class NoiseMixture(Strict):
    """In-batch noise mixture: pieces of other clips of the batch are added to a clip."""

    probability: Share = 0.5
    """The probability to apply it to a clip (fairseq's `mixture_prob` is the opposite)."""
    min_length_s: Positive = 0.5
    """The shortest piece."""
    max_length_s: Positive = 1.0
    """The longest piece."""
    max_pieces: int = Field(default=3, gt=0)
    """One to this many pieces."""
    volume: NonNegative = 1.0
    """Factor of an added piece."""
    pool: Literal["batch", "window"] = "batch"
    """Where pieces come from: the other clips of the micro-batch, as in MERT, or of the optimiser
    step (a micro-batch of 4 has only 3 others)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_length_s > self.max_length_s:
            raise ValueError("min_length_s is above max_length_s")
        return self


class TrainArguments(Strict):
    """The trainer's settings; defaults are MERT-95M's where they are known."""

    batch_size: int = Field(default=4, gt=0)
    """Clips of a micro-batch."""
    gradient_accumulation_steps: int = Field(default=8, gt=0)
    """Micro-batches of an optimiser step in each process: N processes under torchrun make N times
    as many, so divide this by N to keep a recipe's batch."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """bf16 and fp16 run under autocast; fp16 needs a GPU."""
    crop_s: Positive = 5.0
    """Length of the random crop of a segment."""
    snap_crops_to_frames: bool = True
    """Start crops on a multiple of the hop, so that cached targets line up exactly."""
    adam_beta1: Share = 0.9
    """AdamW β₁."""
    adam_beta2: Share = 0.98
    """AdamW β₂."""
    adam_epsilon: Positive = 1e-6
    """AdamW ε."""
    weight_decay: NonNegative = 0.01
    """AdamW's decoupled decay."""
    max_grad_norm: Positive = 10.0
    """The gradient's norm is clipped to this."""
    feature_penalty: NonNegative = 10.0
    """Factor of the mean square of the convolutional features."""
    feature_grad_mult: NonNegative = 0.1
    """Factor of the gradient that flows into the convolutional features."""
    masking: Masking = Masking()
    """Span masking."""
    noise: NoiseMixture = NoiseMixture()
    """In-batch noise mixture."""
    gradient_checkpointing: bool = False
    """Compute the encoder's layers again on the way back instead of keeping what they made: less
    memory, a third more time, the same numbers."""
    torch_compile: bool = False
    """Compile the encoder's layers with torch.compile; needs a C++ compiler on a CPU. Rounds
    otherwise than without."""
    num_threads: int | None = Field(default=None, gt=0)
    """CPU threads; a fixed number gives the same bytes on every machine, null means all cores."""
    logging_steps: int = Field(default=10, gt=0)
    """Optimiser steps between two log lines."""
    save_steps: int = Field(default=100, gt=0)
    """Optimiser steps between two checkpoints to resume from."""
    divergence: Divergence | None = Divergence()
    """When a rising loss counts as gone wrong; null means only when it is not finite."""
    on_divergence: Literal["stop", "rollback"] = "stop"
    """Stop, or go back to the last good checkpoint and go on with a lower peak_lr."""
    rollback_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor of the stage's peak_lr at each rollback; min_lr stays, but never above the peak."""
    max_rollbacks: int = Field(default=3, gt=0)
    """Rollbacks of a stage before it stops all the same."""


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
    """How data changes weights."""
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
