"""Full adaptation: the named parameters themselves are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from mergekit_audio.transfers.base import Shapes, Transfer

if TYPE_CHECKING:
    from torch import nn


class Full(Transfer):
    """Train the weights themselves, as CultureMERT does (arXiv 2506.17818, section 3.2)."""

    name: Literal["full"] = "full"

    tuning_rate: ClassVar[float] = 1e-5

    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Let exactly the named parameters have gradients; nothing is drawn from the seed."""
        from mergekit_audio.transfers._modules import train_only

        train_only(model, trainable)

    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return the size of each named parameter."""
        return {name: math.prod(shapes[name]) for name in trainable}
