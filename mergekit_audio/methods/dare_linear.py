"""DARE: drop changes at random, scale up what is left, add."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._dare import Dare


class DareLinear(Dare):
    """Δ = Σᵢ wᵢ τᵢ Bᵢ / (1 − p), Bᵢ = 1 with probability 1 − p (the density), else 0."""

    name: Literal["dare_linear"] = "dare_linear"
    """Always `dare_linear`."""
    reference: ClassVar[str] = (
        "Yu et al., Language Models are Super Mario (DARE), arXiv 2311.03099, section 3.2, "
        "before Ilharco et al., Task Arithmetic, arXiv 2212.04089"
    )

    normalize: bool = False
    """Divide by the sum of the weights."""
