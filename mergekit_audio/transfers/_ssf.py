"""The scale and shift of a linear map's outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._modules import FoldedLinear, drawn_normal


class ScaledLinear(FoldedLinear):
    """``y = scale ⊙ (W x + b) + shift``.

    Parameters
    ----------
    linear
        The map whose outputs are scaled and shifted; it has a bias.
    std
        Standard deviation of the initial values about 1 (scale) and 0 (shift).
    generator
        Draws them.
    """

    def __init__(self, linear: Any, std: float, generator: torch.Generator) -> None:
        super().__init__(linear)
        outputs = linear.bias.shape
        self.ssf_scale = drawn_normal(outputs, 1.0, std, linear.weight, generator)
        self.ssf_shift = drawn_normal(outputs, 0.0, std, linear.weight, generator)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the scaled and shifted map of ``[..., in]``."""
        plain = nn.functional.linear(values, self.weight, self.bias)
        return plain * self.ssf_scale + self.ssf_shift

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``scale[:, None] · W`` and ``scale ⊙ b + shift``."""
        scale, shift = self.ssf_scale.double(), self.ssf_shift.double()
        return self.weight.double() * scale[:, None], self.bias.double() * scale + shift
