"""DARE before TIES: drop changes at random, scale up, elect a sign, join what agrees."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._dare import Dare


class DareTies(Dare):
    """Δ = Σᵢ mᵢ wᵢ τ̂ᵢ / Σᵢ mᵢ wᵢ, τ̂ᵢ = τᵢ Bᵢ / (1 − p), mᵢ = [sign(wᵢ τ̂ᵢ) = sign(Σⱼ wⱼ τ̂ⱼ)]."""

    name: Literal["dare_ties"] = "dare_ties"
    """Always `dare_ties`."""
    reference: ClassVar[str] = (
        "Yu et al., Language Models are Super Mario (DARE), arXiv 2311.03099, section 3.2, "
        "before Yadav et al., TIES-Merging, arXiv 2306.01708, algorithm 1 (elect, disjoint mean)"
    )
    elects: ClassVar[bool] = True

    normalize: bool = True
    """Divide by the weights of the models that agree (the disjoint mean of TIES), else the sum;
    mergekit's default is false."""
