"""Which parameters a stage trains: the recipe's globs against the model's names."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.recipe.train import Stage, TrainRecipe
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.globs import matches, validate_glob


def trainable_names(stage: Stage, names: Iterable[str]) -> list[str]:
    """Return the names that the stage's globs match, in the order given."""
    return [name for name in names if any(matches(glob, name) for glob in stage.train)]


def require_matches(
    recipe: TrainRecipe, names: Collection[str], *, heads_unknown: bool = False
) -> None:
    """Check that every glob of every stage matches a parameter.

    Parameters
    ----------
    names
        The model's parameters by the names that recipes use.
    heads_unknown
        Some heads are not known yet: globs of heads are left for later.

    Raises
    ------
    RecipeError
        A glob is malformed or matches nothing; all of them are listed.
    """
    faults: list[Fault] = []
    for i, stage in enumerate(recipe.stages):
        for j, glob in enumerate(stage.train):
            key = f"stages[{i}].train[{j}]"
            try:
                validate_glob(glob)
            except InputError as error:
                faults.append(Fault("", 0, 0, key, error.message))
                continue
            unknown_yet = heads_unknown and glob.startswith("heads.")
            if unknown_yet or any(matches(glob, name) for name in names):
                continue
            near = did_you_mean(glob, _groups(names))
            problem = f"{glob!r} matches no parameter"
            faults.append(Fault("", 0, 0, key, f"{problem}; {near}" if near else problem))
    if faults:
        raise RecipeError(
            faults,
            "parameters are named as in the checkpoint (cmerge inspect lists them), heads are "
            "heads.<teacher>.*",
        )


def _groups(names: Iterable[str]) -> list[str]:
    groups: dict[str, None] = {}
    for name in names:
        groups[name] = None
        parts = name.split(".")
        for depth in range(1, len(parts)):
            groups[".".join(parts[:depth]) + ".*"] = None
    return list(groups)
