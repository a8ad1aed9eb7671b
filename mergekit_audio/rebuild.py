"""Rebuild an output folder from its lock and compare the bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from mergekit_audio.files import explain_os_errors
from mergekit_audio.lock import (
    LOCK_NAME,
    Difference,
    Lock,
    compare_outputs,
    environment,
    hash_outputs,
    read_lock,
    recipe_root,
    verify_inputs,
    verify_recipe,
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
        A folder that a merge, a training, an evaluation or a sweep wrote.

    Raises
    ------
    InputError
        There is no lock, or the recipe can't run here.
    RecipeError
        The locked recipe is not one of this version.
    """
    folder = Path(folder)
    lock = read_lock(folder)
    if differences := [*verify_recipe(lock), *verify_inputs(folder, lock, progress)]:
        return differences
    changes = _environment_changes(lock)
    for change in changes:
        progress(ProgressEvent("rebuild", 0, 1, str(change)))
    expected = _without_locks(lock.outputs)
    found = _without_locks(_rebuilt_outputs(folder.resolve(), lock, progress))
    differences = compare_outputs(expected, found)
    return sorted([*differences, *changes]) if differences else []


def _without_locks(outputs: Mapping[str, str]) -> dict[str, str]:
    """Leave out the locks of folders inside (a sweep's best merge): they tell another command."""
    return {
        name: digest for name, digest in outputs.items() if PurePosixPath(name).name != LOCK_NAME
    }


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
    from mergekit_audio.recipe.evaluate import EvaluateRecipe
    from mergekit_audio.recipe.load import from_dict
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.train import TrainRecipe

    recipe = from_dict(lock.recipe, root)
    if isinstance(recipe, MergeRecipe):
        from mergekit_audio import merge

        merge.run(merge.plan(recipe, root), output=output, progress=progress)
    elif isinstance(recipe, TrainRecipe):
        from mergekit_audio.pretrain import plan, run

        run(plan(recipe, root), output=output, progress=progress)
    elif isinstance(recipe, EvaluateRecipe):
        from mergekit_audio.probe.run import evaluate

        evaluate(recipe, root, output=output, progress=progress)
    else:
        from mergekit_audio.sweep import sweep

        sweep(recipe, root, output=output, progress=progress)


def _environment_changes(lock: Lock) -> list[Difference]:
    here = environment()
    return [
        Difference("environment", name, version, here.get(name, "not installed"))
        for name, version in sorted(lock.environment.items())
        if here.get(name) != version
    ]
