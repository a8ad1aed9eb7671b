"""Keep what each probe said of every track, so that statistics need no training again."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.files import explain_os_errors, sha256_of_text, staged_file
from mergekit_audio.probe.comparison import TaskScores
from mergekit_audio.probe.tasks import PreparedTask

SCORES_NAME = "scores"
SCORED_SPLITS = ("valid", "test")

Key = tuple[str, str, int]
"""The model's key, the task's digest and the seed, as in the ledger."""


class TrackScores:
    """The track scores of finished points, by content, in a folder beside the ledger.

    Parameters
    ----------
    folder
        Of one ``.npz`` for each point.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, key: Key) -> bool:
        """Say whether a point's scores are kept."""
        return self._path(key).is_file()

    def save(
        self, key: Key, task: PreparedTask, predictions: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Write what ``packed_scores`` makes of a point's predictions."""
        self.put(key, packed_scores(task, predictions))

    def put(self, key: Key, packed: bytes) -> None:
        """Write a point's file, from this process or another one, whole or not at all."""
        target = self._path(key)
        with explain_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with staged_file(target) as staging:
                staging.write_bytes(packed)

    def load(self, key: Key, split: str = "test") -> NDArray[np.float64]:
        """Return a point's scores of one split, shape ``[tracks, outputs]``."""
        with np.load(self._path(key), allow_pickle=False) as arrays:
            scores: NDArray[np.float64] = arrays[f"{split}_scores"]
        return scores

    def export(self, folder: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        """Copy the points' files to ``<folder>/scores/<model>--<task>--<seed>.npz``.

        Parameters
        ----------
        folder
            The output.
        lines
            The finished points.
        """
        target = folder / SCORES_NAME
        target.mkdir(parents=True, exist_ok=True)
        for line in lines:
            key = (line["model_key"], line["task_digest"], line["seed"])
            shutil.copyfile(self._path(key), target / file_name(line))

    def of_tasks(
        self, tasks: Sequence[PreparedTask], lines: Sequence[Mapping[str, Any]]
    ) -> list[TaskScores]:
        """Return the test scores of all models on each task, seeds in the order of the lines."""
        return [
            TaskScores(
                name=task.task.name,
                kind=task.task.kind,
                labels=task.labels,
                targets=task.targets[task.splits == "test"],
                scores=self._of_models(task, lines),
                western=task.task.western,
            )
            for task in tasks
        ]

    def _of_models(
        self, task: PreparedTask, lines: Sequence[Mapping[str, Any]]
    ) -> dict[str, NDArray[np.float64]]:
        found: dict[str, list[NDArray[np.float64]]] = {}
        for line in lines:
            if line["task"] == task.task.name:
                key = (line["model_key"], line["task_digest"], line["seed"])
                found.setdefault(line["model"], []).append(self.load(key))
        return {model: np.stack(scores) for model, scores in found.items()}

    def _path(self, key: Key) -> Path:
        return self.folder / f"{sha256_of_text('/'.join(map(str, key)))[:32]}.npz"


def packed_scores(task: PreparedTask, predictions: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Return an ``.npz`` of ``<split>_ids``, ``<split>_scores``, ``<split>_targets``, ``labels``.

    Parameters
    ----------
    task
        Its labels and targets.
    predictions
        Float64, shape ``[tracks, outputs]``, of valid and test (or of valid alone): probabilities,
        logits (``aggregate: mean_logit``) or values.
    """
    ids = np.array(task.track_ids(), dtype=np.str_)
    arrays: dict[str, NDArray[Any]] = {"labels": np.array(task.labels, dtype=np.str_)}
    for split in predictions:
        rows = task.splits == split
        arrays[f"{split}_ids"] = ids[rows]
        arrays[f"{split}_scores"] = predictions[split]
        arrays[f"{split}_targets"] = task.targets[rows]
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def file_name(line: Mapping[str, Any]) -> str:
    """Return ``<model>--<task>--<seed>.npz``.

    In a name other signs than those of file names are replaced, and some of its digest is added, so
    that no two names meet.
    """
    parts = [_plain(str(line["model"])), _plain(str(line["task"])), str(line["seed"])]
    return "--".join(parts) + ".npz"


def _plain(name: str) -> str:
    safe = re.sub(r"[^A-Za-z0-9._+=-]", "_", name)[:80]
    unchanged = safe == name and not name.startswith(".") and "--" not in name
    return safe if unchanged else f"{safe.lstrip('.')}.{sha256_of_text(name)[:8]}"
