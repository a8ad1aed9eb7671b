"""The ``label_free`` part of a sweep: λ by the pre-training loss on unlabelled audio."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import FiniteFloat, Strict
from mergekit_audio.recipe.evaluate import require_distinct


class LabelFree(Strict):
    """Gradient descent on λ of the masked-prediction loss: no labels, a few minutes of audio.

    The models need pre-training heads, as `cmerge train-culture` writes them.
    """

    corpora: dict[str, str] | None = Field(default=None, min_length=1)
    """Audio by name; null means the tasks' corpora (their training split), without their labels."""
    minutes: Annotated[FiniteFloat, Field(gt=0)] = 2.0
    """Audio of each corpus, in clips of `crop_s` drawn by the seed."""
    spaces: list[Literal["shared", "per_culture", "per_layer"]] = Field(
        default=["shared", "per_culture"], min_length=1
    )
    """What is searched: one λ, one a culture, or one a culture and layer."""
    rounds: int = Field(default=10, gt=0)
    """Passes over the clips."""
    learning_rate: Annotated[FiniteFloat, Field(gt=0)] = 0.02
    """Adam's (ours; AdaMerging's 1e-3 takes hundreds of rounds)."""
    initial: FiniteFloat = 0.3
    """λ before the first step, as AdaMerging's (arXiv 2310.02575)."""
    batch_size: int = Field(default=4, gt=0)
    """Clips of a step, from each corpus."""
    crop_s: Annotated[FiniteFloat, Field(gt=0)] = 5.0
    """Seconds of a clip."""
    num_threads: int | None = Field(default=None, gt=0)
    """CPU threads; a fixed number gives the same bytes on every machine, null means all cores."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        require_distinct("spaces", self.spaces)
        return self


class SimilarityScales(Strict):
    """λ that `cmerge similarity` suggests, scored beside the others."""

    results: str
    """The output folder of `cmerge similarity`; its corpora are named like the sweep's cultures."""
    targets: list[str] | None = Field(default=None, min_length=1)
    """The corpora whose suggestion is scored; null means all."""
