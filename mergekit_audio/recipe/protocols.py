"""How a frozen encoder is probed: every setting, with the values of a named preset or our own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from mergekit_audio.recipe.base import Strict
from mergekit_audio.recipe.presets import PRESETS, Preset

Layer = Annotated[int, Field(ge=0)] | Literal["weighted"]
LearningRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SPLIT_WORDS = {"valid": "validation", "test": "test"}
Penalty = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Choice(Strict):
    """Which layer and learning rate a probe gets, chosen for each model and task on validation."""

    layers: list[Layer] | Literal["all"] | None = Field(default=None)
    """Hidden states and `weighted`, `all` of them, or null for the protocol's own."""
    learning_rates: list[LearningRate] | None = Field(default=None, min_length=1)
    """Adam's learning rates, or null for the protocol's own."""
    by: Literal["probe", "screen"] = "probe"
    """`probe` trains each combination; `screen` chooses the layer by ridge regression, then probes
    the learning rates on that layer alone."""
    split: Literal["valid", "test"] = "valid"
    """Where the scores are compared."""
    force_test_selection: bool = False
    """Choose on the test split all the same; every table, summary and file is marked for it."""

    @model_validator(mode="after")
    def _something_honest(self) -> Self:
        if self.layers is None and self.learning_rates is None:
            raise ValueError("give `layers`, `learning_rates` or both")
        for name, values in (("layers", self.layers), ("learning_rates", self.learning_rates)):
            if isinstance(values, list) and (not values or len(set(values)) != len(values)):
                raise ValueError(f"{name} must be given and differ, found {values}")
        if self.split == "test" and not self.force_test_selection:
            raise ValueError(
                "a layer or learning rate that is chosen on the test split makes its scores too "
                "good; use `split: valid`, or `force_test_selection: true` to have them marked"
            )
        if self.split == "valid" and self.force_test_selection:
            raise ValueError("`force_test_selection` is for `split: test`")
        return self


class Protocol(Strict):
    """How a frozen encoder is probed; what the papers leave open is a setting here."""

    preset: Preset | None = None
    """The named settings that these started from; null starts from the defaults below."""
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
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Of the encoder's matrix products. `auto`: bf16 where the machine is faster with it, the
    encoder at least 256 wide, and the features of some chunks within 1 % of fp32, which is measured
    and reported; `bf16` measures it too. A chunk that is not finite is computed again in fp32."""
    storage: Literal["float32", "float16"] = "float32"
    """How features are kept; float16 halves them, with a relative error of at most 2^-11 (in a
    simulation no score moved by more than 0.00015; between seeds they move by 0.0008)."""
    standardize: bool = False
    """Give each feature zero mean and unit variance over the training chunks (MARBLE does not)."""
    standardize_values: bool = True
    """Regression: train on values of zero mean and unit variance (the scores are of plain ones)."""
    layer: Layer = "weighted"
    """A hidden state (0 is the front's output) or a learned softmax-weighted sum of several (of
    ridge regression their mean)."""
    weighted_over: Literal["all", "transformer"] = "all"
    """The weighted sum takes all hidden states, or leaves out the front's output."""
    layer_start: Literal["equal", "random"] = "equal"
    """The layers' scores start at 0 (s3prl), or from a normal distribution (MARBLE v1)."""
    estimator: Literal["mlp", "ridge"] = "mlp"
    """A probe with one hidden layer, or ridge regression, which has none and no epochs."""
    penalties: list[Penalty] = Field(default=[1e-4, 1e-3, 1e-2, 1e-1, 1.0], min_length=1)
    """Ridge: the penalties that are tried; validation chooses."""
    hidden_size: Annotated[int, Field(gt=0)] | Literal["features"] = 512
    """Units of the probe's one hidden layer; `features`: as many as the encoder's."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of the hidden layer."""
    dropout_place: Literal["after_relu", "before_relu"] = "after_relu"
    """Where the dropout stands; before a ReLU it is the same but for the rounding."""
    learning_rate: LearningRate = 1e-3
    """Adam's learning rate."""
    batch_size: int = Field(default=64, gt=0)
    """Chunks of a step."""
    gradient_clip: Annotated[float, Field(gt=0)] | None = None
    """The largest norm of a step's gradient."""
    max_epochs: int = Field(default=100, gt=0)
    """At most this many epochs."""
    max_steps: int | None = Field(default=None, gt=0)
    """At most this many steps; the epoch that reaches it ends there."""
    patience: int | None = Field(default=10, gt=0)
    """Epochs without a better validation score before stopping; null never stops early."""
    plateau_patience: int | None = Field(default=3, gt=0)
    """Epochs without a better validation score before the rate falls; null keeps it."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the learning rate is multiplied by then."""
    monitor: Literal["roc_auc", "average_precision"] = "roc_auc"
    """The validation score that stops the training, restores the best weights and selects; other
    kinds of task than tagging have one metric, which is it."""
    aggregate: Literal["mean_probability", "mean_logit"] = "mean_probability"
    """How a track's chunks become one prediction."""
    select: Choice | None = None
    """Choose layer and learning rate on validation; null uses those above."""

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, value: Any) -> Any:
        given = {"preset": value} if isinstance(value, str) else value
        if not isinstance(given, dict) or given.get("preset") not in PRESETS:
            return given
        settings = dict(PRESETS[given["preset"]].settings)
        if isinstance(given.get("select"), dict) and isinstance(settings.get("select"), dict):
            given = {**given, "select": {**settings["select"], **given["select"]}}
        return {**settings, **given}

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        rates = self.select.learning_rates if self.select else None
        if self.estimator == "ridge" and rates is not None:
            raise ValueError("estimator: ridge has no learning rate, so select.learning_rates")
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of the mapping, or of a preset's name alone."""
        mapping = handler.resolve_ref_schema(handler(schema))
        names = {"enum": list(get_args(Preset)), "type": "string"}
        return {"anyOf": [names, mapping], "description": mapping.get("description", "")}

    def statement(self) -> str:
        """Return the settings that decide a score and that papers seldom state, as one sentence."""
        parts = [f"chunks of {self.chunk_s:g} s, {self.overlap:.0%} overlap", self._tail()]
        if self.max_duration_s is not None:
            parts.append(f"the first {self.max_duration_s:g} s of a track")
        combined = "mean score" if self.estimator == "ridge" else self.aggregate.replace("_", " ")
        parts += [*self._head(), f"{combined} of a track's chunks"]
        name = f"`{self.preset}`" if self.preset else "of the recipe's own"
        changed = ", ".join(self.changed())
        own = f", with its own {changed}" if changed else ""
        unknown = PRESETS[self.preset].unknown if self.preset else ()
        left_open = f"; the paper leaves open: {', '.join(unknown)}" if unknown else ""
        return f"protocol {name}{own}: {', '.join(parts)}{left_open}"

    def changed(self) -> list[str]:
        """Return the names of the settings that differ from the preset's, in their order."""
        if self.preset is None:
            return []
        preset = Protocol.model_validate({"preset": self.preset})
        return [
            name for name in Protocol.model_fields if getattr(self, name) != getattr(preset, name)
        ]

    def _tail(self) -> str:
        if self.last_chunk == "keep":
            return f"last chunk kept from {self.min_last_chunk_s:g} s on"
        return {"drop": "last chunk dropped", "align": "last chunk moved back"}[self.last_chunk]

    def _head(self) -> list[str]:
        chosen_layer = self.select is not None and self.select.layers is not None
        chosen_rate = self.select is not None and self.select.learning_rates is not None
        split = (
            "" if self.select is None else f"chosen on the {SPLIT_WORDS[self.select.split]} split"
        )
        states = "all hidden states" if self.weighted_over == "all" else "the transformer's layers"
        combined = "mean" if self.estimator == "ridge" else "weighted sum"
        layer = f"{combined} of {states}" if self.layer == "weighted" else f"layer {self.layer}"
        parts = [f"layer {split}" if chosen_layer else layer]
        if self.estimator == "ridge":
            return [*parts, f"ridge regression, penalty of {len(self.penalties)} by validation"]
        rate = split if chosen_rate else f"{self.learning_rate:g}"
        return [
            *parts,
            "one hidden layer "
            + (
                "as wide as the features"
                if self.hidden_size == "features"
                else f"of {self.hidden_size}"
            ),
            f"dropout {self.dropout:g} {self.dropout_place.replace('_relu', ' the ReLU')}",
            f"Adam, learning rate {rate}, batches of {self.batch_size}",
        ]
