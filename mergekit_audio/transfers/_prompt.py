"""Trained tokens in front of the frames that enter an encoder's first layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mergekit_audio.transfers._modules import drawn_normal


class PromptedDropout(nn.Module):
    """The dropout in front of the first layer, then P tokens put before the frames.

    Parameters
    ----------
    dropout
        The encoder's dropout.
    tokens
        P.
    dimension
        D.
    std
        Standard deviation of the initial tokens.
    like
        A parameter of the encoder.
    generator
        Draws them.
    """

    def __init__(
        self,
        dropout: nn.Module,
        tokens: int,
        dimension: int,
        std: float,
        like: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.prompt = drawn_normal((tokens, dimension), 0.0, std, like, generator)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return ``[B, P + T, D]`` of ``[B, T, D]``."""
        prompts = self.prompt.to(frames.dtype).expand(len(frames), -1, -1)
        return torch.cat([prompts, self.dropout(frames)], dim=1)


def prompt_encoder(
    model: Any, tokens: int, dimension: int, std: float, generator: torch.Generator
) -> None:
    """Put tokens before the frames, and take what became of them from the encoder's output.

    Clips are never padded, so no layer needs a mask; one made for T frames would not fit P + T.
    """
    encoder = model.encoder
    like = encoder.layers[0].final_layer_norm.weight
    made = PromptedDropout(encoder.dropout, tokens, dimension, std, like, generator)
    encoder.dropout = made.train(encoder.training)
    for layer in encoder.layers:
        layer.register_forward_pre_hook(_without_mask, with_kwargs=True)

    def frames_alone(_: nn.Module, __: Any, output: Any) -> Any:
        output["last_hidden_state"] = output["last_hidden_state"][:, tokens:]
        return output

    encoder.register_forward_hook(frames_alone)


def _without_mask(
    _: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return positional, named | {"attention_mask": None}
