"""How an encoder is tuned for a task together with its head: the settings of ``tuning``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from mergekit_audio.recipe.base import Strict
from mergekit_audio.transfers.base import Transfer

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TaskTuning(Strict):
    """What one task changes; what is left out is as for all tasks."""

    max_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps."""
    validate_every: int | None = Field(default=None, gt=0)
    """Steps between validations."""
    max_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Only the first seconds of a track are used."""


class Tuning(Strict):
    """Parameter-efficient transfer learning as Ding and Lerch set it up for MERT-v1-95M.

    The head on the mean over time of the last hidden state is Linear, dropout, ReLU, Linear. The
    defaults are those of their paper and published configurations for MagnaTagATune.
    """

    layers: int | None = Field(default=6, gt=0)
    """The encoder's first layers that are kept; null keeps all."""
    crop_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5.0
    """Length of the random crop in training, and of the segments that score a track. A shorter
    track is used whole, what is left behind the last whole segment is dropped; nothing is
    padded."""
    max_duration_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Only the first seconds of a track are used."""
    normalize: bool = False
    """Give each crop zero mean and unit variance first."""
    max_steps: int = Field(default=60_000, gt=0)
    """Optimiser steps; of each transfer the same number."""
    batch_size: int = Field(default=16, gt=0)
    """Crops of a step."""
    learning_rates: dict[str, Rate] = Field(default={})
    """Adam's learning rate by transfer; left out, 1e-5 for `finetune` and `full`, 1e-4 for the
    others."""
    min_learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-7
    """Where the cosine ends after `max_steps`; the rate of `probing` is constant."""
    gradient_clip: Rate | None = 1.0
    """The largest norm of a step's gradient; null means any."""
    hidden_size: Annotated[int, Field(gt=0)] | Literal["features"] = "features"
    """Units of the head's hidden layer; `features`: as many as the encoder's."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Dropout of the hidden layer, before its ReLU."""
    frozen_mode: Literal["train", "eval"] = "eval"
    """Whether dropout and layer drop act in an encoder that does not train (`probing`). In the
    published code they do; its features are then not those of the frozen model."""
    standardize_values: bool = True
    """Regression: train on values of zero mean and unit variance (the scores are of plain ones)."""
    validate_every: int | None = Field(default=None, gt=0)
    """Steps between validations; null means as many as see each training track once. The weights of
    the best one are tested."""
    validation: Literal["crop", "segments"] = "crop"
    """Validate on one random crop of each track, drawn anew each time, or on all its segments."""
    monitor: Literal["roc_auc", "average_precision"] = "average_precision"
    """The validation score of tagging that decides which weights are the best; other kinds of task
    have one metric, which is it."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Of the encoder, by autocast; head, loss and scores are in float32 and above."""

    by_task: dict[str, TaskTuning] = Field(default={})
    """Changes by the task's name: larger corpora get more steps."""

    def for_task(self, name: str) -> Tuning:
        """Return the settings of one task."""
        changes = self.by_task.get(name, TaskTuning()).model_dump(exclude_none=True)
        return self.model_copy(update={**changes, "by_task": {}})

    def learning_rate_of(self, transfer: Transfer) -> float:
        """Return Adam's learning rate of a transfer."""
        return self.learning_rates.get(transfer_name(transfer), transfer.tuning_rate)

    def statement(self) -> str:
        """Return the settings that decide a score, as one sentence."""
        layers = "all layers" if self.layers is None else f"first {self.layers} layers"
        rates = [f"{name} {rate:g}" for name, rate in sorted(self.learning_rates.items())]
        rates += ["finetune 1e-5"] if "finetune" not in self.learning_rates else []
        validation = "one random crop" if self.validation == "crop" else "all segments"
        own = "".join(
            f", {each.max_steps} for {name}"
            for name, each in sorted(self.by_task.items())
            if each.max_steps is not None
        )
        return (
            f"tuning: {layers}, random crops of {self.crop_s:g} s, {self.max_steps} steps{own} of "
            f"{self.batch_size}, Adam ({', '.join([*rates, 'others 1e-4'])}) with a cosine to "
            f"{self.min_learning_rate:g} (probing: constant), encoder in {self.precision}, best "
            f"weights by {validation} of each validation track, test: mean probability of "
            f"segments of {self.crop_s:g} s"
        )


def transfer_name(transfer: Transfer) -> str:
    """Return the name of a transfer's plug-in."""
    name: str = transfer.model_dump()["name"]
    return name


def transfer_label(transfer: Transfer) -> str:
    """Return how a table calls a transfer: its name, and settings that are not the defaults."""
    settings: dict[str, Any] = transfer.model_dump(exclude_defaults=True, exclude={"name"})
    told = ", ".join(f"{key} {value}" for key, value in settings.items())
    return transfer_name(transfer) + (f" ({told})" if told else "")
