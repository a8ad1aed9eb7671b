"""Tune several encoders side by side on a CPU: a process of one thread for each."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Empty
from typing import Any

import torch

from mergekit_audio.audio.store import Store
from mergekit_audio.errors import CmergeError, InputError
from mergekit_audio.probe.model_row import ModelRow
from mergekit_audio.probe.points import PointRunner
from mergekit_audio.probe.scoring import ProbeResult
from mergekit_audio.probe.tasks import PreparedTask, prepare_task
from mergekit_audio.probe.tuning_rows import Steps, tuned_rows
from mergekit_audio.recipe.evaluate import EvaluateRecipe
from mergekit_audio.weights.checkpoint import Checkpoint

_SECONDS_BETWEEN_EVENTS = 0.5
_Place = tuple[int, int, int]
"""Row, task and seed of a point, by their index."""
_Answer = ProbeResult | tuple[str, str]
"""A result, or an error's message and hint."""


@contextlib.contextmanager
def side_by_side(
    recipe: EvaluateRecipe,
    root: Path,
    work: Path,
    store: Path,
    rows: Sequence[ModelRow],
    runner: PointRunner,
    workers: int,
) -> Iterator[list[ModelRow]]:
    """Yield the rows so that their missing points are computed by processes of their own.

    With one worker, one missing point or a GPU the rows are as they were. How many processes there
    are never changes a score; points enter the ledger in its own order all the same.

    Parameters
    ----------
    recipe, root
        The recipe and the folder that its paths are relative to.
    work, store
        The folders of work in progress and of prepared audio.
    rows
        What ``tuned_rows`` returned.
    runner
        Knows the tasks, the seeds and the points that are finished.
    workers
        Processes at most.
    """
    places: dict[tuple[str, str, int], _Place] = {
        (row.key, task.digest, seed): (i, j, k)
        for i, row in enumerate(rows)
        for j, task in enumerate(runner.tasks)
        for k, seed in enumerate(runner.seeds)
    }
    missing = {key: place for key, place in places.items() if not runner.is_finished(key)}
    if workers <= 1 or len(missing) <= 1 or torch.cuda.is_available():
        yield list(rows)
        return
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        events = manager.Queue()
        pool = ProcessPoolExecutor(
            min(workers, len(missing)),
            mp_context=context,
            initializer=_open,
            initargs=(recipe.model_dump(mode="json"), root, work, store, events),
        )
        others = set(multiprocessing.active_children())
        try:
            futures = {key: pool.submit(_tune, place) for key, place in missing.items()}
            yield [replace(row, tune=_waiting(row, futures, events)) for row in rows]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        pool.shutdown()


def _waiting(row: ModelRow, futures: dict[Any, Future[_Answer]], events: Any) -> Any:
    """Return a row's ``tune`` that waits for another process and passes on how far all are."""

    def tuned(task: PreparedTask, seed: int, told: Steps) -> ProbeResult:
        future = futures[(row.key, task.digest, seed)]
        while not future.done():
            with contextlib.suppress(Empty):
                told(*events.get(timeout=_SECONDS_BETWEEN_EVENTS))
        answer = future.result()
        if isinstance(answer, tuple):
            raise InputError(*answer)
        return answer

    return tuned


class _Opened:
    """What a process opens once: the rows, and each task when a point first asks for it."""

    def __init__(
        self, recipe: EvaluateRecipe, root: Path, work: Path, store: Path, events: Any
    ) -> None:
        self.recipe, self.root, self.store, self.events = recipe, root, store, events
        checkpoints = [Checkpoint.open(entry.model, root=root) for entry in recipe.models]
        self.rows = tuned_rows(recipe, checkpoints, work)
        self.tasks: dict[int, PreparedTask] = {}

    def task(self, index: int) -> PreparedTask:
        """Return a task; the store holds its audio already."""
        if index not in self.tasks:
            self.tasks[index] = prepare_task(
                self.recipe.tasks[index],
                self.recipe.backbone,
                self.root,
                Store(self.store),
                workers=1,
            )
        return self.tasks[index]


_opened: list[_Opened] = []  # of a worker process: what its initialiser opened


def _open(recipe: dict[str, Any], root: Path, work: Path, store: Path, events: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    torch.set_num_threads(1)
    _opened.append(_Opened(EvaluateRecipe.model_validate(recipe), root, work, store, events))


def _tune(place: _Place) -> _Answer:
    opened = _opened[0]
    row, seed = opened.rows[place[0]], opened.recipe.seeds[place[2]]
    assert row.tune is not None
    last = time.monotonic()

    def told(done: int, count: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_EVENTS:
            last = time.monotonic()
            opened.events.put((done, count))

    try:
        return row.tune(opened.task(place[1]), seed, told)
    except CmergeError as error:
        return error.message, error.hint
