"""The ``kind: merge`` recipe: a base, the models to join, a method and λ."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Plugin, Strict


class ModelEntry(Strict):
    """One model of a merge, its weight, and what the method should know of it alone."""

    model: str
    """A checkpoint folder or file (relative to the recipe file), a hub repo id
    `org/name@revision`, a LoRA adapter's folder, or another merge recipe (`.yaml`), run first."""
    weight: FiniteFloat = 1.0
    """The culture's own factor; a negative weight takes the culture away (negation)."""
    name: str | None = None
    """What the method's parameters and reports call the model; null: the last part of `model`."""
    adapter: str | None = None
    """A LoRA adapter (peft folder or hub repo id) that is merged into `model` first."""
    parameters: dict[str, FiniteFloat | bool] = Field(default={})
    """Parameters of the method for this model alone, such as `density`."""
    statistics: str | None = None
    """What `cmerge measure` wrote of this model, for Fisher, RegMean and RegMean++."""

    @property
    def label(self) -> str:
        """What the model is called: its ``name``, else the last part of its source."""
        if self.name is not None:
            return self.name
        source = self.adapter or self.model
        return source.rstrip("/").rsplit("/", 1)[-1].split("@", 1)[0]


class LayerRange(Strict):
    """Layers `first` to `last` (both are in) of a model's main stack; `[0, 5]` in short."""

    first: int = Field(ge=0)
    """The first layer."""
    last: int = Field(ge=0)
    """The last layer."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(value) == 2:
            return {"first": value[0], "last": value[1]}
        return value

    @model_validator(mode="after")
    def _is_forward(self) -> Self:
        if self.last < self.first:
            raise ValueError(f"the last layer, {self.last}, comes before the first, {self.first}")
        return self


class StackSlice(Strict):
    """Layers of the output and where each comes from: they are stacked slice after slice."""

    base: LayerRange
    """The base's layers that these layers are compared with."""
    models: list[LayerRange | None] = Field(min_length=1)
    """Each model's layers, in the order of `models`; null: the model takes no part."""


class Group(Strict):
    """Tensors that are merged otherwise than the rest; what is left out is the recipe's."""

    match: str | list[str] = "*"
    """Globs over tensor names: `*` any text, `?` one character, `{0-5}` range, `{a,b}` choice."""
    layers: LayerRange | None = None
    """Only tensors of these layers of the output's main stack."""
    method: Annotated[MergeMethod, Plugin("methods")] | None = None
    """The merge method of these tensors and its own parameters."""
    scale: FiniteFloat | None = None
    """λ of these tensors."""
    weights: list[FiniteFloat] | None = None
    """The models' weights here, in the order of `models`."""
    parameters: list[dict[str, FiniteFloat | bool]] | None = None
    """The models' parameters here, in the order of `models`."""


class ScaleOverride(Strict):
    """λ of the tensors whose name matches a glob."""

    match: str
    """Glob over tensor names: `*` any text, `?` one character, `{0-5}` range, `{a,b}` choice."""
    scale: FiniteFloat
    """λ of these tensors."""


class Scale(Strict):
    """λ with exceptions for groups of tensors; the first override that matches counts."""

    default: FiniteFloat
    """λ of every tensor that no override matches."""
    overrides: list[ScaleOverride] = Field(default=[])
    """Exceptions, tried in order; one that matches no tensor is an error."""


class MergeRecipe(Strict):
    """θ = θ_base + scale · Δ(τ₁ … τ_K): how to join K models into the base."""

    kind: Literal["merge"]
    """Always `merge`."""
    seed: int = Field(default=0, ge=0)
    """Seed of every random choice; kept in the lock also where the method draws none."""
    base: str | None = None
    """The base checkpoint: a folder (relative to the recipe file) or `org/name@revision`; null,
    where the method's formula has no base: the first model stands in for it."""
    models: list[ModelEntry] = Field(min_length=1)
    """The models to merge; their order matters only where the method's formula has one."""
    method: Annotated[MergeMethod, Plugin("methods")]
    """The merge method and its own parameters."""
    scale: FiniteFloat | Scale = 1.0
    """λ: one number, or a default with overrides by glob."""
    dtype: Literal["float64", "float32", "float16", "bfloat16"] | None = None
    """The dtype of the merged tensors; null keeps each tensor's dtype of the base."""
    groups: list[Group] = Field(default=[])
    """Tensors with another method, λ or weights; the first group that matches a tensor counts, and
    one that matches none is an error."""
    exclude: list[str] = Field(default=[])
    """Globs of tensors that are copied from the base."""
    missing: Literal["error", "base", "intersect"] = "error"
    """What to do with tensors that not all checkpoints have: refuse; keep the base's and leave the
    models' own out; write only those that all have."""
    mismatched: Literal["error", "base"] = "error"
    """What to do with tensors of different shapes (heads, vocabularies): refuse, or keep the
    base's."""
    weight_norm: Literal["stored", "fused"] = "stored"
    """Merge the g and v of weight-normalised kernels as they are stored, or the effective kernel
    g · v / ‖v‖, factored again afterwards."""
    stack: list[StackSlice] = Field(default=[])
    """Layers of the output by their origin; empty: layer i of the output is layer i of each."""
    unrelated: Literal["note", "error"] = "note"
    """What to do when a model does not look as if it was trained from the base: say so, or stop."""
    allow_nonfinite: bool = False
    """Accept NaN and infinite values in the inputs instead of refusing them."""
    max_shard_size_mb: Annotated[FiniteFloat, Field(ge=0.001)] = 5000.0
    """Write shards of at most this many megabytes (10⁶ bytes) instead of one file."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where the methods compute: `cpu` gives the same bytes everywhere, `cuda` needs a GPU."""
    output: OutputPath
    """The folder to write, relative to the recipe file."""

    @model_validator(mode="after")
    def _has_its_base(self) -> Self:
        methods = [self.method, *(group.method for group in self.groups if group.method)]
        needing = sorted({method.name for method in methods if method.needs_base})
        if self.base is None and needing:
            raise ValueError(f"missing required key `base`: {needing[0]} needs a base model")
        return self
