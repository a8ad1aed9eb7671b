"""What a merge method is, and what it sees of one tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TensorGroup:
    """One tensor of the base and of the K models, or an equal slice of each.

    Parameters
    ----------
    name
        The tensor's name in the base.
    base
        θ_base, float64, shape ``[*S]``.
    models
        θ₁ … θ_K, float64, shape ``[K, *S]``, ordered by content digest and weight.
    weights
        wᵢ, float64, shape ``[K]``.
    generator
        Seeded by (recipe seed, tensor name): the only source of randomness.
    """

    name: str
    base: torch.Tensor
    models: torch.Tensor
    weights: torch.Tensor
    generator: torch.Generator


class MergeMethod(BaseModel, ABC):
    """A merge method: its fields are its hyper-parameters, ``name`` is its module's name."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True
    )

    name: str
    """The method's name, its module's."""
    reference: ClassVar[str]
    """The paper: title, arXiv id, equation."""
    elementwise: ClassVar[bool] = False
    """Δ of an element depends on that element alone, so the engine may pass slices of a tensor."""

    def check_weights(self, weights: Sequence[float]) -> None:
        """Raise ``RecipeError`` when the method can't use these weights, before any work."""

    @abstractmethod
    def merge_tensor(self, group: TensorGroup) -> torch.Tensor:
        """Return Δ, float64, shape ``[*S]``; the engine computes θ = base + scale · Δ."""
