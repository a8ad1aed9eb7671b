"""Compute the points of a table: a model on all tasks with all seeds, skipping finished ones."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import Features, extract
from mergekit_audio.probe.ledger import KEY_FIELDS, Ledger
from mergekit_audio.probe.parallel import one_core_each, ordered_map
from mergekit_audio.probe.scoring import load_splits, probe
from mergekit_audio.probe.summary import summarise_row
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.progress import Progress, ProgressEvent
from mergekit_audio.weights.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelRow:
    """One row of results.

    Parameters
    ----------
    name
        The row's name, unique in a table.
    kind
        ``model``, ``base``, ``culture``, ``compare`` or ``merge``.
    digest
        The digest of the weights.
    key
        The digest of weights and config: what features depend on.
    build
        Makes the encoder; called at most once.
    scale
        λ of a merge, 0 for a sweep's base.
    weight_average
        Whether this row is weight averaging.
    in_grid
        Whether this row is a point of the λ curve.
    """

    name: str
    kind: str
    digest: str
    key: str
    build: Callable[[], nn.Module]
    scale: float | None = None
    weight_average: bool = False
    in_grid: bool = False


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

    def run(self, row: ModelRow) -> dict[str, Any]:
        """Score the row on all tasks and seeds and return its part of the summary."""
        workers = torch.get_num_threads() if self.workers is None else self.workers
        build = functools.cache(row.build)
        found: dict[tuple[str, int], dict[str, Any]] = {}
        with one_core_each():
            for task in self.tasks:
                for seed, line in self._task_points(row, task, build, workers):
                    found[(task.task.name, seed)] = line
                    self.lines.append(line)
                    note = f"{row.name} on {task.task.name}, seed {seed}"
                    self.progress(ProgressEvent("probe", len(self.lines), self.total, note))
        scores = summarise_row(
            lambda task, seed: found[(task.task.name, seed)], self.tasks, self.seeds
        )
        return {
            "name": row.name,
            "kind": row.kind,
            "scale": row.scale,
            "weight_average": row.weight_average,
            "in_grid": row.in_grid,
            "digest": row.digest,
            **scores,
        }

    def _task_points(
        self, row: ModelRow, task: PreparedTask, build: Callable[[], nn.Module], workers: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield each seed's point: from the file, from a row of the same weights, or a new one."""
        keys = {seed: (row.key, task.digest, seed) for seed in self.seeds}
        missing = [seed for seed, key in keys.items() if self.ledger.find_content(key) is None]
        scored: Iterator[dict[str, Any]] = iter(())
        if missing:
            data = load_splits(self._features(row, task, build, workers), task)
            scored = ordered_map(lambda seed: probe(data, task, seed).as_dict(), missing, workers)
        for seed, key in keys.items():
            line = self.ledger.find(row.name, key)
            if line is None:
                line = _line(row, task, key, self.ledger.find_content(key) or next(scored))
                self.ledger.append(line)
            yield seed, line

    def _features(
        self, row: ModelRow, task: PreparedTask, build: Callable[[], nn.Module], workers: int
    ) -> Features:
        def told(event: ProgressEvent) -> None:
            note = f"{row.name}: {event.task} {task.task.name} {event.done}/{event.total}"
            self.progress(ProgressEvent("probe", len(self.lines), self.total, note))

        protocol = task.task.protocol
        try:
            return extract(
                row.key, build, self.backbone, task.corpus, protocol, self.cache, told, workers
            )
        except InputError as error:
            raise InputError(
                f"{row.name} on {task.task.name}: {error.message}", error.hint
            ) from error


def checkpoint_row(
    name: str,
    kind: str,
    checkpoint: Checkpoint,
    backbone: Backbone,
    *,
    scale: float | None = None,
    in_grid: bool = False,
) -> ModelRow:
    """Return the row of a checkpoint; its weights are read only when features are missing."""
    config = require_config(checkpoint)
    digest = checkpoint.digest()
    return ModelRow(
        name=name,
        kind=kind,
        digest=digest,
        key=model_key(digest, config),
        build=lambda: backbone.build(config, checkpoint.state_dict(), training=False),
        scale=scale,
        in_grid=in_grid,
    )


def model_key(digest: str, config: Mapping[str, Any]) -> str:
    """Return the digest of weights and config together."""
    return sha256_of_text(canonical_json({"weights": digest, "config": dict(config)}))


def require_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's ``config.json``, or raise ``InputError`` when it has none."""
    if checkpoint.config is None:
        raise InputError(
            f"{checkpoint.folder}: no config.json, so the encoder can't be built",
            "put the model's config.json beside its weights",
        )
    return checkpoint.config


def _line(
    row: ModelRow, task: PreparedTask, key: tuple[str, str, int], scores: Mapping[str, Any]
) -> dict[str, Any]:
    described = ("valid", "test", "best_epoch", "epochs", "layer_weights")
    return {
        "model": row.name,
        "kind": row.kind,
        "scale": row.scale,
        "task": task.task.name,
        **dict(zip(KEY_FIELDS, key, strict=True)),
        **{field: scores[field] for field in described},
        "unscored": task.unscored(),
    }
