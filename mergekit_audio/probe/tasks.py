"""Turn a task of a recipe into labels, targets and splits, and say what the corpus lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.audio.corpus import Track, load_tracks
from mergekit_audio.audio.store import PreparedCorpus, PreparedTrack, Store
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import SPLITS, probed_tracks
from mergekit_audio.progress import Progress, silent
from mergekit_audio.recipe.evaluate import Task

PROBE_VERSION = 1


@dataclass(frozen=True)
class PreparedTask:
    """A task with its audio prepared and its labels chosen.

    Parameters
    ----------
    task
        The recipe's task.
    corpus
        The prepared corpus.
    labels
        The tags to predict, in the vocabulary's order.
    splits
        Each probed track's split, shape ``[tracks]``.
    targets
        Shape ``[tracks, labels]``.
    digest
        Names the probing problem: tracks, splits, targets, protocol and backbone.
    """

    task: Task
    corpus: PreparedCorpus
    labels: tuple[str, ...]
    splits: NDArray[np.str_]
    targets: NDArray[np.bool_]
    digest: str

    def unscored(self) -> dict[str, dict[str, list[str]]]:
        """Return, for each split, the tags without a positive and without a negative track."""
        found = {}
        for split in SPLITS:
            targets = self.targets[self.splits == split]
            counts = targets.sum(axis=0)
            found[split] = {
                "without_positives": self._named(counts == 0),
                "without_negatives": self._named(counts == len(targets)),
            }
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the scores must know of the task, as plain values."""
        tracks = {split: int((self.splits == split).sum()) for split in SPLITS}
        return {
            "name": self.task.name,
            "western": self.task.western,
            "corpus": self.task.corpus,
            "digest": self.digest,
            "tracks": tracks,
            "without_split": len(self.corpus.tracks) - sum(tracks.values()),
            "without_tags": int((~self.targets.any(axis=1)).sum()),
            "labels": list(self.labels),
            "unscored": self.unscored(),
            "left_out": self.corpus.report.as_dict(),
            "protocol": self.task.protocol.model_dump(mode="json"),
        }

    def _named(self, chosen: NDArray[np.bool_]) -> list[str]:
        return [label for label, named in zip(self.labels, chosen, strict=True) if named]


def plan_task(task: Task, root: Path) -> dict[str, Any]:
    """Return a task's tracks by split as its corpus lists them; no recording is read.

    Raises
    ------
    InputError
        The corpus is missing, its manifest has faults, it has no splits or no tags.
    """
    source = root / task.corpus
    tracks = load_tracks(source)
    _require_splits_and_tags(task, source, tracks)
    counts = Counter(track.split for track in tracks)
    return {
        "name": task.name,
        "corpus": task.corpus,
        "tracks": {split: counts[split] for split in SPLITS},
    }


def prepare_task(
    task: Task,
    backbone: Backbone,
    root: Path,
    store: Store,
    progress: Progress = silent,
    workers: int | None = None,
) -> PreparedTask:
    """Prepare the task's corpus and choose its labels.

    Parameters
    ----------
    task, backbone
        The recipe's task and model family.
    root
        The folder that the corpus's path is relative to.
    store
        The prepared store.
    progress
        Called with every file and track.
    workers
        Threads that decode; ``None`` means torch's number.

    Raises
    ------
    InputError
        The corpus has no splits or no tags, a split is empty, or no tag can be scored in a split.
    """
    source = root / task.corpus
    corpus = store.prepare(
        source,
        sample_rate_hz=backbone.sample_rate_hz,
        workers=torch.get_num_threads() if workers is None else workers,
        progress=progress,
    )
    tracks = probed_tracks(corpus)
    _require_splits_and_tags(task, source, [prepared.track for prepared in corpus.tracks])
    labels = choose_labels([p.track.tags for p in tracks if p.track.split == "train"], task)
    column = {label: index for index, label in enumerate(labels)}
    targets = np.zeros((len(tracks), len(labels)), dtype=bool)
    for row, prepared in enumerate(tracks):
        targets[row, [column[tag] for tag in prepared.track.tags if tag in column]] = True
    splits = np.array([prepared.track.split for prepared in tracks], dtype=np.str_)
    _require_scorable(task, splits, targets)
    return PreparedTask(
        task, corpus, labels, splits, targets, _digest(task, backbone, tracks, labels, targets)
    )


def choose_labels(train_tags: Sequence[Sequence[str]], task: Task) -> tuple[str, ...]:
    """Return the pinned tags, or the training split's most frequent ones (ties alphabetical)."""
    if task.tags is not None:
        return tuple(task.tags)
    counts = Counter(tag for tags in train_tags for tag in tags)
    ranked = sorted(counts, key=lambda tag: (-counts[tag], tag))
    return tuple(ranked[: task.top_tags])


def _require_splits_and_tags(task: Task, source: Path, tracks: Sequence[Track]) -> None:
    found = {track.split for track in tracks}
    if absent := [split for split in SPLITS if split not in found]:
        named = ", ".join(sorted(split or "no split" for split in found)) or "no track at all"
        raise InputError(
            f"{source}: task {task.name!r} needs tracks in the splits train, valid and test; "
            f"none of its {len(tracks)} tracks is in {' or '.join(absent)} (found: {named})",
            "give each row of the manifest a `split` of train, valid or test",
        )
    if not any(track.tags for track in tracks if track.split == "train"):
        raise InputError(
            f"{source}: task {task.name!r} needs tags, and no training track has one",
            "give the rows of the manifest `tags`, such as category--value",
        )


def _require_scorable(task: Task, splits: NDArray[np.str_], targets: NDArray[np.bool_]) -> None:
    for split in SPLITS:
        rows = targets[splits == split]
        counts = rows.sum(axis=0)
        if not ((counts > 0) & (counts < len(rows))).any():
            raise InputError(
                f"task {task.name!r}, the {split} split: none of its {targets.shape[1]} tags has "
                f"both a positive and a negative track among {len(rows)} tracks",
                f"give the {split} split tracks with and without some of these tags",
            )


def _digest(
    task: Task,
    backbone: Backbone,
    tracks: Sequence[PreparedTrack],
    labels: Sequence[str],
    targets: NDArray[np.bool_],
) -> str:
    described = {
        "version": PROBE_VERSION,
        "backbone": backbone.model_dump(mode="json"),
        "protocol": task.protocol.model_dump(mode="json"),
        "labels": list(labels),
        "tracks": [
            [prepared.track.id, prepared.track.split, prepared.digest, np.flatnonzero(row).tolist()]
            for prepared, row in zip(tracks, targets, strict=True)
        ],
    }
    return sha256_of_text(canonical_json(described))
