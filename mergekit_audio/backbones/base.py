"""What a backbone is: an encoder of waveforms with named parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import nn


class Backbone(BaseModel, ABC):
    """A model family; ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    sample_rate_hz: ClassVar[int]
    """Samples of the input in a second."""
    hop_length: ClassVar[int]
    """Samples between two frames."""
    receptive_field: ClassVar[int]
    """Samples that one frame of the convolutional front sees."""
    parameter_groups: ClassVar[Mapping[str, tuple[str, ...]]]
    """Named groups of parameters as globs, e.g. ``front``, ``projection``, ``encoder``."""

    @abstractmethod
    def build(
        self,
        config: Mapping[str, Any],
        state: Mapping[str, torch.Tensor] | None,
        *,
        training: bool,
        device: str = "cpu",
        seed: int | None = None,
    ) -> nn.Module:
        """Return the model with these weights, or with random weights drawn from ``seed``."""

    def check(self, config: Mapping[str, Any]) -> None:
        """Check that no setting contradicts a ``config.json``; families with such settings say so.

        Raises
        ------
        InputError
            A setting contradicts it.
        """

    @abstractmethod
    def preset(self, name: str) -> dict[str, Any]:
        """Return the ``config.json`` of a preset."""

    @abstractmethod
    def hidden_states(self, model: nn.Module, wave: torch.Tensor) -> torch.Tensor:
        """Return all layers' frames, shape ``[B, L, T, D]``, of waveforms ``[B, S]``."""

    def frame_count(self, samples: int) -> int:
        """Return T, the frames of a waveform of S samples: ``1 + (S - receptive_field) // hop``."""
        return 1 + (samples - self.receptive_field) // self.hop_length
