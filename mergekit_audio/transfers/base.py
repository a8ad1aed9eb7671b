"""How data changes weights: what a transfer does before and after a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from mergekit_audio.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Shapes = Mapping[str, Sequence[int]]

FOLDING_HINT = "train by full, lora, ssf or bitfit, whose results fold back into plain weights"


class Transfer(BaseModel, ABC):
    """A way of training; ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    folds: ClassVar[bool] = True
    """Whether what was trained becomes plain weights of the base's layout, a task vector."""
    changes_encoder: ClassVar[bool] = True
    """Whether the encoder's output changes at all."""
    tuning_rate: ClassVar[float] = 1e-4
    """The learning rate that the source takes when the encoder is tuned for a task."""

    @abstractmethod
    def prepare(self, model: nn.Module, trainable: list[str], *, seed: int = 0) -> None:
        """Set what trains, and put in what this transfer adds.

        Parameters
        ----------
        model
            An encoder, or a model that holds one and heads; changed in place.
        trainable
            The parameters, by the model's own names, that may change. Of the encoder's this
            transfer trains its own kind; all others (heads) train themselves.
        seed
            Draws the initial values of what is added.
        """

    def finish(self, model: nn.Module) -> dict[str, torch.Tensor]:
        """Return the trained encoder's plain state dict, in the base's layout, on the CPU.

        Raises
        ------
        InputError
            No plain weights compute what was trained.
        """
        if not self.folds:
            raise InputError(
                f"transfer {self.name!r} adds parts to the encoder, "  # type: ignore[attr-defined]
                "and no plain weights compute what they do: the result is no task vector",
                FOLDING_HINT,
            )
        from mergekit_audio.transfers._modules import folded_state

        return folded_state(model)

    @abstractmethod
    def trained_sizes(self, shapes: Shapes, trainable: Sequence[str]) -> dict[str, int]:
        """Return how many numbers train under each parameter's name; no weights are needed.

        Parameters
        ----------
        shapes
            The shape of every parameter by name.
        trainable
            As for ``prepare``.
        """
