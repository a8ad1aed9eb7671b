"""Full adaptation: the named parameters themselves are trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mergekit_audio.transfers.base import Transfer

if TYPE_CHECKING:
    import torch
    from torch import nn


class Full(Transfer):
    """Train the weights themselves, as CultureMERT does (arXiv 2506.17818, section 3.2)."""

    name: Literal["full"] = "full"

    def prepare(self, model: nn.Module, trainable: list[str]) -> None:
        """Let exactly the named parameters have gradients."""
        chosen = set(trainable)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)

    def finish(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the model's state dict on the CPU."""
        return {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
