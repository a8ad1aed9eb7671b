"""The trainer's settings of a ``kind: train`` recipe: batches, optimiser, masks, noise, trust."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import Strict
from mergekit_audio.recipe.trust import Divergence

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

CLIPS_PER_STEP = 32
"""Clips of an optimiser step in CultureMERT: 160 s (arXiv 2506.17818, section 4.1)."""


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
    """Clips of a micro-batch; where the accumulation is `auto`, at most as many (left out, as many
    as the memory holds)."""
    gradient_accumulation_steps: Annotated[int, Field(gt=0)] | Literal["auto"] = 8
    """Micro-batches of an optimiser step in each process: N processes under torchrun make N times
    as many, so divide this by N to keep a recipe's batch. `auto`: a step has `clips_per_step` clips
    on any number of processes, and the micro-batch is the largest part of it that fits into the
    memory, by two measured ones. The noise mixture and the masks of a clip depend on the others of
    its micro-batch, so the lock keeps what was chosen."""
    clips_per_step: int | None = Field(default=None, gt=0)
    """With `gradient_accumulation_steps: auto`: clips of an optimiser step, of all processes
    together; null means 32, CultureMERT's 160 s of 5-s clips."""
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
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """What each of many processes (torchrun) holds: `ddp`, the whole model; `fsdp`, for 330m and
    larger, a share of weights, gradients and AdamW's moments."""
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

    @model_validator(mode="before")
    @classmethod
    def _whole_step_at_most(cls, value: Any) -> Any:
        """Let an automatic micro-batch grow up to the whole step where nothing limits it."""
        if not isinstance(value, dict) or value.get("gradient_accumulation_steps") != "auto":
            return value
        clips = value.get("clips_per_step")
        clips = CLIPS_PER_STEP if clips is None else clips
        return {"batch_size": clips, **value, "clips_per_step": clips}

    @model_validator(mode="after")
    def _clips_of_auto(self) -> Self:
        if self.clips_per_step is not None and self.gradient_accumulation_steps != "auto":
            raise ValueError("clips_per_step belongs to gradient_accumulation_steps: auto")
        return self

    @property
    def accumulation(self) -> int:
        """Micro-batches of a step in each process, once `auto` was settled."""
        if self.gradient_accumulation_steps == "auto":
            raise ValueError("the accumulation is `auto` and was not settled")
        return self.gradient_accumulation_steps
