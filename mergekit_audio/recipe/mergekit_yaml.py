"""Read mergekit's own recipes and write them as ours; the engine knows only ours."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.recipe import _mergekit_checks as checks
from mergekit_audio.recipe import positions
from mergekit_audio.recipe._mergekit_layout import architecture_of, modules
from mergekit_audio.recipe._mergekit_schema import MergekitRecipe, ModelReference
from mergekit_audio.recipe._mergekit_translate import Translation, translate
from mergekit_audio.recipe.faults import place
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.recipe.overrides import Override
from mergekit_audio.recipe.positions import Document
from mergekit_audio.weights.keys import canonical_name

_FILES = (".safetensors", ".bin", ".pt", ".pth", ".index.json")
_OURS = MergeRecipe.model_fields.keys() - MergekitRecipe.model_fields.keys()


@dataclass(frozen=True)
class Conversion:
    """A mergekit recipe in our words, and what differs or has no meaning here."""

    recipe: MergeRecipe
    notes: tuple[str, ...]


def detect(value: Any) -> bool:
    """Say whether a YAML document's value is a mergekit recipe: ``merge_method``, no ``kind``."""
    return isinstance(value, dict) and "merge_method" in value and "kind" not in value


def convert(text: str, path: Path, root: Path) -> MergeRecipe:
    """Return a mergekit recipe as ours: the same values for every tensor.

    Parameters
    ----------
    text
        The recipe's YAML.
    path
        Its file, for faults; its name becomes the name of the output.
    root
        The folder that the result's relative paths start from.

    Raises
    ------
    RecipeError
        The recipe has faults, or says what has no meaning here; all are listed.
    InputError
        The base can't be opened.
    """
    document = positions.read(text, str(path))
    return convert_document(document, [], root, output=f"{path.stem}-merged").recipe


def check_document(document: Document, changes: Sequence[Override]) -> None:
    """Raise ``RecipeError`` with all faults that keys and values have; nothing is opened."""
    checks.validate(document, [change for change in changes if change.path[0] not in _OURS])


def as_yaml(conversion: Conversion, source: str) -> str:
    """Return a converted recipe as YAML: what differs from our defaults, the notes on top.

    Parameters
    ----------
    conversion
        What ``convert_document`` returned.
    source
        The mergekit recipe's name, for the first line.
    """
    values = _brief(conversion.recipe.model_dump(mode="json"), conversion.recipe)
    lines = [f"# {source}, converted from mergekit's form."]
    for note in conversion.notes:
        lines += textwrap.wrap(f"Note: {note}.", 98, initial_indent="# ", subsequent_indent="# ")
    text = yaml.safe_dump(
        values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=98
    )
    return "\n".join([*lines, text])


def convert_document(
    document: Document, changes: Sequence[Override], root: Path, *, output: str | None = None
) -> Conversion:
    """Return a mergekit document as our recipe, with notes.

    Parameters
    ----------
    document
        The file as read.
    changes
        Overrides: of mergekit's keys before the conversion, of ours (``output``, ``seed``,
        ``exclude`` …) after it.
    root
        The folder that the result's relative paths start from.
    output
        The folder to write where no override names one.

    Raises
    ------
    RecipeError
        The recipe has faults, or says what has no meaning here; all are listed.
    InputError
        The base can't be opened.
    """
    theirs = [change for change in changes if change.path[0] not in _OURS]
    ours = [change for change in changes if change.path[0] in _OURS]
    recipe = checks.validate(document, theirs)
    folders = (Path.cwd(), Path(document.file).resolve().parent)
    sources = _Sources(folders, root)
    translation, dtypes = _translate(recipe, sources)
    if translation.problems:
        raise RecipeError(
            [
                place(where, problem, document, theirs, at_key=_names_module(where))
                for where, problem in dict.fromkeys(translation.problems)
            ],
            f"cmerge inspect {_base_of(recipe).model} lists its tensors and layers",
        )
    values = _values(recipe, translation, sources, dtypes)
    if output is not None:
        values["output"] = output
    notes = (*checks.notes(recipe), *sources.notes, *translation.notes)
    return Conversion(_validated(values, ours, document), notes)


def _base_of(recipe: MergekitRecipe) -> ModelReference:
    """Return the base, or the first model, which stands in for it."""
    return recipe.base_model or checks.references(recipe)[0]


def _names_module(path: positions.Path) -> bool:
    """Say whether a problem is about the name of a module, which is a key."""
    return len(path) == 2 and path[0] == "modules"


def _translate(recipe: MergekitRecipe, sources: _Sources) -> tuple[Translation, set[str]]:
    """Return the translation beside the base's tensors, and all dtypes of what is merged."""
    from mergekit_audio.weights.checkpoint import Checkpoint

    references = checks.references(recipe)
    first = _base_of(recipe)
    opened = {
        reference: Checkpoint.open(sources.path(reference), root=sources.root)
        for reference in references
        if reference == first or (recipe.dtype is None and recipe.out_dtype is None)
    }
    base = opened[first]
    stored = {info.stored_name: name for name, info in base.index.items()}
    floating = {
        info.stored_name: canonical_name(info.stored_name)
        for info in base.index.values()
        if info.dtype.startswith(("float", "bfloat"))
    }
    architecture = first.override_architecture or architecture_of(base.config)
    is_flat = all(str(reference).endswith(_FILES) for reference in references)
    translation = translate(recipe, modules(stored, architecture), floating, has_layers=not is_flat)
    checks.report_filters(recipe, stored, translation.notes)
    if is_flat and checks.has_gradients(recipe):
        translation.notes.append(
            "weight files have no layers in mergekit: a gradient is its first value everywhere; "
            "name the folders instead of the files for values by layer"
        )
    dtypes = {
        info.dtype
        for checkpoint in opened.values()
        for info in checkpoint.index.values()
        if info.dtype.startswith(("float", "bfloat"))
    }
    return translation, dtypes


def _values(
    recipe: MergekitRecipe, translation: Translation, sources: _Sources, dtypes: set[str]
) -> dict[str, Any]:
    """Return our recipe as plain values; ``output`` is not among them."""
    default = translation.default
    assert default is not None
    models = []
    for reference, weight, parameters in zip(
        translation.models, default.weights, default.parameters, strict=True
    ):
        entry: dict[str, Any] = {"model": sources.path(reference), "weight": weight}
        if reference.lora is not None:
            entry["adapter"] = sources.locate(reference.lora.path, reference.lora.revision)
        if parameters:
            entry["parameters"] = dict(parameters)
        models.append(entry)
    dtype = (recipe.out_dtype or recipe.dtype or "").removeprefix("torch.") or None
    if dtype is None and len(dtypes) > 1:
        dtype = _promoted(dtypes)
    return {
        "kind": "merge",
        "base": None if translation.base is None else sources.path(translation.base),
        "models": models,
        "method": dict(default.method),
        "scale": default.scale,
        "dtype": dtype,
        "groups": translation.groups,
        "exclude": translation.exclude,
        "stack": translation.stack,
    }


def _promoted(dtypes: set[str]) -> str:
    """Return the dtype that holds all of them: of bfloat16 and float16 it is float32."""
    if dtypes <= {"float16"} or dtypes <= {"bfloat16"}:
        return next(iter(dtypes))
    return "float32"


def _validated(
    values: dict[str, Any], changes: Sequence[Override], document: Document
) -> MergeRecipe:
    from mergekit_audio.recipe import overrides

    values, faults = overrides.apply(values, changes)
    if "output" not in values:
        faults.append(document.fault((), "mergekit's recipes name no output folder"))
        raise RecipeError(faults, "add --output FOLDER (or --set output=FOLDER)")
    try:
        recipe = MergeRecipe.model_validate(values)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            where = positions.spell(tuple(step for step in details["loc"]))
            problem = f"in our recipe: {details['msg'][0].lower()}{details['msg'][1:]}"
            faults.append(Fault(document.file, 0, 0, where, problem))
    if faults:
        raise RecipeError(faults, "`cmerge recipe schema merge` prints what our recipes take")
    return recipe


def _brief(values: Any, model: Any) -> Any:
    """Return dumped values without those that are defaults; names and kinds stay."""
    if isinstance(model, BaseModel):
        return {
            key: _brief(values[key], getattr(model, key))
            for key, field in type(model).model_fields.items()
            if key in ("kind", "name", "base")
            or (field.is_required() or getattr(model, key) != field.default)
            if values[key] is not None or key == "base"
        }
    if isinstance(model, list):
        return [_brief(value, each) for value, each in zip(values, model, strict=True)]
    return values


class _Sources:
    """Where models are: mergekit looks from the current folder, then we look beside the recipe."""

    def __init__(self, folders: Sequence[Path], root: Path) -> None:
        self.folders, self.root = folders, Path(root)
        self.notes: list[str] = []

    def path(self, reference: ModelReference) -> str:
        """Return what our recipe calls a model (without its adapter)."""
        whole = str(reference)
        if reference.lora is not None and self._found(whole) is not None:
            raise InputError(
                f"{whole}: a path with a '+' in it, which mergekit reads as model+lora",
                "rename the folder",
            )
        return self.locate(reference.model.path, reference.model.revision)

    def locate(self, text: str, revision: str | None) -> str:
        """Return a path relative to the root, or the hub repo with its revision."""
        if revision and self._found(f"{text}@{revision}") is not None:
            text, revision = f"{text}@{revision}", None
        found = self._found(text)
        if found is None:
            return f"{text}@{revision}" if revision else text
        if revision:
            self.notes.append(f"{text} is a local path: its revision {revision!r} has no meaning")
        if Path(text).is_absolute():
            return text
        return os.path.relpath(found, self.root)

    def _found(self, text: str) -> Path | None:
        return next(self._candidates(text), None)

    def _candidates(self, text: str) -> Iterator[Path]:
        for folder in self.folders:
            if (folder / text).exists():
                yield folder / text
