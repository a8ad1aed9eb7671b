"""Pure tensor functions that merge methods share."""

from __future__ import annotations

import torch


def weighted_task_sum(
    base: torch.Tensor, models: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return Σᵢ wᵢ (θᵢ − θ_base), summed in the order of the models.

    Product and sum are rounded one after the other (no fused multiply-add), so that the bits do not
    depend on how many threads share the tensor.

    Parameters
    ----------
    base
        θ_base, float64, shape ``[*S]``.
    models
        θ₁ … θ_K, float64, shape ``[K, *S]``.
    weights
        wᵢ, float64, shape ``[K]``.
    """
    total: torch.Tensor | None = None
    for model, weight in zip(models, weights.tolist(), strict=True):
        term = torch.sub(model, base)
        if weight != 1.0:
            term.mul_(weight)
        total = term if total is None else total.add_(term)
    assert total is not None, "a merge has at least one model"
    return total
