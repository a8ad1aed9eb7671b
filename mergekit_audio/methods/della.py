"""DELLA: drop small changes more often than large ones, elect a sign, join what agrees."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._della import MagnitudeSampling


class Della(MagnitudeSampling):
    """Δ = Σᵢ mᵢ wᵢ τ̂ᵢ / Σᵢ mᵢ wᵢ, τ̂ᵢ = τᵢ Bᵢ / pᵢ, pᵢ by rank in the row, mᵢ as in `ties`."""

    name: Literal["della"] = "della"
    """Always `della`."""
    reference: ClassVar[str] = (
        "Deep et al., DELLA-Merging: Reducing Interference in Model Merging through "
        "Magnitude-Based Sampling, arXiv 2406.11617, section 3"
    )
    elects: ClassVar[bool] = True

    normalize: bool = True
    """Divide by the weights of the models that agree, else the sum."""
