"""The low-rank update of a linear map."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._modules import FoldedLinear, drawn_uniform, zeros


class LoraLinear(FoldedLinear):
    """``y = W x + b + α · B A x`` with A ``[r, in]`` and B ``[out, r]``.

    A is drawn uniform in ±1/√in (Kaiming with a = √5), B is zero: at the start nothing changes.

    Parameters
    ----------
    linear
        The map that is updated.
    rank
        r.
    alpha
        The factor of the update as it stands, not divided by r.
    generator
        Draws A.
    """

    def __init__(self, linear: Any, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__(linear)
        self.alpha = alpha
        outputs, inputs = linear.weight.shape
        self.lora_a = drawn_uniform((rank, inputs), inputs, linear.weight, generator)
        self.lora_b = zeros((outputs, rank), linear.weight)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the updated map of ``[..., in]``."""
        plain = nn.functional.linear(values, self.weight, self.bias)
        low = nn.functional.linear(values, self.lora_a)
        return plain + self.alpha * nn.functional.linear(low, self.lora_b)

    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``W + α B A`` and b."""
        update = self.alpha * (self.lora_b.double() @ self.lora_a.double())
        return self.weight.double() + update, self.bias
