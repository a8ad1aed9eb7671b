"""Recipe fields of training safely: when a training has gone wrong, and what it forgets."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mergekit_audio.recipe.base import Strict


class Divergence(Strict):
    """When a loss that is still finite counts as gone wrong."""

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0
    """A step is high when its loss is above this many times the running median."""
    steps: int = Field(default=20, gt=0)
    """So many high steps in a row are a divergence; fewer are a spike, which is logged."""
    window: int = Field(default=100, gt=0)
    """The median is over the last so many steps that were not high; it counts from `steps` on."""

    @model_validator(mode="after")
    def _known_in_time(self) -> Self:
        if self.steps > self.window:
            raise ValueError(f"steps {self.steps} is above window {self.window}")
        return self


class Forgetting(Strict):
    """A probe without labels: the pre-training objective on a few fixed clips of each corpus."""

    every_steps: int = Field(gt=0)
    """Optimiser steps between two probes; a stage's first and last model are probed too."""
    corpora: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], str] = Field(default={})
    """Sources by name; empty means the recipe's own `corpus` and `replay`."""
    clips: int = Field(default=16, gt=0)
    """Clips of each corpus, of as many segments as there are, one after the other."""
    split: Literal["train", "valid", "test"] = "valid"
    """Where a corpus has splits: the clips' split; a corpus without this split gives `train`."""
