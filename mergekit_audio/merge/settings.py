"""Check a merge recipe beside its method: weights, parameters, counts, before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.merge.rows import PlanRow
from mergekit_audio.methods.base import MergeMethod
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.registry import did_you_mean


def check_recipe(recipe: MergeRecipe) -> None:
    """Check what the recipe alone can tell.

    Raises
    ------
    RecipeError
        Lists of a group have another length than ``models``, two models have one name, the method
        needs a base or statistics that are not there; all faults are listed.
    """
    faults = [*_length_faults(recipe), *_label_faults(recipe), *_need_faults(recipe)]
    faults += _parameter_faults(recipe)
    if faults:
        raise RecipeError(faults, "cmerge recipe schema merge shows all keys")
    methods = _methods(recipe)
    for _, method in methods:
        method.check_labels([entry.label for entry in recipe.models])
    if not recipe.groups and not recipe.stack:
        recipe.method.check_weights([entry.weight for entry in recipe.models])


def check_methods(recipe: MergeRecipe, rows: Sequence[PlanRow]) -> None:
    """Check each method beside the models that take part where it is used.

    Raises
    ------
    RecipeError
        A method can't merge so many models, or can't use their weights.
    """
    checked: list[tuple[MergeMethod, tuple[float, ...]]] = []
    for row in rows:
        if row.fixed:
            continue
        weights = tuple(source.weight for source in row.sources)
        if (row.method, weights) in checked:
            continue
        checked.append((row.method, weights))
        _check_count(row)
        row.method.check_weights(weights)


def _methods(recipe: MergeRecipe) -> Iterator[tuple[str, MergeMethod]]:
    yield "method", recipe.method
    for i, group in enumerate(recipe.groups):
        if group.method is not None:
            yield f"groups[{i}].method", group.method


def _length_faults(recipe: MergeRecipe) -> Iterator[Fault]:
    count = len(recipe.models)
    for i, group in enumerate(recipe.groups):
        for key in ("weights", "parameters"):
            values = getattr(group, key)
            if values is not None and len(values) != count:
                problem = f"{len(values)} entries for {count} models"
                yield Fault("", 0, 0, f"groups[{i}].{key}", problem)


def _label_faults(recipe: MergeRecipe) -> Iterator[Fault]:
    """Names that are written must differ; labels that come from folders may be equal."""
    seen: dict[str, int] = {}
    for i, entry in enumerate(recipe.models):
        if entry.name is not None and entry.name in seen:
            problem = f"{entry.name!r} is the name of models[{seen[entry.name]}] as well"
            yield Fault("", 0, 0, f"models[{i}].name", problem)
        if entry.name is not None:
            seen.setdefault(entry.name, i)


def _need_faults(recipe: MergeRecipe) -> Iterator[Fault]:
    for _, method in _methods(recipe):
        for i, entry in enumerate(recipe.models):
            if method.needs_statistics and entry.statistics is None:
                kinds = " and ".join(method.needs_statistics)
                problem = f"{method.name} needs statistics ({kinds}) of every model"
                yield Fault("", 0, 0, f"models[{i}].statistics", f"{problem}: see cmerge measure")


def _parameter_faults(recipe: MergeRecipe) -> Iterator[Fault]:
    methods = [method for _, method in _methods(recipe)]
    for i, entry in enumerate(recipe.models):
        for name, value in entry.parameters.items():
            takers = [method for method in methods if name in method.model_parameters]
            yield from _value_faults(f"models[{i}].parameters.{name}", methods, takers, name, value)
    for i, group in enumerate(recipe.groups):
        method = group.method or recipe.method
        for j, parameters in enumerate(group.parameters or ()):
            for name, value in parameters.items():
                key = f"groups[{i}].parameters[{j}].{name}"
                takers = [method] if name in method.model_parameters else []
                yield from _value_faults(key, [method], takers, name, value)


def _value_faults(
    key: str, methods: Sequence[MergeMethod], takers: Sequence[MergeMethod], name: str, value: Any
) -> Iterator[Fault]:
    if not takers:
        known = sorted({each for method in methods for each in method.model_parameters})
        names = ", ".join(dict.fromkeys(method.name for method in methods))
        problem = f"{names} takes no {name!r} for a model alone"
        near = did_you_mean(name, known)
        detail = f"known: {', '.join(known)}" if known else "it takes none"
        yield Fault("", 0, 0, key, f"{problem}; {near or detail}")
    for method in takers:
        try:
            type(method).model_validate({**method.model_dump(), name: value})
        except ValidationError as error:
            yield Fault("", 0, 0, key, error.errors()[0]["msg"])


def _check_count(row: PlanRow) -> None:
    least, most = row.method.model_counts
    count = len(row.sources)
    if count >= least and (most is None or count <= most):
        return
    if most is None:
        expected = f"at least {least}"
    else:
        expected = f"{least}" if most == least else f"{least} to {most}"
    key = "models" if row.group is None else f"groups[{row.group}].method"
    problem = f"{row.method.name} merges {expected} model{'s' if expected != '1' else ''}"
    raise RecipeError(
        [Fault("", 0, 0, key, f"{problem}, found {count} (for {row.stored_name})")],
        "choose another method, or other models",
    )
