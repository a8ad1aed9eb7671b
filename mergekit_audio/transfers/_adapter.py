"""An encoder layer with a bottleneck after its attention and one after its feed-forward part."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._modules import drawn_uniform, zeros


class Bottleneck(nn.Module):
    """``x + U gelu(D x + d) + u`` with D ``[b, D]`` and U ``[D, b]``; at the start it is x.

    D is drawn uniform in ±1/√D (Kaiming with a = √5); U and both biases are zero.
    """

    def __init__(
        self, dimension: int, bottleneck: int, like: torch.Tensor, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.down_weight = drawn_uniform((bottleneck, dimension), dimension, like, generator)
        self.down_bias = zeros((bottleneck,), like)
        self.up_weight = zeros((dimension, bottleneck), like)
        self.up_bias = zeros((dimension,), like)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the adapted ``[..., D]``."""
        narrow = nn.functional.linear(values, self.down_weight, self.down_bias)
        narrow = nn.functional.gelu(narrow)
        return values + nn.functional.linear(narrow, self.up_weight, self.up_bias)


class AdaptedLayer(nn.Module):
    """A layer of ``transformers.HubertModel`` with its two bottlenecks.

    Each stands right after a residual sum: with norms behind the sums (95M) that is before
    ``layer_norm`` and before ``final_layer_norm``.

    Parameters
    ----------
    layer
        The layer; its parts keep their names here.
    norm_first
        Whether its norms are before attention and feed-forward part (330M) or behind the sums.
    bottleneck
        b.
    generator
        Draws the bottlenecks' weights.
    """

    def __init__(
        self, layer: Any, *, norm_first: bool, bottleneck: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        for name, part in layer.named_children():
            self.add_module(name, part)
        self.norm_first = norm_first
        weight = layer.final_layer_norm.weight
        made = [Bottleneck(len(weight), bottleneck, weight, generator) for _ in range(2)]
        self.attention_adapter, self.feed_forward_adapter = made

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, **named: Any
    ) -> torch.Tensor:
        """Return the layer's output ``[B, T, D]``."""
        parts: Any = self
        entering = parts.layer_norm(hidden) if self.norm_first else hidden
        attended, _ = parts.attention(entering, attention_mask=attention_mask, **named)
        hidden = self.attention_adapter(hidden + parts.dropout(attended))
        if self.norm_first:
            hidden = hidden + parts.feed_forward(parts.final_layer_norm(hidden))
            return self.feed_forward_adapter(hidden)  # type: ignore[no-any-return]
        hidden = parts.layer_norm(hidden)
        hidden = hidden + parts.feed_forward(hidden)
        return parts.final_layer_norm(self.feed_forward_adapter(hidden))  # type: ignore[no-any-return]


def adapt_layers(model: Any, bottleneck: int, generators: list[torch.Generator]) -> None:
    """Put bottlenecks into every layer of an encoder."""
    norm_first = bool(model.config.do_stable_layer_norm)
    for index, (layer, generator) in enumerate(zip(model.encoder.layers, generators, strict=True)):
        made = AdaptedLayer(
            layer, norm_first=norm_first, bottleneck=bottleneck, generator=generator
        )
        model.encoder.layers[index] = made.train(layer.training)
