"""Check that measured statistics belong to the models, weights and methods of a merge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mergekit_audio.merge.inputs import MergeModel
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.merge import MergeRecipe


def check_statistics(recipe: MergeRecipe, models: Sequence[MergeModel]) -> None:
    """Raise ``InputError`` when a method would merge by statistics of something else.

    Parameters
    ----------
    recipe
        The merge recipe; every model has statistics where a method needs them.
    models
        Its models, open, in the recipe's order.
    """
    for method, weights in _used(recipe):
        if not method.needs_statistics:
            continue
        statistics = []
        for model in models:
            assert model.statistics is not None
            model.statistics.require(method.needs_statistics, model.digest, model.source)
            statistics.append(model.statistics)
        method.check_statistics(statistics, [model.digest for model in models], weights)


def _used(recipe: MergeRecipe) -> Iterator[tuple[MergeMethod, list[float]]]:
    """Yield each method with the models' weights where it is used."""
    weights = [entry.weight for entry in recipe.models]
    yield recipe.method, weights
    for group in recipe.groups:
        if group.method is not None or group.weights is not None:
            yield group.method or recipe.method, group.weights or weights
