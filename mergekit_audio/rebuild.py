"""Rebuild an output folder from its lock and compare the bytes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from mergekit_audio.errors import Fault, InputError, RecipeError
from mergekit_audio.files import explain_os_errors
from mergekit_audio.lock import (
    LOCK_NAME,
    Difference,
    Lock,
    LockedInput,
    compare_outputs,
    environment,
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
        A folder that a merge, a training, an evaluation, a sweep, an ablation, a measurement, a
        comparison or the extraction of an adapter wrote.

    Raises
    ------
    InputError
        There is no lock, or the recipe can't run here.
    RecipeError
        The locked recipe is not one of this version.
    """
    folder = Path(folder)
    lock = read_lock(folder)
    _require_one_process(folder, lock)
    if differences := [*verify_recipe(lock), *verify_inputs(folder, lock, progress)]:
        return differences
    changes = _environment_changes(lock)
    for change in changes:
        progress(ProgressEvent("rebuild", 0, 1, str(change)))
    made = _made_again(folder.resolve(), lock, progress)
    differences = compare_outputs(_without_locks(lock.outputs), _without_locks(made.outputs))
    differences += _compare_inputs(lock.inputs, made.inputs)
    return sorted([*differences, *changes]) if differences else []


def _require_one_process(folder: Path, lock: Lock) -> None:
    """Raise ``InputError`` when many processes trained together: one has smaller steps."""
    count = int(lock.environment.get("processes", "1"))
    if count > 1:
        raise InputError(
            f"{folder}: trained by {count} processes together, and a rebuild runs in one",
            f"train it again with as many (torchrun --nproc-per-node={count} -m mergekit_audio …) "
            "into another output, and compare the two locks",
        )


def _without_locks(outputs: Mapping[str, str]) -> dict[str, str]:
    """Leave out the locks of folders inside (a sweep's best merge): they tell another command."""
    return {
        name: digest for name, digest in outputs.items() if PurePosixPath(name).name != LOCK_NAME
    }


def _compare_inputs(locked: Sequence[LockedInput], read: Sequence[LockedInput]) -> list[Difference]:
    """Return the inputs whose content the lock tells otherwise, or that one side does not name."""
    expected, found = ({each.name: each.content_digest for each in side} for side in (locked, read))
    return [
        Difference("input", name, expected.get(name, "not locked"), found.get(name, "not read"))
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]


def _made_again(folder: Path, lock: Lock, progress: Progress) -> Lock:
    with explain_os_errors(folder.parent):
        place = Path(
            tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".rebuild", dir=folder.parent)
        )
    try:
        return _run_again(lock, recipe_root(folder, lock), place / folder.name, progress)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _run_again(lock: Lock, root: Path, output: Path, progress: Progress) -> Lock:
    if lock.kind == "extract-lora":
        return _extracted_again(lock, root, output, progress)
    from mergekit_audio.recipe.ablation import AblationRecipe
    from mergekit_audio.recipe.evaluate import EvaluateRecipe
    from mergekit_audio.recipe.load import from_dict
    from mergekit_audio.recipe.measure import MeasureRecipe
    from mergekit_audio.recipe.merge import MergeRecipe
    from mergekit_audio.recipe.similarity import SimilarityRecipe
    from mergekit_audio.recipe.train import TrainRecipe

    recipe = from_dict(lock.recipe, root)
    if isinstance(recipe, MergeRecipe):
        from mergekit_audio import merge

        return merge.run(merge.plan(recipe, root), output=output, progress=progress)
    if isinstance(recipe, TrainRecipe):
        from mergekit_audio.pretrain import plan, run

        return run(plan(recipe, root), output=output, progress=progress)
    if isinstance(recipe, EvaluateRecipe):
        from mergekit_audio.probe.run import evaluate

        return evaluate(recipe, root, output=output, progress=progress)
    if isinstance(recipe, MeasureRecipe):
        from mergekit_audio import measure

        return measure.run(measure.plan(recipe, root), output=output, progress=progress)
    if isinstance(recipe, SimilarityRecipe):
        from mergekit_audio import similarity

        return similarity.run(similarity.plan(recipe, root), output=output, progress=progress)
    if isinstance(recipe, AblationRecipe):
        from mergekit_audio.sweep.ablations.running import ablation

        return ablation(recipe, root, output=output, progress=progress)
    from mergekit_audio.sweep import sweep

    return sweep(recipe, root, output=output, progress=progress)


def _extracted_again(lock: Lock, root: Path, output: Path, progress: Progress) -> Lock:
    """Extract an adapter again; its settings are no recipe file's, so no loader knows them."""
    from mergekit_audio.merge.extract_lora import extract
    from mergekit_audio.merge.extraction_plan import ExtractSettings, plan_extraction

    try:
        settings = ExtractSettings(**lock.recipe)
    except ValidationError as error:
        faults = [
            Fault(LOCK_NAME, 0, 0, ".".join(map(str, each["loc"])), each["msg"])
            for each in error.errors()
        ]
        raise RecipeError(faults, "the lock is of another version: extract again") from None
    return extract(plan_extraction(settings, root), output=output, progress=progress).lock


def _environment_changes(lock: Lock) -> list[Difference]:
    here = environment()
    return [
        Difference("environment", name, version, here.get(name, "not installed"))
        for name, version in sorted(lock.environment.items())
        if here.get(name) != version
    ]
