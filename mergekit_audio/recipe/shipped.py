"""The recipes that come with the package: in the wheel, or beside it in a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mergekit_audio
from mergekit_audio.errors import DependencyError, InputError
from mergekit_audio.registry import did_you_mean


@dataclass(frozen=True)
class ShippedRecipe:
    """One shipped recipe.

    Parameters
    ----------
    name
        ``group/stem``, e.g. ``merge/culturemert_ta``.
    group
        Its folder: ``ablation``, ``demo``, ``evaluate``, ``measure``, ``merge``, ``sweep`` or
        ``train``.
    title
        Its first line, a comment.
    path
        The file.
    """

    name: str
    group: str
    title: str
    path: Path


def shipped_recipes() -> list[ShippedRecipe]:
    """Return all shipped recipes, sorted by name."""
    root = _root()
    paths = sorted(root.glob("*/*.yaml"))
    return [
        ShippedRecipe(
            path.relative_to(root).with_suffix("").as_posix(), path.parent.name, _title(path), path
        )
        for path in paths
    ]


def shipped_recipe(name: str) -> Path:
    """Return the file of one shipped recipe, by ``group/stem`` or by a stem that is unique.

    Raises
    ------
    InputError
        There is no such recipe, or several of that stem.
    """
    wanted = name.removesuffix(".yaml").removeprefix("recipes/")
    recipes = {recipe.name: recipe.path for recipe in shipped_recipes()}
    if wanted in recipes:
        return recipes[wanted]
    found = [known for known in recipes if known.split("/")[1] == wanted]
    if len(found) == 1:
        return recipes[found[0]]
    if found:
        raise InputError(f"{name}: several shipped recipes: {', '.join(found)}", "give one of them")
    stems = [known.split("/")[1] for known in recipes]
    near = did_you_mean(wanted, [*recipes, *stems])
    raise InputError(
        f"{name}: no such shipped recipe", " ".join([near, "`cmerge recipe ls` lists them"]).strip()
    )


def _root() -> Path:
    package = Path(mergekit_audio.__file__).parent
    for folder in (package / "shipped_recipes", package.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise DependencyError(
        f"{package}: the installed package holds no recipes", "install mergekit_audio again"
    )


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as stream:
        first = stream.readline()
    return first.removeprefix("#").split("      ")[0].strip()
