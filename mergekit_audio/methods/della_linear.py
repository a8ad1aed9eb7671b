"""DELLA without the election: drop small changes more often than large ones, add."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._della import MagnitudeSampling


class DellaLinear(MagnitudeSampling):
    """Δ = Σᵢ wᵢ τᵢ Bᵢ / pᵢ, Bᵢ = 1 with probability pᵢ, which grows with the rank in the row."""

    name: Literal["della_linear"] = "della_linear"
    """Always `della_linear`."""
    reference: ClassVar[str] = (
        "Deep et al., DELLA-Merging: Reducing Interference in Model Merging through "
        "Magnitude-Based Sampling, arXiv 2406.11617, section 3.1 (MAGPRUNE)"
    )

    normalize: bool = False
    """Divide by the sum of the weights."""
