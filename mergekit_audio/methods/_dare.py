"""What the DARE methods share: changes dropped at random, the rest scaled up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from mergekit_audio.methods._sparse import SparseMerge
from mergekit_audio.methods.base import Array, TensorGroup


class Dare(SparseMerge):
    """Δ = join of τᵢ Bᵢ / (1 − p), Bᵢ = 1 with probability 1 − p, else 0."""

    random: ClassVar[bool] = True

    density: float = Field(default=0.1, ge=0, le=1)
    """Probability 1 − p that a change is kept; the paper drops p = 0.9 of them."""
    rescale: bool = True
    """Make up for the changes that are dropped."""
    semantics: Literal["paper", "mergekit"] = "paper"
    """How `rescale` does it: `paper` divides by 1 − p, `mergekit` restores the sum of magnitudes
    of each tensor."""

    def keeps_norm(self) -> bool:
        """Whether a tensor's sum of magnitudes is restored."""
        return self.rescale and self.semantics == "mergekit"

    def factors(self, group: TensorGroup) -> list[float]:
        """Return 1 / (1 − p) of each model, or 1 without ``rescale``."""
        from mergekit_audio.methods._sparsify import inverse_densities

        return inverse_densities(group, self.density) if self.rescale else super().factors(group)

    def sparse(self, group: TensorGroup, selection: Any) -> Iterator[Array]:
        """Yield τᵢ Bᵢ."""
        from mergekit_audio.methods._sparsify import dropped

        return dropped(group, self.density)
