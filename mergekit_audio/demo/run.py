"""The demo: synthetic recordings of five traditions, from audio files to a report."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mergekit_audio import lock
from mergekit_audio.cores import core_count
from mergekit_audio.demo.sizes import (
    CULTURES,
    FULL,
    QUICK,
    QUICK_NOTE,
    RECIPES,
    SETTINGS_NAME,
    DemoSize,
)
from mergekit_audio.demo.training import is_done, train
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, require_free, write_json, write_text
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.load import LoadedRecipe, load
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.recipe.shipped import shipped_recipe
from mergekit_audio.recipe.similarity import SimilarityRecipe
from mergekit_audio.recipe.sweep import SweepRecipe

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class DemoResult:
    """Where the demo's results are.

    Parameters
    ----------
    folder
        The demo's folder: data, recipes, models, results.
    report
        The HTML report.
    summary
        The sweep's ``summary.json``.
    wall_time_s
        Seconds that this call took.
    """

    folder: Path
    report: Path
    summary: dict[str, Any]
    wall_time_s: float


def run_demo(
    folder: Path,
    *,
    quick: bool = False,
    force: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> DemoResult:
    """Run the whole road on synthetic recordings: corpora, base, cultures, merges, sweeps, report.

    Two sweeps: one λ for all cultures, each evaluated directly; then one λ a culture on
    interpolated features, beside what the pre-training loss and the corpora's likeness suggest.
    Whatever is finished is kept: the same call goes on where an earlier one stopped.

    Parameters
    ----------
    folder
        Where everything goes.
    quick
        A small version for continuous integration; its scores mean nothing.
    force
        Start anew when the folder holds anything else or a demo of another size.
    workers
        Processes that train cultures side by side; ``None`` means one a core, at most five.
    progress
        Called with every step.

    Raises
    ------
    InputError
        The folder holds something that is not this demo.
    """
    started = time.monotonic()
    size = QUICK if quick else FULL
    workers = workers or min(core_count(), len(CULTURES) + 1)
    _open_folder(folder, size, force=force)
    recipes = {name: _open_recipe(folder, name, size) for name in RECIPES}
    _write_corpora(folder, size, ("western",), workers, progress)
    train(
        [recipes["base"]],
        1,
        progress,
        meanwhile=lambda: _write_corpora(folder, size, CULTURES, max(1, workers - 1), progress),
    )
    train([recipes[name] for name in ("multi", *CULTURES)], workers, progress)
    _merge(recipes["weight_average"], progress)
    found = {
        "sweep": _sweep(recipes["sweep"], progress),
        "similarity": _compare(recipes["similarity"], progress),
        "landscape": _sweep(recipes["landscape"], progress),
    }
    wall_time_s = time.monotonic() - started
    report = _write_report(folder, size, found, wall_time_s)
    return DemoResult(folder, report, found["sweep"], wall_time_s)


def _open_folder(folder: Path, size: DemoSize, *, force: bool) -> None:
    settings = {"tracks": size.tracks, "duration_s": size.duration_s}
    marker = folder / SETTINGS_NAME
    if force and folder.exists():
        if not marker.is_file() and any(folder.iterdir()):
            raise InputError(
                f"{folder}: holds no {SETTINGS_NAME}, so it is no demo and is left alone",
                "choose another folder",
            )
        shutil.rmtree(folder)
    if marker.is_file():
        if json.loads(marker.read_text(encoding="utf-8")) != settings:
            raise InputError(
                f"{folder}: holds a demo of another size", "add --force, or choose another folder"
            )
        return
    require_free(folder)
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(marker, settings)


def _open_recipe(folder: Path, name: str, size: DemoSize) -> LoadedRecipe:
    """Write a shipped demo recipe beside the data, where its relative paths point, and load it."""
    target = folder / f"{name}.yaml"
    shipped = shipped_recipe(f"demo/{name}")
    changes = size.overrides.get(name, ())
    if not target.exists():
        text = shipped.read_text(encoding="utf-8")
        if changes:
            recipe = load(shipped, changes).recipe.model_dump(mode="json", exclude_unset=True)
            opening = [line for line in text.splitlines() if line.startswith("#")]
            text = "\n".join([*opening, yaml.safe_dump(recipe, sort_keys=False)])
        write_text(target, text)
    return load(target)


def _write_corpora(
    folder: Path, size: DemoSize, cultures: Sequence[str], workers: int, progress: Progress
) -> None:
    from mergekit_audio.datasets.synthetic import Synthetic

    for culture in cultures:
        corpus = Synthetic(culture=culture, tracks=size.tracks, duration_s=size.duration_s)
        corpus.write(folder / "data" / culture, progress=progress, workers=workers)


def _merge(loaded: LoadedRecipe, progress: Progress) -> None:
    from mergekit_audio import merge

    assert isinstance(loaded.recipe, MergeRecipe)
    plan = merge.plan(loaded.recipe, loaded.root)
    merge.run(plan, force=True, progress=progress, command="cmerge merge weight_average.yaml")


def _sweep(loaded: LoadedRecipe, progress: Progress) -> dict[str, Any]:
    from mergekit_audio import sweep

    assert isinstance(loaded.recipe, SweepRecipe)
    if not is_done(loaded):
        command = f"cmerge sweep-lambda {loaded.path.name}"
        sweep.sweep(loaded.recipe, loaded.root, progress=progress, command=command)
    return _summary(loaded)


def _compare(loaded: LoadedRecipe, progress: Progress) -> dict[str, Any]:
    from mergekit_audio import similarity

    assert isinstance(loaded.recipe, SimilarityRecipe)
    if not is_done(loaded):
        planned = similarity.plan(loaded.recipe, loaded.root)
        command = f"cmerge similarity {loaded.path.name}"
        similarity.run(planned, progress=progress, command=command)
    return _summary(loaded)


def _summary(loaded: LoadedRecipe) -> dict[str, Any]:
    path = loaded.root / loaded.recipe.output / SUMMARY_NAME
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _write_report(
    folder: Path, size: DemoSize, found: Mapping[str, dict[str, Any]], wall_time_s: float
) -> Path:
    from mergekit_audio.report.html import write_report
    from mergekit_audio.weights.checkpoint import Checkpoint
    from mergekit_audio.weights.inspect import inspect_geometry

    models = ["base", *CULTURES, "multi", "weight_average", "sweep/best"]
    opened = {name: Checkpoint.open(f"runs/{name}", root=folder) for name in ("base", *CULTURES)}
    base = opened.pop("base")
    return write_report(
        folder / "report.html",
        found["sweep"],
        title="cmerge demo",
        synthetic=True,
        facts={
            "recordings": f"{size.tracks} of {size.duration_s:g} s for each tradition",
            "time of the last call": f"{wall_time_s:.0f} s on {core_count()} CPU cores",
            "models": ", ".join(f"runs/{name}" for name in models),
            "versions": ", ".join(f"{name} {value}" for name, value in lock.environment().items()),
        },
        notes=[QUICK_NOTE] if size is QUICK else [],
        landscape=found["landscape"],
        similarity=found["similarity"],
        geometry=inspect_geometry(base, opened),
        made=lock.read_lock(folder / "runs" / "sweep").model_dump(mode="json"),
    )
