"""The ``kind: similarity`` recipe: corpora, the teacher whose tokens are compared, and targets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import FiniteFloat, OutputPath, Plugin, Strict
from mergekit_audio.recipe.evaluate import require_distinct
from mergekit_audio.teachers.base import Teacher


class ComparedCorpus(Strict):
    """One corpus."""

    name: str = Field(min_length=1)
    """Its name in tables and figures; of a culture, that of its model."""
    corpus: str
    """A folder of recordings or a manifest; no labels are needed."""
    western: bool = False
    """Shown apart from the others; never suggested as a culture to merge."""


class Gains(Strict):
    """Scores to hold the divergences against: whether a culture helps what sounds like it."""

    results: str
    """The folder of an evaluation or a sweep that has a row for the base and for each culture's
    model, and a task for each corpus, all of the same names as here."""
    base: str = "base"
    """The row that gains are over."""
    metric: Literal["roc_auc", "average_precision"] = "roc_auc"
    """The score."""


class SimilarityRecipe(Strict):
    """Compare corpora by their acoustic tokens, and suggest λ for what sounds alike."""

    kind: Literal["similarity"]
    """Always `similarity`."""
    seed: int = Field(default=0, ge=0)
    """Seed of the bootstrap, and of the tracks drawn where `tracks` says how many."""
    corpora: list[ComparedCorpus] = Field(min_length=2)
    """What is compared."""
    teacher: Annotated[Teacher, Plugin("teachers")]
    """Whose tokens: `encodec` as in CultureMERT, or another teacher with codebooks."""
    fitted: str | None = None
    """A model folder of a training that fitted the teacher, where it needs fitting."""
    split: Literal["train", "valid", "test"] | None = None
    """Only tracks of this split; null means all."""
    tracks: int | None = Field(default=None, gt=0)
    """Tracks drawn from each corpus by the seed; null means all."""
    codebooks: list[Annotated[int, Field(ge=0)]] | None = Field(default=None, min_length=1)
    """Which codebooks, from 0; null means all. Divergences are averaged over them."""
    joint: bool = False
    """Compare the distribution of the tuples of these codebooks instead of each by itself: give two
    or so, since tuples of many are nearly all different."""
    resamples: int = Field(default=1000, gt=0)
    """Bootstrap resamples of each corpus's tracks."""
    temperature: Annotated[FiniteFloat, Field(gt=0)] = 0.05
    """T of the suggested λ, softmax(-JSD / T), in bits (ours: no paper has one)."""
    scale: FiniteFloat = 1.0
    """What a target's suggested λ add up to."""
    gains: Gains | None = None
    """Scores of models to correlate the divergences with."""
    num_threads: int | None = Field(default=None, gt=0)
    """CPU threads that make tokens; null means all cores. Results do not depend on it."""
    store: str | None = None
    """The prepared store with tokens; null means `.cmerge_store` beside the recipe."""
    output: OutputPath
    """The folder to write, relative to the recipe file."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        require_distinct("names of corpora", [entry.name for entry in self.corpora])
        if self.codebooks is not None:
            require_distinct("codebooks", self.codebooks)
        if all(entry.western for entry in self.corpora):
            raise ValueError("all corpora are western, so that none is left to suggest")
        if not type(self.teacher).targets_are_cached:
            raise ValueError(
                f"teacher {self.teacher.name} makes no codes; use encodec, residual_kmeans, kmeans "
                "or random_projection"
            )
        return self
