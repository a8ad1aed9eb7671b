"""Breadcrumbs: keep changes of middling magnitude, tensor by tensor, and add."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._breadcrumbs import BandOfMagnitudes


class Breadcrumbs(BandOfMagnitudes):
    """Δ = Σᵢ wᵢ τ̂ᵢ, τ̂ = τ without its largest share γ and the smallest, density being left."""

    name: Literal["breadcrumbs"] = "breadcrumbs"
    """Always `breadcrumbs`."""
    reference: ClassVar[str] = (
        "Davari and Belilovsky, Model Breadcrumbs: Scaling Multi-Task Model Merging with Sparse "
        "Masks, arXiv 2312.06795, section 3"
    )

    normalize: bool = False
    """Divide by the sum of the weights."""
