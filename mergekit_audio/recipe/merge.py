"""The ``kind: merge`` recipe: a base, the models to join, a method and λ."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Plugin, Strict


class ModelEntry(Strict):
    """One model of a merge and its weight."""

    model: str
    """A checkpoint folder (relative to the recipe file) or a hub repo id, `org/name@revision`."""
    weight: FiniteFloat = 1.0
    """The culture's own factor; a negative weight takes the culture away (negation)."""


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
    base: str
    """The base checkpoint: a folder (relative to the recipe file) or `org/name@revision`."""
    models: list[ModelEntry] = Field(min_length=1)
    """The models to merge; their order does not matter."""
    method: Annotated[MergeMethod, Plugin("methods")]
    """The merge method and its own parameters."""
    scale: FiniteFloat | Scale = 1.0
    """λ: one number, or a default with overrides by glob."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """The dtype of the merged tensors; null keeps each tensor's dtype of the base."""
    exclude: list[str] = Field(default=[])
    """Globs of tensors that are copied from the base."""
    allow_nonfinite: bool = False
    """Accept NaN and infinite values in the inputs instead of refusing them."""
    max_shard_size_mb: Annotated[FiniteFloat, Field(ge=0.001)] = 5000.0
    """Write shards of at most this many megabytes (10⁶ bytes) instead of one file."""
    output: OutputPath
    """The folder to write, relative to the recipe file."""
