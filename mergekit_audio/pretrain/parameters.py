"""Which parameters a stage trains: the recipe's globs against the model's names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.recipe.train import Stage, TrainRecipe
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.globs import matches, validate_glob


def trainable_names(recipe: TrainRecipe, stage: Stage, names: Iterable[str]) -> list[str]:
    """Return the names that the stage's globs and parameter groups match, in the order given."""
    globs = [glob for entry in stage.train for glob in _globs(recipe, entry)]
    return [name for name in names if any(matches(glob, name) for glob in globs)]


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
            globs = _globs(recipe, glob)
            if unknown_yet or any(matches(each, name) for each in globs for name in names):
                continue
            near = did_you_mean(glob, [*recipe.backbone.parameter_groups, *_groups(names)])
            problem = f"{glob!r} matches no parameter"
            faults.append(Fault("", 0, 0, key, f"{problem}; {near}" if near else problem))
    if faults:
        heads = sorted(name for name in names if name.startswith("heads."))
        raise RecipeError(
            faults,
            "parameters are named as in the checkpoint (cmerge inspect lists them), groups are "
            f"{', '.join(recipe.backbone.parameter_groups)}, and heads are heads.<teacher>.*"
            + (f": {', '.join(heads)}" if heads else ""),
        )


def require_trained(
    recipe: TrainRecipe, shapes: Mapping[str, Sequence[int]], *, heads_unknown: bool = False
) -> None:
    """Check that the recipe's transfer leaves every stage something to train.

    Parameters
    ----------
    shapes
        The shape of every parameter by the name that recipes use.
    heads_unknown
        Some heads are not known yet: stages that name heads are left for later.

    Raises
    ------
    RecipeError
        A stage names only parameters that the transfer freezes; all of them are listed.
    """
    faults: list[Fault] = []
    name = recipe.transfer.model_dump()["name"]
    for i, stage in enumerate(recipe.stages):
        if heads_unknown and any(not glob.startswith("encoder.") for glob in stage.train):
            continue
        if not recipe.transfer.trained_sizes(shapes, trainable_names(recipe, stage, shapes)):
            problem = f"transfer {name!r} freezes all of {', '.join(stage.train)}"
            faults.append(Fault("", 0, 0, f"stages[{i}].train", problem))
    if faults:
        raise RecipeError(
            faults,
            "name layers of the encoder (encoder) or heads (heads.*), or take transfer: full",
        )


def frozen_entries(
    recipe: TrainRecipe, stage: Stage, shapes: Mapping[str, Sequence[int]]
) -> list[str]:
    """Return the entries of a stage's ``train`` of which the recipe's transfer trains nothing."""
    found = []
    for entry in stage.train:
        named = trainable_names(recipe, stage.model_copy(update={"train": [entry]}), shapes)
        if named and not recipe.transfer.trained_sizes(shapes, named):
            found.append(entry)
    return found


def _globs(recipe: TrainRecipe, entry: str) -> Sequence[str]:
    """Return the globs of a named parameter group of the backbone, or the entry, a glob itself."""
    return recipe.backbone.parameter_groups.get(entry, (entry,))


def _groups(names: Iterable[str]) -> list[str]:
    groups: dict[str, None] = {}
    for name in names:
        groups[name] = None
        parts = name.split(".")
        for depth in range(1, len(parts)):
            groups[".".join(parts[:depth]) + ".*"] = None
    return list(groups)
