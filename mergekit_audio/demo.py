"""The demo: synthetic recordings of five traditions, from audio files to a report."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import yaml

from mergekit_audio import lock
from mergekit_audio.cores import core_count
from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, require_free, write_json, write_text
from mergekit_audio.progress import Progress, ProgressEvent, silent
from mergekit_audio.recipe.load import LoadedRecipe, load
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.recipe.shipped import shipped_recipe
from mergekit_audio.recipe.sweep import SweepRecipe
from mergekit_audio.recipe.train import TrainRecipe

CULTURES = ("makam", "hindustani", "carnatic", "lyra")
RECIPES = ("base", *CULTURES, "multi", "weight_average", "sweep")
SETTINGS_NAME = "demo.json"


@dataclass(frozen=True)
class DemoSize:
    """How much the demo does.

    Parameters
    ----------
    tracks
        Recordings of each tradition.
    duration_s
        Length of a recording in seconds.
    overrides
        ``key=value`` changes of the shipped demo recipes, by recipe name.
    """

    tracks: int
    duration_s: float
    overrides: dict[str, tuple[str, ...]]


FULL = DemoSize(tracks=300, duration_s=8.0, overrides={})
QUICK = DemoSize(
    tracks=40,
    duration_s=6.0,
    overrides={
        "base": ("stages[0].steps=30",),
        **{name: ("stages[0].steps=4", "stages[1].steps=12") for name in (*CULTURES, "multi")},
        "sweep": ("scales=[0.0, 0.25, 0.5]", "seeds=[0, 1]"),
    },
)

QUICK_NOTE = (
    "The quick demo has too little music and too few steps for its scores to mean anything."
)


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
    """Run the whole road on synthetic recordings: corpora, base, cultures, merges, λ sweep, report.

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
    _train(
        [recipes["base"]],
        1,
        progress,
        meanwhile=lambda: _write_corpora(folder, size, CULTURES, max(1, workers - 1), progress),
    )
    _train([recipes[name] for name in ("multi", *CULTURES)], workers, progress)
    _merge(recipes["weight_average"], progress)
    summary = _sweep(recipes["sweep"], progress)
    wall_time_s = time.monotonic() - started
    report = _write_report(folder, size, summary, wall_time_s)
    return DemoResult(folder, report, summary, wall_time_s)


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


def _is_done(loaded: LoadedRecipe) -> bool:
    """Tell whether a recipe's output is there and was made by this very recipe."""
    output = loaded.root / loaded.recipe.output
    if not (output / lock.LOCK_NAME).is_file():
        return False
    if lock.read_lock(output).recipe_digest != loaded.digest:
        raise InputError(
            f"{output}: was made by another recipe than {loaded.path}",
            "run the demo with --force, or in another folder",
        )
    return True


def _write_corpora(
    folder: Path, size: DemoSize, cultures: Sequence[str], workers: int, progress: Progress
) -> None:
    from mergekit_audio.datasets.synthetic import Synthetic

    for culture in cultures:
        corpus = Synthetic(culture=culture, tracks=size.tracks, duration_s=size.duration_s)
        corpus.write(folder / "data" / culture, progress=progress, workers=workers)


def _train(
    recipes: Sequence[LoadedRecipe],
    workers: int,
    progress: Progress,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Train what is missing, side by side in processes, and pass their progress on.

    ``meanwhile`` is work of this process that needs none of the models.
    """
    waiting = [loaded for loaded in recipes if not _is_done(loaded)]
    if not waiting:
        meanwhile()
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        events = manager.Queue()
        with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context) as pool:
            running = [pool.submit(_train_one, each.path, events) for each in waiting]
            try:
                meanwhile()
                while not all(future.done() for future in running):
                    with contextlib.suppress(Empty):
                        progress(events.get(timeout=0.2))
                    for future in running:
                        if future.done():
                            future.result()  # raises what went wrong, while others still train
            except BaseException:
                for process in multiprocessing.active_children():
                    process.terminate()
                raise


def _train_one(path: Path, events: Any) -> None:
    from mergekit_audio import pretrain

    loaded = load(path)
    recipe = loaded.recipe
    assert isinstance(recipe, TrainRecipe)

    def send(event: ProgressEvent) -> None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            raise SystemExit("the demo was killed; the same command goes on")
        task = f"{recipe.culture}: {event.task}"
        events.put(ProgressEvent(task, event.done, event.total, event.note))

    command = "train-culture" if isinstance(recipe.corpus, str) else "train-multi"
    pretrain.run(
        pretrain.plan(recipe, loaded.root), progress=send, command=f"cmerge {command} {path.name}"
    )


def _merge(loaded: LoadedRecipe, progress: Progress) -> None:
    from mergekit_audio import merge

    assert isinstance(loaded.recipe, MergeRecipe)
    plan = merge.plan(loaded.recipe, loaded.root)
    merge.run(plan, force=True, progress=progress, command="cmerge merge weight_average.yaml")


def _sweep(loaded: LoadedRecipe, progress: Progress) -> dict[str, Any]:
    from mergekit_audio import sweep

    assert isinstance(loaded.recipe, SweepRecipe)
    if not _is_done(loaded):
        sweep.sweep(
            loaded.recipe,
            loaded.root,
            progress=progress,
            command="cmerge sweep-lambda sweep.yaml",
        )
    summary = loaded.root / loaded.recipe.output / "summary.json"
    found: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
    return found


def _write_report(
    folder: Path, size: DemoSize, summary: dict[str, Any], wall_time_s: float
) -> Path:
    from mergekit_audio.report.html import write_report

    models = ["base", *CULTURES, "multi", "weight_average", "sweep/best"]
    return write_report(
        folder / "report.html",
        summary,
        title="cmerge demo",
        synthetic=True,
        facts={
            "recordings": f"{size.tracks} of {size.duration_s:g} s for each tradition",
            "time of the last call": f"{wall_time_s:.0f} s on {core_count()} CPU cores",
            "models": ", ".join(f"runs/{name}" for name in models),
            "versions": ", ".join(f"{name} {value}" for name, value in lock.environment().items()),
        },
        notes=[QUICK_NOTE] if size is QUICK else [],
    )
