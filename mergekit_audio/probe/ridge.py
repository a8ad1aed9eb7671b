"""Ridge regression on frozen features: many penalties from one eigendecomposition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RidgeHead:
    """A linear map of features; its outputs are scores, not logits.

    Parameters
    ----------
    weight, bias
        Float64, shapes ``[outputs, D]`` and ``[outputs]``.
    penalty
        What it was fitted with.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    penalty: float

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """Return scores, float64, shape ``[B, outputs]``, of features ``[B, (L,) D]``."""
        return torch.nn.functional.linear(flattened(features), self.weight, self.bias)

    def layer_weights(self) -> None:
        """Return ``None``: layers are averaged, not weighted."""


def fit_ridge(
    features: torch.Tensor, targets: torch.Tensor, penalties: Sequence[float]
) -> list[RidgeHead]:
    """Return the minimiser of ``Σ |y - W x - b|² / n + α |W|²`` for each penalty α.

    With centred X and Y and ``XᵀX / n = V diag(e) Vᵀ``: ``Wᵀ = V diag(1 / (e + α)) Vᵀ XᵀY / n``, so
    that one eigendecomposition serves all penalties.

    Parameters
    ----------
    features
        Shape ``[chunks, D]``, or ``[chunks, L, D]``: then the mean of the layers.
    targets
        Shape ``[chunks, outputs]``.
    penalties
        Above 0.
    """
    inputs, outputs = flattened(features), targets.double()
    input_mean, output_mean = inputs.mean(dim=0), outputs.mean(dim=0)
    inputs, outputs = inputs - input_mean, outputs - output_mean
    values, vectors = torch.linalg.eigh(inputs.T @ inputs / len(inputs))
    rotated = vectors.T @ (inputs.T @ outputs) / len(inputs)
    heads = []
    for penalty in penalties:
        weight = (vectors @ (rotated / (values.clamp(min=0) + penalty)[:, None])).T
        heads.append(RidgeHead(weight, output_mean - weight @ input_mean, penalty))
    return heads


def flattened(features: torch.Tensor) -> torch.Tensor:
    """Return features in float64, shape ``[chunks, D]``; layers are averaged."""
    return features.double().mean(dim=1) if features.ndim == 3 else features.double()
