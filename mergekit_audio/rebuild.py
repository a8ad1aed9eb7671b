"""Rebuild an output folder from its lock and compare the bytes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors
from mergekit_audio.lock import (
    Difference,
    Lock,
    compare_outputs,
    environment,
    hash_outputs,
    read_lock,
    recipe_digest,
    recipe_root,
    verify_inputs,
)
from mergekit_audio.progress import Progress, ProgressEvent, silent


def rebuild(folder: Path, progress: Progress = silent) -> list[Difference]:
    """Run the locked recipe again into a temporary folder and compare every locked output.

    The locked recipe and inputs are checked first: when they differ, that is returned and nothing
    runs. When outputs differ, packages whose versions are not the lock's are listed with them. The
    temporary folder lies beside ``folder`` and is always removed.

    Parameters
    ----------
    folder
        A folder that a merge or a training wrote.

    Raises
    ------
    InputError
        There is no lock, or it is of a kind that leaves no weights to rebuild.
    """
    folder = Path(folder)
    lock = read_lock(folder)
    if lock.kind not in ("merge", "train"):
        raise InputError(
            f"{folder}: a {lock.kind} can't be rebuilt, only a merge or a training",
            "leave out --rebuild",
        )
    found = recipe_digest(lock.recipe)
    if found != lock.recipe_digest:
        return [Difference("recipe", "recipe_digest", lock.recipe_digest, found)]
    if differences := verify_inputs(folder, lock, progress):
        return differences
    changes = _environment_changes(lock)
    for change in changes:
        progress(ProgressEvent("rebuild", 0, 1, str(change)))
    outputs = _rebuilt_outputs(folder.resolve(), lock, progress)
    differences = compare_outputs(lock.outputs, outputs)
    return sorted([*differences, *changes]) if differences else []


def _rebuilt_outputs(folder: Path, lock: Lock, progress: Progress) -> dict[str, str]:
    with explain_os_errors(folder.parent):
        place = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".rebuild", dir=folder.parent)
        )
    try:
        _run_again(lock, recipe_root(folder, lock), place / folder.name, progress)
        return hash_outputs(place / folder.name, progress=progress)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run_again(lock: Lock, root: Path, output: Path, progress: Progress) -> None:
    from mergekit_audio.recipe.load import from_dict
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.train import TrainRecipe

    recipe = from_dict(lock.recipe, root)
    if isinstance(recipe, MergeRecipe):
        from mergekit_audio import merge

        merge.run(merge.plan(recipe, root), output=output, progress=progress)
    elif isinstance(recipe, TrainRecipe):
        from mergekit_audio.pretrain import run as pretrain

        pretrain.run(pretrain.plan(recipe, root), output=output, progress=progress)


def _environment_changes(lock: Lock) -> list[Difference]:
    here = environment()
    return [
        Difference("environment", name, version, here.get(name, "not installed"))
        for name, version in sorted(lock.environment.items())
        if here.get(name) != version
    ]
