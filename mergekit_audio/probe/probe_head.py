"""The probe: an MLP with one hidden layer on the features of one layer or a sum of several."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import nn

from mergekit_audio.recipe.protocols import Protocol

DRAWS = 2**16


class ProbeHead(nn.Module):
    """Softmax-weighted sum of layers (if any), Linear, ReLU, dropout, Linear.

    ``logits = W₂ · dropout(relu(W₁ · Σ_l softmax(a)_l x_l + b₁)) + b₂``, with a = 0 at the start,
    so that all layers count the same, or with a from a normal distribution (``layer_start``).

    Parameters
    ----------
    dimension
        D, the features of a chunk.
    label_count
        Outputs.
    layers
        L, or ``None`` when the input is one layer.
    protocol
        ``hidden_size``, ``layer_start``, ``dropout`` and its place.
    generator
        Draws the layers' scores, then the weights, uniform in ±1/√inputs like ``nn.Linear``.
    """

    def __init__(
        self,
        dimension: int,
        label_count: int,
        layers: int | None,
        protocol: Protocol,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        hidden = dimension if protocol.hidden_size == "features" else protocol.hidden_size
        self.keep = 1.0 - protocol.dropout
        self.drops_first = protocol.dropout_place == "before_relu"
        self.layer_scores = None
        if layers is not None:
            drawn = protocol.layer_start == "random"
            start = torch.randn(layers, generator=generator) if drawn else torch.zeros(layers)
            self.layer_scores = nn.Parameter(start)
        self.hidden_weight = _drawn((hidden, dimension), dimension, generator)
        self.hidden_bias = _drawn((hidden,), dimension, generator)
        self.output_weight = _drawn((label_count, hidden), hidden, generator)
        self.output_bias = _drawn((label_count,), hidden, generator)

    def forward(
        self, features: torch.Tensor, dropout: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return logits ``[B, labels]`` of ``[B, (L,) D]``; no dropout without a generator."""
        features = self.mixed(features)
        hidden = nn.functional.linear(features, self.hidden_weight, self.hidden_bias)
        if self.drops_first:
            hidden = torch.relu(self._dropped(hidden, dropout))
        else:
            hidden = self._dropped(torch.relu(hidden), dropout)
        return nn.functional.linear(hidden, self.output_weight, self.output_bias)

    def mixed(self, features: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of layers ``[B, D]``; of one layer the features themselves."""
        if self.layer_scores is None:
            return features
        return torch.matmul(self.layer_scores.softmax(0), features)

    def dropout_mask(self, hidden: torch.Tensor, dropout: torch.Generator) -> torch.Tensor:
        """Return ``1 / keep`` for units that are kept and 0 for the others, shaped as ``hidden``.

        Every unit has 16 random bits: ``keep`` is rounded to 1/65536, at a quarter of the cost of
        one draw for each unit.
        """
        draws = torch.empty(-(-hidden.numel() // 4), dtype=torch.int64)
        draws.random_(-(2**63), None, generator=dropout)
        lots = draws.view(torch.int16)[: hidden.numel()].view(hidden.shape)
        kept = round(self.keep * DRAWS)
        return (lots < kept - DRAWS // 2).to(hidden.dtype).mul_(DRAWS / kept)

    def layer_weights(self) -> list[float] | None:
        """Return the softmax weights of the layers, or ``None`` for a probe of one layer."""
        if self.layer_scores is None:
            return None
        weights: list[float] = self.layer_scores.detach().double().softmax(0).tolist()
        return weights

    def snapshot(self) -> dict[str, torch.Tensor]:
        """Return a copy of the weights."""
        return {name: value.detach().clone() for name, value in self.state_dict().items()}

    def _dropped(self, hidden: torch.Tensor, dropout: torch.Generator | None) -> torch.Tensor:
        if dropout is None or self.keep == 1.0:
            return hidden
        return (
            hidden * torch.empty_like(hidden).bernoulli_(self.keep, generator=dropout) / self.keep
        )


def _drawn(shape: tuple[int, ...], inputs: int, generator: torch.Generator) -> nn.Parameter:
    bound = 1.0 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def generator_of(seed: int, purpose: str) -> torch.Generator:
    """Return the random stream of a probe's ``init``, ``order`` or ``dropout``."""
    digest = hashlib.sha256(f"probe/{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
