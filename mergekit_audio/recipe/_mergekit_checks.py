"""Check a mergekit recipe before anything is opened: keys, parameters, what has no meaning here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from mergekit_audio.errors import RecipeError
from mergekit_audio.recipe import overrides as override_module
from mergekit_audio.recipe._mergekit_parameters import CONTRACTS, Contract, Parameter, Scope, coerce
from mergekit_audio.recipe._mergekit_schema import (
    METHODS,
    Conditional,
    MergekitRecipe,
    ModelReference,
    Parameters,
)
from mergekit_audio.recipe.faults import faults_of, place
from mergekit_audio.recipe.overrides import Override
from mergekit_audio.recipe.positions import Document, Path
from mergekit_audio.registry import did_you_mean

_HINT = "mergekit would take unknown keys in silence; `cmerge recipe convert` writes our form"
_CONTENTS = ("models", "slices", "modules")
_SCOPES: tuple[Scope, ...] = ("shared", "models", "inputs")
_SHARED = "one value for the whole merge: put it under the recipe's `parameters`"
_RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")


def validate(document: Document, changes: Sequence[Override]) -> MergekitRecipe:
    """Return the recipe of a document, or raise ``RecipeError`` with all of its faults."""
    if not isinstance(document.value, dict):
        problem = "a mergekit recipe is a mapping of keys to values"
        raise RecipeError([document.fault((), problem)], _HINT)
    value, faults = override_module.apply(document.value, changes)
    faults += document.faults
    try:
        recipe = MergekitRecipe.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        faults += faults_of(error, document, value, changes, "mergekit")
        recipe = None
    for path, problem, at_key in _problems(value):
        faults.append(place(path, problem, document, changes, at_key=at_key))
    if recipe is None or faults:
        raise RecipeError(list(dict.fromkeys(faults)), _HINT)
    return recipe


def references(recipe: MergekitRecipe) -> list[ModelReference]:
    """Return every model that a recipe names, the base last, each once."""
    found: list[ModelReference] = []
    modules = recipe.modules or {}
    for models in [recipe.models, *(module.models for module in modules.values())]:
        found += [each.model for each in models or []]
    for slices in [recipe.slices, *(module.slices for module in modules.values())]:
        found += [source.model for one in slices or [] for source in one.sources]
        found += [one.base_model for one in slices or [] if one.base_model is not None]
    if recipe.base_model is not None:
        found.append(recipe.base_model)
    return list(dict.fromkeys(found))


def notes(recipe: MergekitRecipe) -> list[str]:
    """Return what the user should know of the difference between mergekit and us."""
    found = []
    if recipe.dtype is not None and recipe.dtype.endswith("float16"):
        found.append(
            f"sums are in float64 and cast once at the end: mergekit's `dtype: {recipe.dtype}` "
            "rounds inputs and sums on the way, so that last places differ"
        )
    used = {name for settings in _settings(recipe) for name in settings}
    if "int8_mask" in used:
        found.append("int8_mask saves memory in mergekit and changes no result: it is left out")
    if recipe.merge_method == "task_arithmetic" and used & {"density", "rescale"}:
        found.append("task_arithmetic drops nothing, in mergekit too: density and rescale are idle")
    if any(each.override_architecture for each in references(recipe)):
        found.append("override_architecture decides about modules and layers alone")
    if recipe.merge_method in _RANDOM:
        found.append(
            f"{recipe.merge_method} draws at random: the same odds as mergekit's, other elements"
        )
    return found


def has_gradients(recipe: MergekitRecipe) -> bool:
    """Say whether a parameter has a list of values over the layers."""
    settings = [setting for each in _settings(recipe) for setting in each.values()]
    items = [item for each in settings for item in (each if isinstance(each, list) else [each])]
    lists: list[Any] = [each for each in settings if isinstance(each, list)]
    lists += [item.value for item in items if isinstance(item, Conditional)]
    return any(
        isinstance(each, list) and len(each) > 1 and not isinstance(each[0], Conditional)
        for each in lists
    )


def report_filters(recipe: MergekitRecipe, names: Iterable[str], found: list[str]) -> None:
    """Add a note for each filter that no tensor name holds."""
    names = list(names)
    filters = {
        str(item.filter): None
        for settings in _settings(recipe)
        for setting in settings.values()
        for item in (setting if isinstance(setting, list) else [setting])
        if isinstance(item, Conditional) and item.filter not in (None, "*")
    }
    for text in filters:
        if not any(text in name for name in names):
            found.append(f"the filter {text!r} is part of no tensor's name")


def _settings(recipe: MergekitRecipe) -> Iterator[Parameters]:
    """Yield the parameters of every place that may have some."""
    modules = recipe.modules or {}
    holders: list[Any] = [recipe, *modules.values(), *(recipe.models or [])]
    slices = list(recipe.slices or [])
    for module in modules.values():
        holders += module.models or []
        slices += module.slices or []
    holders += [*slices, *(source for one in slices for source in one.sources)]
    for holder in holders:
        if holder.parameters:
            yield holder.parameters


def _problems(value: dict[str, Any]) -> Iterator[tuple[Path, str, bool]]:
    """Yield what the models do not check: path, problem, whether the key is meant."""
    written = "out_dtype" if value.get("out_dtype") is not None else "dtype"
    if value.get(written) in ("float64", "torch.float64"):
        problem = "float64 can't be written; sums are in float64 anyway: add out_dtype: float32"
        yield (written,), problem, False
    yield from _one_content(value, (), _CONTENTS)
    modules = value.get("modules")
    for name, module in modules.items() if isinstance(modules, dict) else ():
        if isinstance(module, dict):
            yield from _one_content(module, ("modules", name), _CONTENTS[:2])
    yield from _tokenizers(value)
    method = value.get("merge_method")
    if isinstance(method, str) and method in METHODS:
        for path, parameters, is_model in _places(value, ()):
            for problem, below in _parameter_problems(parameters, CONTRACTS[method], is_model):
                at_key = below[-1] not in CONTRACTS[method].names(_SCOPES) or problem == _SHARED
                full = (*path, "parameters", *below)
                yield full, problem.replace("METHOD", method), at_key and len(below) == 1


def _one_content(
    value: dict[str, Any], path: Path, keys: Sequence[str]
) -> Iterator[tuple[Path, str, bool]]:
    given = [key for key in keys if value.get(key)]
    if len(given) != 1:
        listed = f"{', '.join(keys[:-1])} or {keys[-1]}"
        found = " and ".join(given) or "none"
        yield path, f"expected one of {listed}; found {found}", False


def _tokenizers(value: dict[str, Any]) -> Iterator[tuple[Path, str, bool]]:
    kept = "the base's tokenizer files are carried over as they are"
    if value.get("tokenizer_source") not in (None, "base"):
        problem = (
            f"tokenizers are not merged here: {kept}; write `tokenizer_source: base` or leave the "
            "key out, and resize vocabularies beforehand"
        )
        yield ("tokenizer_source",), problem, False
    tokenizer = value.get("tokenizer")
    if isinstance(tokenizer, dict) and (tokenizer.get("source") != "base" or len(tokenizer) > 1):
        yield (
            ("tokenizer",),
            f"tokenizers are not merged here: {kept}; write `tokenizer: {{source: base}}` or leave "
            "the key out, and change embeddings of single tokens beforehand",
            False,
        )
    if value.get("chat_template") is not None:
        yield (
            ("chat_template",),
            f"chat templates are not changed here: {kept}; leave the key out, and edit "
            "tokenizer_config.json of the output",
            False,
        )


def _places(value: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any], bool]]:
    """Yield (path, parameters, whether of one model) of every mapping that has parameters."""
    if isinstance(value, list):
        for i, item in enumerate(value):
            yield from _places(item, (*path, i))
    elif isinstance(value, dict):
        if isinstance(value.get("parameters"), dict):
            yield path, value["parameters"], "model" in value
        below = value if path == ("modules",) else (*_CONTENTS, "sources")
        for key in below:
            if key in value:
                yield from _places(value[key], (*path, key))


def _parameter_problems(
    parameters: dict[str, Any], contract: Contract, is_model: bool
) -> Iterator[tuple[str, Path]]:
    own = contract.names(["models", "inputs"])
    known = {each.name: each for each in contract.parameters}
    for name, setting in parameters.items():
        parameter = known.get(name)
        if parameter is None:
            choices = sorted(own if is_model else known)
            listed = f"expected one of: {', '.join(choices)}" if choices else "it has none"
            near = did_you_mean(name, choices) or listed
            yield f"unknown parameter of METHOD; {near}", (name,)
        elif is_model and name not in own:
            yield _SHARED, (name,)
        else:
            yield from _value_problems(setting, parameter, (name,))


def _value_problems(setting: Any, parameter: Parameter, path: Path) -> Iterator[tuple[str, Path]]:
    if isinstance(setting, list):
        for i, item in enumerate(setting):
            yield from _value_problems(item, parameter, (*path, i))
    elif isinstance(setting, dict):
        if "value" in setting:
            yield from _value_problems(setting["value"], parameter, (*path, "value"))
    else:
        try:
            coerce(setting, parameter.kind)
        except ValueError as error:
            yield str(error), path
