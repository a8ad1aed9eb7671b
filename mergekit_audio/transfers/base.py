"""How data changes weights: what a transfer does before, during and after a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import nn


class Transfer(BaseModel, ABC):
    """A way of training; ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    @abstractmethod
    def prepare(self, model: nn.Module, trainable: list[str]) -> None:
        """Set ``requires_grad`` of every parameter from the stage's list of parameter names."""

    @abstractmethod
    def finish(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the trained backbone's plain state dict."""
