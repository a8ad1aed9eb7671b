"""The ``search`` part of a sweep: λ chosen one after the other by what the earlier ones scored."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import Strict
from mergekit_audio.recipe.spaces import Design

GREEDY_STEPS = 4
"""λ of `greedy` on each side of 0 where the recipe gives none."""


class Halving(Strict):
    """Successive halving: many candidates on few tracks, the best of them on more."""

    factor: int = Field(default=3, ge=2)
    """The best 1/factor of the candidates go on, with factor times as many tracks."""
    fewest_tracks: int = Field(default=30, ge=2)
    """Training and validation tracks of each task in the first round, at least."""
    design: Design = "sobol"
    """Where the candidates lie: `sobol` (a sequence drawn by the search's seed) or `grid` (a
    product of even values)."""


class Search(Strict):
    """A search of the space's box, instead of or after a grid; scores are those of validation."""

    sampler: Literal["tpe", "cmaes", "nsga", "quadratic", "coordinate", "greedy", "halving"] = "tpe"
    """`tpe` (as OptiMer, arXiv 2603.28858), `cmaes`, and `nsga` (non-Western against Western: a
    Pareto front) are Optuna's; `quadratic` is MAP's surrogate (arXiv 2406.07529); `coordinate`
    moves along one λ after the other; `greedy` adds one culture after the other, at the λ that
    improves most, while it improves; `halving` scores many λ on few tracks and the best of them on
    more."""
    trials: int = Field(default=50, gt=0)
    """Points to score, the marked ones and those of the grid not counted; with `halving`, the
    candidates of the first round."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler, and of the tracks that `halving` takes."""
    steps: int | None = Field(default=None, gt=0)
    """Of `greedy`: how many λ are tried for each culture on either side of 0, at even distances up
    to the end of the range; null means 4."""
    halving: Halving | None = None
    """Settings of `sampler: halving`; null means its defaults."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.steps is not None and self.sampler != "greedy":
            raise ValueError(f"`steps` belongs to `sampler: greedy`, and this is {self.sampler}")
        if self.halving is not None and self.sampler != "halving":
            raise ValueError(f"`halving` belongs to `sampler: halving`, and this is {self.sampler}")
        return self

    def greedy_steps(self) -> int:
        """Return how many λ `greedy` tries on each side of 0."""
        return GREEDY_STEPS if self.steps is None else self.steps

    def halving_settings(self) -> Halving:
        """Return the settings of `halving`."""
        return Halving() if self.halving is None else self.halving
