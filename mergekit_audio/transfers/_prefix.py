"""Attention with trained keys and values in front of the frames'."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._modules import drawn_normal, drawn_uniform


class PrefixAttention(nn.Module):
    """Attention of a layer whose keys and values begin with P trained ones.

    ``[K_P, V_P] = W₂ tanh(W₁ E + b₁) + b₂`` with E ``[P, D]``, W₁ ``[m, D]``, W₂ ``[2D, m]``. E is
    drawn from N(0, 1) and the maps uniform in ±1/√inputs, as ``nn.Embedding`` and ``nn.Linear``
    are.

    Parameters
    ----------
    attention
        A ``HubertAttention``; its linear maps keep their names here.
    tokens, bottleneck
        P and m.
    generator
        Draws E and the maps.
    """

    def __init__(
        self, attention: Any, tokens: int, bottleneck: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        for name, part in attention.named_children():
            self.add_module(name, part)
        self.heads: int = attention.num_heads
        self.head_dim: int = attention.head_dim
        self.scaling: float = attention.scaling
        self.attention_dropout: float = attention.dropout
        like, width = attention.q_proj.weight, int(attention.embed_dim)
        self.prefix = drawn_normal((tokens, width), 0.0, 1.0, like, generator)
        self.prefix_in_weight = drawn_uniform((bottleneck, width), width, like, generator)
        self.prefix_in_bias = drawn_uniform((bottleneck,), width, like, generator)
        shape = (2 * width, bottleneck)
        self.prefix_out_weight = drawn_uniform(shape, bottleneck, like, generator)
        self.prefix_out_bias = drawn_uniform((2 * width,), bottleneck, like, generator)

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> tuple[torch.Tensor, None]:
        """Return the attention's output ``[B, T, D]``; without padding no mask is needed."""
        parts: Any = self
        narrow = nn.functional.linear(self.prefix, self.prefix_in_weight, self.prefix_in_bias)
        wide = nn.functional.linear(
            narrow.tanh(), self.prefix_out_weight, self.prefix_out_bias
        ).expand(len(hidden), -1, -1)
        first_keys, first_values = wide.chunk(2, dim=-1)
        keys = torch.cat([first_keys, parts.k_proj(hidden)], dim=1)
        values = torch.cat([first_values, parts.v_proj(hidden)], dim=1)
        attended = nn.functional.scaled_dot_product_attention(
            self._by_head(parts.q_proj(hidden)),
            self._by_head(keys),
            self._by_head(values),
            dropout_p=self.attention_dropout if self.training else 0.0,
            scale=self.scaling,
        )
        return parts.out_proj(attended.transpose(1, 2).flatten(2)), None

    def _by_head(self, values: torch.Tensor) -> torch.Tensor:
        return values.reshape(*values.shape[:-1], self.heads, self.head_dim).transpose(1, 2)


def prefix_layers(
    model: Any, tokens: int, bottleneck: int, generators: list[torch.Generator]
) -> None:
    """Give every layer's attention its own trained keys and values."""
    for layer, generator in zip(model.encoder.layers, generators, strict=True):
        made = PrefixAttention(layer.attention, tokens, bottleneck, generator)
        layer.attention = made.train(layer.training)
