"""Compute the points of a table: a model on all tasks with all seeds, skipping finished ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.probe.choosing import CHOICE_FIELDS, Chooser
from mergekit_audio.probe.features import Features, extract, layers_needed
from mergekit_audio.probe.ledger import KEY_FIELDS, Ledger
from mergekit_audio.probe.model_row import ModelRow
from mergekit_audio.probe.parallel import one_core_each, ordered_map
from mergekit_audio.probe.scoring import ProbeResult, probe
from mergekit_audio.probe.splits import load_splits, tracks_of
from mergekit_audio.probe.summary import summarise_row
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.probe.track_scores import SCORES_NAME, Key, TrackScores
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.recipe.protocols import Protocol

SELECTION_NAME = "selection.jsonl"
SETTINGS = ("layer", "learning_rate")

if TYPE_CHECKING:
    from torch import nn


@dataclass
class PointRunner:
    """Scores rows and remembers how far it is.

    Parameters
    ----------
    tasks, seeds, backbone
        What every row is scored on.
    ledger
        Where finished points are kept.
    cache
        The feature cache.
    total
        Points in all.
    progress
        Called after each point.
    workers
        Threads that embed and probe; ``None`` means torch's number. It never changes a score.
    lines
        The finished points, in the order of rows, tasks and seeds.

    Beside the ledger's file stand ``selection.jsonl``, the scores of layers and learning rates that
    were tried, and ``scores``, what each point's probe said of every track.
    """

    tasks: Sequence[PreparedTask]
    seeds: Sequence[int]
    backbone: Backbone
    ledger: Ledger
    cache: Path
    total: int
    progress: Progress
    workers: int | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    @functools.cached_property
    def scores(self) -> TrackScores:
        """What every point's probe said of every track."""
        return TrackScores(self.ledger.path.with_name(SCORES_NAME))

    @functools.cached_property
    def tried(self) -> Ledger:
        """The layers and learning rates that were tried."""
        return Ledger(self.ledger.path.with_name(SELECTION_NAME), CHOICE_FIELDS)

    def run(self, row: ModelRow) -> dict[str, Any]:
        """Score the row on all tasks and seeds and return its part of the summary."""
        workers = torch.get_num_threads() if self.workers is None else self.workers
        build = functools.lru_cache(maxsize=1)(row.encoder.build)
        found: dict[tuple[str, int], dict[str, Any]] = {}
        choices: dict[str, Any] = {}
        with one_core_each():
            for task in self.tasks:
                features = functools.cache(
                    functools.partial(self._features, row, task, build, workers)
                )
                protocol = task.task.protocol
                if protocol.select is not None and row.tune is None:
                    choice = self._choice(row, task, features, workers)
                    choices[task.task.name] = choice
                    update = {field: choice[field] for field in ("layer", "learning_rate")}
                    protocol = protocol.model_copy(update=update)
                for seed, line in self._task_points(row, task, protocol, features, workers):
                    found[(task.task.name, seed)] = line
                    self.lines.append(line)
                    note = f"{row.name} on {task.task.name}, seed {seed}"
                    self.progress(ProgressEvent("probe", len(self.lines), self.total, note))
        scores = summarise_row(
            lambda task, seed: found[(task.task.name, seed)], self.tasks, self.seeds, row.splits
        )
        return {
            "name": row.name,
            "kind": row.kind,
            "scale": row.scale,
            "weight_average": row.weight_average,
            "in_grid": row.in_grid,
            "digest": row.digest,
            "choices": choices,
            **row.facts,
            **scores,
        }

    def _choice(
        self, row: ModelRow, task: PreparedTask, features: Callable[[], Features], workers: int
    ) -> dict[str, Any]:
        def told(done: int, count: int) -> None:
            note = f"{row.name}: {done}/{count} layers and learning rates on {task.task.name}"
            self.progress(ProgressEvent("probe", len(self.lines), self.total, note))

        key = (row.name, row.key, task.digest, self.seeds[0])
        return Chooser(task, features, key, self.tried, workers, told).choose()

    def _task_points(
        self,
        row: ModelRow,
        task: PreparedTask,
        protocol: Protocol,
        features: Callable[[], Features],
        workers: int,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each seed's point: from the file, from a row of the same weights, or a new one."""
        keys: dict[int, Key] = {seed: (row.key, task.digest, seed) for seed in self.seeds}
        missing = [seed for seed, key in keys.items() if self._finished(key) is None]
        scored: Iterator[ProbeResult] = iter(())
        if missing and row.tune is not None:
            scored = (row.tune(task, seed, self._steps_told(row, task, seed)) for seed in missing)
        elif missing:
            data = load_splits(features(), task, protocol)
            scored = ordered_map(
                lambda seed: probe(data, task, seed, protocol, row.splits), missing, workers
            )
        for seed, key in keys.items():
            values = self._finished(key)
            if values is None:
                result = next(scored)
                self.scores.save(key, task, result.predictions)
                values = {**result.as_dict(), **(row.settings or _settings(protocol))}
                values["features"] = None if row.tune is not None else features().facts
            line = _line(row, task, key, values)
            if line != self.ledger.find(row.name, key, task.task.name):
                self.ledger.append(line)
            yield seed, line

    def _steps_told(
        self, row: ModelRow, task: PreparedTask, seed: int
    ) -> Callable[[int, int], None]:
        def told(done: int, count: int) -> None:
            note = f"{row.name} on {task.task.name}, seed {seed}: step {done}/{count}"
            self.progress(ProgressEvent("probe", len(self.lines), self.total, note))

        return told

    def features(
        self,
        row: ModelRow,
        task: PreparedTask,
        build: Callable[[int], nn.Module] | None = None,
        only: NDArray[np.bool_] | None = None,
    ) -> Features:
        """Return the row's features of a task, from the cache or computed now.

        ``build`` may keep the encoder for the next task. ``only`` says which of the probed tracks;
        ``None`` means those that the row is trained and scored on.
        """
        workers = torch.get_num_threads() if self.workers is None else self.workers
        return self._features(row, task, build or row.encoder.build, workers, only)

    def is_finished(self, key: Key) -> bool:
        """Say whether a point of these weights, task and seed is in the ledger."""
        return self._finished(key) is not None

    def _finished(self, key: Key) -> dict[str, Any] | None:
        return self.ledger.find_content(key) if self.scores.has(key) else None

    def _features(
        self,
        row: ModelRow,
        task: PreparedTask,
        build: Callable[[int], nn.Module],
        workers: int,
        only: NDArray[np.bool_] | None = None,
    ) -> Features:
        if row.features is not None:
            return row.features(task)

        def told(event: ProgressEvent) -> None:
            note = f"{row.name}: {event.task} {task.task.name} {event.done}/{event.total}"
            self.progress(ProgressEvent("probe", len(self.lines), self.total, note))

        protocol = task.task.protocol
        try:
            return extract(
                row.encoder,
                task.corpus,
                protocol,
                self.cache,
                told,
                workers,
                layers=layers_needed(protocol),
                build=build,
                only=tracks_of(task, row.splits) if only is None else only,
            )
        except InputError as error:
            raise type(error)(
                f"{row.name} on {task.task.name}: {error.message}", error.hint
            ) from error


def _line(
    row: ModelRow, task: PreparedTask, key: tuple[str, str, int], scores: Mapping[str, Any]
) -> dict[str, Any]:
    described = (*row.splits, "best_epoch", "epochs", "layer_weights", "penalty")
    return {
        "model": row.name,
        "kind": row.kind,
        "scale": row.scale,
        "task": task.task.name,
        **dict(zip(KEY_FIELDS, key, strict=True)),
        **{field: scores[field] for field in described + SETTINGS},
        "selected_on_test": task.is_selected_on_test(),
        "features": scores.get("features"),
        "unscored": task.unscored(),
    }


def _settings(protocol: Protocol) -> dict[str, Any]:
    """Return the layer and learning rate of a probe, the recipe's or those that were chosen."""
    return {field: getattr(protocol, field) for field in SETTINGS}
