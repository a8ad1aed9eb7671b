"""The ways in which methods thin out a task vector: the largest, a band, at random."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.methods._selection import (
    EVERYTHING,
    NOTHING,
    Cut,
    flat_task_vectors,
    largest_of_model,
    largest_of_tensor,
    magnitude,
    magnitudes,
)
from mergekit_audio.methods.base import Array, Slices, TensorGroup, Tensors


def number_kept(density: float, size: int) -> int:
    """Return max(1, floor(density · size)), 0 where the density is 0."""
    return max(1, int(density * size)) if density > 0 else 0


def trim_cuts_of_model(tensors: Tensors, method: str, default: float) -> list[Cut]:
    """Return for each model the cut of its whole task vector's largest elements.

    Raises
    ------
    RecipeError
        A model's ``density`` is not the same for all tensors.
    """

    def counts(densities: list[list[float]], size: int) -> list[list[int]]:
        if any(each != densities[0] for each in densities):
            values = sorted({value for each in densities for value in each})
            problem = (
                f"{method} trims the whole task vector of a model, so that its density must be "
                f"the same for all tensors; found {', '.join(f'{value:g}' for value in values)}"
            )
            hint = "set `semantics: mergekit`, which trims each tensor by itself"
            raise RecipeError([Fault("", 0, 0, "method.density", problem)], hint)
        return [[number_kept(density, size)] for density in densities[0]]

    found = largest_of_model(
        tensors, magnitudes, lambda group: group.values("density", default), counts
    )
    return [cut for (cut,) in found]


def trim_cuts_of_tensor(slices: Slices, default: float) -> list[Cut]:
    """Return for each model the cut of the largest elements of its task vector in one tensor."""

    def counts(group: TensorGroup) -> list[list[int]]:
        size = math.prod(group.whole_shape)
        return [[number_kept(density, size)] for density in group.values("density", default)]

    return [cut for (cut,) in largest_of_tensor(slices, magnitudes, counts)]


def trimmed(group: TensorGroup, cuts: Sequence[Cut]) -> Iterator[Array]:
    """Yield τᵢ where the cut contains it, else 0; flat."""
    for tau, cut in zip(flat_task_vectors(group), cuts, strict=True):
        if cut != EVERYTHING:
            tau *= cut.contains(magnitude(group.xp, tau), group.start)
        yield tau


def band_cuts(slices: Slices, density: float, gamma: float) -> list[tuple[Cut, Cut]]:
    """Return for each model the cut that ends a band below and the one that ends it above.

    Of n elements floor(γ n) are above the band, floor(density · n) in it, fewer above where not
    enough would be left.

    Parameters
    ----------
    slices
        The tensor.
    density, gamma
        What holds where a model sets no ``density`` or ``gamma`` of its own.
    """

    def counts(group: TensorGroup) -> list[list[int]]:
        size = math.prod(group.whole_shape)
        wanted = []
        for share, above in zip(
            group.values("density", density), group.values("gamma", gamma), strict=True
        ):
            kept = int(share * size)
            with_outliers = min(size, kept + int(above * size))
            whole = share >= 1
            wanted.append([size, 0] if whole else [with_outliers, with_outliers - kept])
        return wanted

    return [(below, above) for below, above in largest_of_tensor(slices, magnitudes, counts)]


def banded(group: TensorGroup, cuts: Sequence[tuple[Cut, Cut]]) -> Iterator[Array]:
    """Yield τᵢ where it is in the band, else 0; flat."""
    for tau, (band, outliers) in zip(flat_task_vectors(group), cuts, strict=True):
        if (band, outliers) != (EVERYTHING, NOTHING):
            keys = magnitude(group.xp, tau)
            kept = band.contains(keys, group.start)
            kept &= ~outliers.contains(keys, group.start)
            tau *= kept
        yield tau


def dropped(group: TensorGroup, default: float) -> Iterator[Array]:
    """Yield τᵢ where a number of the model's own stream is below its ``density``, else 0; flat."""
    densities = group.values("density", default)
    for i, (tau, density) in enumerate(zip(flat_task_vectors(group), densities, strict=True)):
        if density < 1:
            tau *= group.uniform(i).reshape(-1) < density
        yield tau


def inverse_densities(group: TensorGroup, default: float) -> list[float]:
    """Return 1 / density of each model; 1 where nothing is kept."""
    return [1.0 / density if density > 0 else 1.0 for density in group.values("density", default)]
