"""Breadcrumbs before TIES: keep changes of middling magnitude, elect a sign, join what agrees."""

from __future__ import annotations

from typing import ClassVar, Literal

from mergekit_audio.methods._breadcrumbs import BandOfMagnitudes


class BreadcrumbsTies(BandOfMagnitudes):
    """Δ = Σᵢ mᵢ wᵢ τ̂ᵢ, τ̂ᵢ as in `breadcrumbs`, mᵢ = [sign(wᵢ τ̂ᵢ) = sign(Σⱼ wⱼ τ̂ⱼ)]."""

    name: Literal["breadcrumbs_ties"] = "breadcrumbs_ties"
    """Always `breadcrumbs_ties`."""
    reference: ClassVar[str] = (
        "Davari and Belilovsky, Model Breadcrumbs, arXiv 2312.06795, section 3, before "
        "Yadav et al., TIES-Merging, arXiv 2306.01708, algorithm 1 (elect)"
    )
    elects: ClassVar[bool] = True

    normalize: bool = False
    """Divide by the weights of the models that agree (the disjoint mean of TIES), else the sum;
    no paper joins the two, the default is mergekit's."""
