"""Load a recipe: YAML to a validated model, or all of its faults with line and column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from mergekit_audio.errors import Fault, RecipeError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.recipe import overrides as override_module
from mergekit_audio.recipe import positions
from mergekit_audio.recipe.faults import faults_of, place
from mergekit_audio.recipe.kinds import COMMANDS, KINDS, model_of
from mergekit_audio.recipe.overrides import Override
from mergekit_audio.recipe.positions import Document
from mergekit_audio.registry import did_you_mean

if TYPE_CHECKING:
    from mergekit_audio.recipe.ablation import AblationRecipe
    from mergekit_audio.recipe.evaluate import EvaluateRecipe
    from mergekit_audio.recipe.measure import MeasureRecipe
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.mergekit_yaml import Conversion
    from mergekit_audio.recipe.sweep import SweepRecipe
    from mergekit_audio.recipe.train import TrainRecipe

    Recipe = (
        MergeRecipe | TrainRecipe | EvaluateRecipe | SweepRecipe | MeasureRecipe | AblationRecipe
    )


@dataclass(frozen=True)
class LoadedRecipe:
    """A validated recipe and where it comes from.

    Parameters
    ----------
    recipe
        The recipe, overrides applied.
    path, root
        The file, and the folder that its relative paths start from.
    digest
        sha256 of the canonical JSON of the recipe: equal recipes have equal digests, however their
        files are written.
    overrides
        The ``--set`` texts, as given.
    document
        The file as read, before overrides.
    notes
        What the user should know of how the file was read.
    """

    recipe: Recipe
    path: Path
    root: Path
    digest: str
    overrides: list[str]
    document: Document = field(repr=False, compare=False)
    notes: tuple[str, ...] = ()

    def place(self, error: RecipeError) -> RecipeError:
        """Return an engine's error with the file's lines put to faults that name only a key."""
        changes = override_module.parse(self.overrides)
        faults = [
            fault
            if fault.file
            else place(override_module.path_of(fault.key), fault.problem, self.document, changes)
            for fault in error.faults
        ]
        return RecipeError(faults, error.hint)


def load(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    kind: str | None = None,
    mergekit: bool = False,
) -> LoadedRecipe:
    """Read, change and validate a recipe.

    Parameters
    ----------
    path
        A YAML file.
    overrides
        ``key=value`` texts of ``--set``.
    kind
        The kind that the caller can run; None takes any.
    mergekit
        Read the file as mergekit's, whatever it looks like. Without it a file with
        ``merge_method`` and without ``kind`` is; its models are opened to convert it.

    Raises
    ------
    InputError
        A model that a mergekit recipe names can't be opened.
    RecipeError
        The file is missing or unreadable, is not UTF-8 or YAML, or has faults: all are listed.
    """
    path = Path(path)
    document = positions.read(_text_of(path), str(path))
    changes = override_module.parse(overrides)
    root = path.resolve().parent
    recipe: Recipe
    notes: tuple[str, ...] = ()
    if mergekit or (kind in (None, "merge") and _is_mergekit(document.value)):
        from mergekit_audio.recipe import mergekit_yaml

        conversion = mergekit_yaml.convert_document(document, changes, root)
        recipe, notes = conversion.recipe, conversion.notes
    else:
        recipe = _validate(document, changes, kind)
    digest = digest_of(recipe)
    return LoadedRecipe(recipe, path, root, digest, list(overrides), document, notes)


def check_file(path: Path, overrides: Sequence[str] = ()) -> tuple[str, str | None]:
    """Return a valid recipe's kind and digest; ``mergekit`` and None for one of mergekit's.

    Nothing that the recipe names is opened, so that a mergekit recipe is checked for its keys and
    values alone.

    Raises
    ------
    RecipeError
        The file can't be read or has faults; all are listed.
    """
    document = positions.read(_text_of(path), str(path))
    if _is_mergekit(document.value):
        from mergekit_audio.recipe import mergekit_yaml

        mergekit_yaml.check_document(document, override_module.parse(overrides))
        return "mergekit", None
    loaded = load(path, overrides)
    return loaded.recipe.kind, loaded.digest


def convert_file(path: Path, root: Path, overrides: Sequence[str] = ()) -> Conversion:
    """Return a mergekit recipe's file as our recipe; its ``output`` is named after the file.

    Parameters
    ----------
    path
        A YAML file.
    root
        The folder that the result's relative paths start from.
    overrides
        ``key=value`` texts of ``--set``.

    Raises
    ------
    RecipeError
        The file can't be read or has faults; all are listed.
    InputError
        A model that it names can't be opened.
    """
    from mergekit_audio.recipe import mergekit_yaml

    document = positions.read(_text_of(path), str(path))
    changes = override_module.parse(overrides)
    output = f"{path.stem}-merged"
    return mergekit_yaml.convert_document(document, changes, root, output=output)


def from_dict(value: dict[str, Any], root: Path) -> Recipe:
    """Return the recipe of plain values (a lock's); faults name keys, but no lines."""
    return _validate(Document(str(root / "recipe"), value), [], None)


def digest_of(recipe: Recipe) -> str:
    """Return the sha256 of a recipe's canonical JSON."""
    return sha256_of_text(canonical_json(recipe.model_dump(mode="json")))


def _is_mergekit(value: Any) -> bool:
    """Say whether a value looks like a recipe of mergekit; only such a one loads what reads it."""
    if not isinstance(value, dict) or "merge_method" not in value:
        return False
    from mergekit_audio.recipe import mergekit_yaml

    return mergekit_yaml.detect(value)


def _text_of(path: Path) -> str:
    name = str(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        near = did_you_mean(path.name, _yaml_names(path.parent))
        hint = f"{near} " if near else ""
        raise RecipeError(
            [Fault(name, 0, 0, "", "no such recipe file")],
            f"{hint}`cmerge recipe ls` lists the shipped recipes, `recipe cp NAME` copies one",
        ) from error
    except OSError as error:
        raise RecipeError([Fault(name, 0, 0, "", f"can't be read: {error.strerror}")]) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        problem = f"not UTF-8: byte 0x{content[error.start]:02X}"
        raise RecipeError(
            [Fault(name, line, column, "", problem)], "save the file as UTF-8"
        ) from error


def _yaml_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.glob("*.y*ml")) if folder.is_dir() else []


def _validate(document: Document, changes: list[Override], kind: str | None) -> Recipe:
    value = document.value
    if value is None:
        raise RecipeError([Fault(document.file, 1, 1, "", "the file is empty")], _examples_hint())
    if not isinstance(value, dict):
        raise RecipeError(
            [
                document.fault(
                    (), f"a recipe is a mapping of keys to values, found {_kind_of(value)}"
                )
            ],
            _examples_hint(),
        )
    value, faults = override_module.apply(value, changes)
    faults += document.faults
    found = _kind(document, value, kind)
    model = model_of(found)
    try:
        # Strict JSON: text is no number, yes/no is no 1/0, but lists may become tuples.
        recipe = cast("Recipe", model.model_validate_json(json.dumps(value), strict=True))
    except ValidationError as error:
        faults += faults_of(error, document, value, changes, found)
    if faults:
        raise RecipeError(
            faults, f"`cmerge recipe schema {found}` prints every key and what it takes"
        )
    return recipe


def _kind(document: Document, value: dict[str, Any], wanted: str | None) -> str:
    found = value.get("kind")
    choices = ", ".join(KINDS)
    if "kind" not in value:
        problem = f"missing required key; one of: {choices}"
    elif not isinstance(found, str) or found not in KINDS:
        near = did_you_mean(found, KINDS) if isinstance(found, str) else ""
        problem = f"expected one of: {choices}; found {found!r}" + (f"; {near}" if near else "")
    elif wanted is not None and found != wanted:
        fault = document.fault(
            ("kind",), f"this is a {found} recipe; `cmerge {COMMANDS[wanted]}` takes kind: {wanted}"
        )
        raise RecipeError([fault], f"run: cmerge {COMMANDS[found]} {document.file}")
    else:
        return found
    faults = [*document.faults, document.fault(("kind",), problem)]
    raise RecipeError(faults, _examples_hint())


def _examples_hint() -> str:
    return "`cmerge recipe ls` lists recipes to start from"


def _kind_of(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"
