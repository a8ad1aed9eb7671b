"""Train the demo's models side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from queue import Empty
from typing import Any

from mergekit_audio import lock
from mergekit_audio.errors import InputError
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.load import LoadedRecipe, load
from mergekit_audio.recipe.train import TrainRecipe


def train(
    recipes: Sequence[LoadedRecipe],
    workers: int,
    progress: Progress,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Train what is missing, side by side in processes, and pass their progress on.

    ``meanwhile`` is work of this process that needs none of the models.
    """
    waiting = [loaded for loaded in recipes if not is_done(loaded)]
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


def is_done(loaded: LoadedRecipe) -> bool:
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
