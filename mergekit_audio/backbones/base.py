"""What a backbone is: an encoder of waveforms with named parameter groups."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import nn


class PrefixNames(NamedTuple):
    """Tensors of a model that ends with some hidden state, sorted.

    Parameters
    ----------
    held
        What it needs to be loaded.
    computed
        What its hidden states depend on; no mask vector, no norm behind the last state.
    """

    held: tuple[str, ...]
    computed: tuple[str, ...]


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

    @abstractmethod
    def last_layer(self, config: Mapping[str, Any]) -> int:
        """Return the number of the last hidden state; the first one is 0."""

    @abstractmethod
    def width(self, config: Mapping[str, Any]) -> int:
        """Return D, the features of a frame of a hidden state."""

    @abstractmethod
    def prefix(self, config: Mapping[str, Any], last_layer: int) -> dict[str, Any]:
        """Return the configuration of the model that ends with hidden state ``last_layer``."""

    @abstractmethod
    def prefix_names(
        self, config: Mapping[str, Any], names: Iterable[str], last_layer: int
    ) -> PrefixNames:
        """Return which tensors the model of :meth:`prefix` holds, and which it computes with."""

    @abstractmethod
    def computed_settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a configuration the hidden states depend on, beside their number."""

    @abstractmethod
    def pooler(self, model: nn.Module, *, bfloat16: bool) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return a function from waveforms ``[B, S]`` to time-averaged states ``[B, L, D]``.

        The function gives ``hidden_states(model, wave).mean(dim=2)`` in float32 without keeping
        the frames of all layers; with ``bfloat16`` its matrix products are computed in bfloat16.

        Raises
        ------
        ValueError
            The model, or a part of it, is in training mode.
        """

    def frame_count(self, samples: int) -> int:
        """Return T, the frames of a waveform of S samples: ``1 + (S - receptive_field) // hop``."""
        return 1 + (samples - self.receptive_field) // self.hop_length
