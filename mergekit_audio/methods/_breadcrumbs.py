"""What the Breadcrumbs methods share: changes in a band of magnitudes, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from mergekit_audio.methods._sparse import SparseMerge
from mergekit_audio.methods.base import Array, Slices, TensorGroup


class BandOfMagnitudes(SparseMerge):
    """Δ = join of the τᵢ whose magnitudes are in a band: neither outliers nor small."""

    model_parameters: ClassVar[tuple[str, ...]] = ("density", "gamma")

    density: float = Field(default=0.15, ge=0, le=1)
    """Share of each tensor's changes that is kept (0.15 is where the authors' search starts);
    exactly floor(density · n), below the outliers. 1 keeps the outliers, too."""
    gamma: float = Field(default=0.006, ge=0, le=1)
    """Share of each tensor's largest changes that is dropped as outliers (0.006 is where the
    authors' search starts); fewer where the density needs them."""
    rescale: bool = False
    """Scale what is kept of a tensor up to the tensor's sum of magnitudes (mergekit's option)."""

    def selection(self, slices: Slices, model_survey: Any) -> Any:
        """Return each model's band in this tensor."""
        from mergekit_audio.methods._sparsify import band_cuts

        return band_cuts(slices, self.density, self.gamma)

    def sparse(self, group: TensorGroup, selection: Any) -> Iterator[Array]:
        """Yield τᵢ in the band, 0 elsewhere."""
        from mergekit_audio.methods._sparsify import banded

        return banded(group, selection)
