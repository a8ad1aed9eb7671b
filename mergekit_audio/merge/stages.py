"""Recipes whose base or models are other merge recipes: those run first, or their outputs serve."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.files import canonical_json
from mergekit_audio.lock import LOCK_NAME, read_lock, recipe_root, verify
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.load import LoadedRecipe, load
from mergekit_audio.recipe.merge import MergeRecipe

SUFFIXES = (".yaml", ".yml")

StageRunner = Callable[[MergeRecipe, Path, bool], object]
"""Runs a recipe without stages: ``run(recipe, root, force)`` writes ``root / recipe.output``."""


def resolve_stages(
    recipe: MergeRecipe,
    root: Path,
    run: StageRunner,
    *,
    path: Path | None = None,
    force: bool = False,
    progress: Progress = silent,
) -> MergeRecipe:
    """Return the recipe with the output folders of its inner recipes in their places.

    An inner recipe is run first, its own inner recipes before it, each once. When its output
    exists, has a lock of this very recipe, and all outputs and inputs are still as locked, it is
    not run again; the progress callback is told which.

    Parameters
    ----------
    recipe
        A merge recipe; `base` and `models[].model` that end in .yaml or .yml are inner recipes,
        relative to ``root``.
    root
        The folder that the recipe's relative paths start from.
    run
        What runs one recipe.
    path
        The recipe's own file, so that a circle through it is found.
    force
        Replace outputs that are not their recipes'.

    Raises
    ------
    RecipeError
        An inner recipe has faults, or recipes go round in a circle (the chain is named).
    InputError
        An inner recipe's output holds something else (without ``force``), or two recipes write the
        same folder.
    """
    root = Path(root)
    walk = _Walk(run, force, progress)
    chain = [] if path is None else [Path(path).resolve()]
    walk.claim(root / recipe.output, path or Path("this recipe"))
    return walk.resolved(recipe, root, chain)


def stage_sources(recipe: MergeRecipe, root: Path) -> list[tuple[str, Path]]:
    """Return (key in the recipe, file) of the inner recipes that it names itself."""
    sources = [("base", recipe.base or "")]
    sources += [(f"models[{i}].model", entry.model) for i, entry in enumerate(recipe.models)]
    return [(key, root / Path(source).expanduser()) for key, source in sources if _is_stage(source)]


@dataclass
class _Walk:
    """One walk through the recipes: what ran, and who writes which folder."""

    run: StageRunner
    force: bool
    progress: Progress
    done: dict[Path, Path] = field(default_factory=dict)
    writers: dict[Path, Path] = field(default_factory=dict)

    def resolved(self, recipe: MergeRecipe, root: Path, chain: Sequence[Path]) -> MergeRecipe:
        """Return a recipe with folders in the places of recipes; these have run then."""
        folders = {
            key: self._folder(key, path, root, chain) for key, path in stage_sources(recipe, root)
        }
        changes: dict[str, Any] = {
            "models": [
                entry.model_copy(update={"model": folders[f"models[{i}].model"]})
                if f"models[{i}].model" in folders
                else entry
                for i, entry in enumerate(recipe.models)
            ]
        }
        if "base" in folders:
            changes["base"] = folders["base"]
        return recipe.model_copy(update=changes)

    def claim(self, output: Path, path: Path) -> None:
        """Keep two recipes from writing one folder."""
        place = output.resolve()
        other = self.writers.setdefault(place, path)
        if other != path:
            raise InputError(
                f"{output}: {path} and {other} both write this folder",
                "give each recipe an output of its own",
            )

    def _folder(self, key: str, path: Path, root: Path, chain: Sequence[Path]) -> str:
        place = path.resolve()
        if place in chain:
            names = [*chain[chain.index(place) :], place]
            circle = " -> ".join(_shown(each, root) for each in names)
            raise RecipeError(
                [Fault("" if len(chain) == 1 else str(chain[-1]), 0, 0, key, f"circle: {circle}")],
                "a recipe can't be made of its own output",
            )
        if place not in self.done:
            self.done[place] = self._made(load(path, kind="merge"), [*chain, place])
        return Path(os.path.relpath(self.done[place], root.resolve())).as_posix()

    def _made(self, loaded: LoadedRecipe, chain: Sequence[Path]) -> Path:
        """Return the output folder of an inner recipe, run if need be."""
        assert isinstance(loaded.recipe, MergeRecipe)
        output = loaded.root / loaded.recipe.output
        self.claim(output, loaded.path)
        recipe = self.resolved(loaded.recipe, loaded.root, chain)
        if output.is_dir() and any(output.iterdir()):
            problem = _outdated(recipe, loaded.root, output)
            if not problem:
                self._tell(loaded.path, 1, f"{output} is as locked and serves again")
                return output.resolve()
            if not self.force:
                raise InputError(
                    f"{output}: not what {loaded.path} makes now: {problem}",
                    "add --force to run that recipe again and replace the folder, or name the "
                    "folder itself as the model",
                )
        self._tell(loaded.path, 0, f"writes {output}")
        try:
            self.run(recipe, loaded.root, self.force)
        except RecipeError as error:
            raise loaded.place(error) from error
        self._tell(loaded.path, 1, f"wrote {output}")
        return output.resolve()

    def _tell(self, path: Path, done: int, note: str) -> None:
        self.progress(ProgressEvent(f"stage {path.name}", done, 1, note))


def _is_stage(source: str) -> bool:
    return source.lower().endswith(SUFFIXES)


def _outdated(recipe: MergeRecipe, root: Path, output: Path) -> str:
    """Return why a folder is not the output of this recipe with its inputs, or an empty text."""
    try:
        lock = read_lock(output)
    except InputError:
        return f"it has no {LOCK_NAME} that can be read"
    if recipe_root(output, lock) != root.resolve():
        return f"it was made by a recipe in {recipe_root(output, lock)}"
    wanted, found = recipe.model_dump(mode="json"), lock.recipe
    keys = [
        key
        for key in sorted({*wanted, *found})
        if _comparable(recipe, key, wanted.get(key)) != _comparable(recipe, key, found.get(key))
    ]
    if keys:
        return f"the recipe that made it differs in {', '.join(keys)}"
    differences = verify(output)
    if differences:
        more = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
        return f"{differences[0]}{more}"
    return ""


def _comparable(recipe: MergeRecipe, key: str, value: Any) -> Any:
    """Return a value of a recipe so that equal merges are equal: a lock has its models sorted."""
    if key == "models" and isinstance(value, list) and _is_symmetric(recipe):
        return sorted(canonical_json(entry) for entry in value)
    return canonical_json(value)


def _is_symmetric(recipe: MergeRecipe) -> bool:
    """Say whether the order of the models can't matter: no formula, list or stack follows it."""
    methods = [recipe.method, *(group.method for group in recipe.groups if group.method)]
    listed = recipe.stack or any(group.weights or group.parameters for group in recipe.groups)
    return recipe.base is not None and not listed and all(method.symmetric for method in methods)


def _shown(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path, root.resolve())).as_posix()
