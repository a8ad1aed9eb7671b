"""The parameter groups of a model: what trains in each, and the gradient's norm in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from mergekit_audio.recipe.train import TrainRecipe
from mergekit_audio.weights.globs import matches

OTHER = "other"


def group_of(recipe: TrainRecipe, name: str) -> str:
    """Return the group of a parameter by the name that recipes use.

    It is the first of the backbone's groups (``front``, ``encoder``, …) with a glob for it,
    ``heads.<teacher>``, or ``other``.
    """
    if name.startswith("heads."):
        return ".".join(name.split(".")[:2])
    for group, globs in recipe.backbone.parameter_groups.items():
        if any(matches(glob, name) for glob in globs):
            return group
    return OTHER


def count_by_group(recipe: TrainRecipe, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return how many numbers the parameters of each group hold.

    Parameters
    ----------
    sizes
        Elements of each parameter by name.
    """
    counts: dict[str, int] = {}
    for name, size in sizes.items():
        group = group_of(recipe, name)
        counts[group] = counts.get(group, 0) + size
    return counts


def gradient_norms(
    parameters: Iterable[tuple[str, nn.Parameter]], groups: Mapping[str, str], clip: float
) -> dict[str, float]:
    """Return each group's gradient norm ``√(Σ g²) / clip`` in float64 sums.

    Parameters
    ----------
    parameters
        The model's ``named_parameters()`` with their clipped gradients; of shards this process's.
    groups
        The group of each parameter by those names.
    clip
        The factor by which clipping made the gradients smaller, in (0, 1].
    """
    by_group: dict[str, list[torch.Tensor]] = {}
    for name, parameter in parameters:
        if parameter.grad is not None and name in groups:
            own = parameter.grad.detach()
            own = own.to_local() if isinstance(own, DTensor) else own
            by_group.setdefault(groups[name], []).append(own)
    norms = {}
    for group, gradients in sorted(by_group.items()):
        parts = torch.stack([norm.double() for norm in torch._foreach_norm(gradients)])
        norms[group] = float(torch.linalg.vector_norm(parts)) / clip
    return norms


def clip_factor(norm: float, largest: float) -> float:
    """Return ``min(1, largest / (norm + 1e-6))``, as ``torch.nn.utils.clip_grad_norm_`` clips."""
    return min(1.0, largest / (norm + 1e-6))
