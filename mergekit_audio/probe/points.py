"""Compute the points of a table: one model on all tasks with all seeds, skipping what is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import extract
from mergekit_audio.probe.ledger import KEY_FIELDS, Ledger
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
        Makes the encoder.
    scale
        λ of a merge.
    weight_average
        Whether this merge is weight averaging.
    """

    name: str
    kind: str
    digest: str
    key: str
    build: Callable[[], nn.Module]
    scale: float | None = None
    weight_average: bool = False


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
    """

    tasks: Sequence[PreparedTask]
    seeds: Sequence[int]
    backbone: Backbone
    ledger: Ledger
    cache: Path
    total: int
    progress: Progress
    done: int = 0

    def run(self, row: ModelRow) -> dict[str, Any]:
        """Score the row on all tasks and seeds and return its part of the summary."""
        for task in self.tasks:
            self._run_task(row, task)

        def point(task: PreparedTask, seed: int) -> dict[str, Any]:
            found = self.ledger.find(row.name, (row.key, task.digest, seed))
            assert found is not None
            return found

        return {
            "name": row.name,
            "kind": row.kind,
            "scale": row.scale,
            "weight_average": row.weight_average,
            "digest": row.digest,
            **summarise_row(point, self.tasks, self.seeds),
        }

    def lines(self, row: ModelRow) -> list[dict[str, Any]]:
        """Return the row's finished points, by task and seed."""
        found = [
            self.ledger.find(row.name, (row.key, task.digest, seed))
            for task in self.tasks
            for seed in self.seeds
        ]
        return [line for line in found if line is not None]

    def _run_task(self, row: ModelRow, task: PreparedTask) -> None:
        data = None
        for seed in self.seeds:
            key = (row.key, task.digest, seed)
            if self.ledger.find(row.name, key) is None:
                twin = self.ledger.find_content(key)
                if twin is None and data is None:
                    data = load_splits(self._features(row, task), task)
                scores = probe(data, task, seed).as_dict() if twin is None and data else twin
                assert scores is not None
                self.ledger.append(_line(row, task, key, scores))
            self.done += 1
            self.progress(
                ProgressEvent("probe", self.done, self.total, f"{row.name} on {task.task.name}")
            )

    def _features(self, row: ModelRow, task: PreparedTask) -> Any:
        def told(event: ProgressEvent) -> None:
            name = f"{event.task} {task.task.name}"
            self.progress(ProgressEvent(name, event.done, event.total, f"{row.name}: {event.note}"))

        try:
            return extract(
                row.key, row.build, self.backbone, task.corpus, task.task.protocol, self.cache, told
            )
        except InputError as error:
            raise InputError(f"{row.name} on {task.task.name}: {error.message}", error.hint) from error


def checkpoint_row(name: str, kind: str, checkpoint: Checkpoint, backbone: Backbone) -> ModelRow:
    """Return the row of a checkpoint; its weights are read only when features are missing."""
    config = require_config(checkpoint)
    digest = checkpoint.digest()
    return ModelRow(
        name=name,
        kind=kind,
        digest=digest,
        key=model_key(digest, config),
        build=lambda: backbone.build(config, checkpoint.state_dict(), training=False),
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
