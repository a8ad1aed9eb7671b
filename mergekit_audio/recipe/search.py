"""The ``search`` part of a sweep: λ chosen one after the other by what the earlier ones scored."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mergekit_audio.recipe.base import Strict


class Search(Strict):
    """A search of the space's box, instead of or after a grid; scores are those of validation."""

    sampler: Literal["tpe", "cmaes", "nsga", "quadratic", "coordinate"] = "tpe"
    """`tpe` (as OptiMer, arXiv 2603.28858), `cmaes`, and `nsga` (non-Western against Western: a
    Pareto front) are Optuna's; `quadratic` is MAP's surrogate (arXiv 2406.07529); `coordinate`
    moves along one λ after the other."""
    trials: int = Field(default=50, gt=0)
    """Points to score, the marked ones and those of the grid not counted."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler."""
