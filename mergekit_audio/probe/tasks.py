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
from mergekit_audio.audio.report import left_out_sentence
from mergekit_audio.audio.store import PreparedCorpus, PreparedTrack, Store
from mergekit_audio.backbones.base import Backbone
from mergekit_audio.errors import InputError
from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import SPLITS, probed_tracks
from mergekit_audio.probe.kinds import ONE_CLASS
from mergekit_audio.probe.targets import require_labelled, tags_without_training, targets_of
from mergekit_audio.probe.task_metrics import METRICS_OF_KIND
from mergekit_audio.progress import Progress, remark, silent
from mergekit_audio.recipe.evaluate import Task, TaskKind

PROBE_VERSION = 2


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
        The tags, classes or values to predict, in the vocabulary's order.
    splits
        Each probed track's split, shape ``[tracks]``.
    targets
        Tags ``[tracks, labels]``, class indices ``[tracks]``, or values ``[tracks, outputs]``.
    digest
        Names the probing problem: tracks, splits, targets, protocol and backbone.
    """

    task: Task
    corpus: PreparedCorpus
    labels: tuple[str, ...]
    splits: NDArray[np.str_]
    targets: NDArray[Any]
    digest: str

    @property
    def metrics(self) -> tuple[str, ...]:
        """What a table shows of the task."""
        return METRICS_OF_KIND[self.task.kind]

    def monitor(self) -> str:
        """Return the validation score that stops a probe's training and that selects."""
        return self.task.protocol.monitor if self.task.kind == "tagging" else self.metrics[0]

    def track_ids(self) -> list[str]:
        """Return the probed tracks' ids, in the order of ``splits`` and ``targets``."""
        return [prepared.track.id for prepared in probed_tracks(self.corpus)]

    def unscored(self) -> dict[str, dict[str, list[str]]]:
        """Return, for each split, the tags, classes or values that can't be scored, by reason."""
        return {
            split: {
                reason: self._named(chosen)
                for reason, chosen in _without_scores(
                    self.task.kind, self.targets[self.splits == split], len(self.labels)
                ).items()
            }
            for split in SPLITS
        }

    def facts(self) -> dict[str, Any]:
        """Return what a reader of the scores must know of the task, as plain values."""
        tracks = {split: int((self.splits == split).sum()) for split in SPLITS}
        return {
            "name": self.task.name,
            "title": self.title(),
            "kind": self.task.kind,
            "metrics": list(self.metrics),
            "western": self.task.western,
            "corpus": self.task.corpus,
            "digest": self.digest,
            "tracks": tracks,
            "without_split": len(self.corpus.tracks) - sum(tracks.values()),
            "without_tags": self._without_tags(),
            "labels": list(self.labels),
            "unscored": self.unscored(),
            "untrained_tags": self._untrained(),
            "left_out": self.corpus.report.as_dict(),
            "protocol": self.task.protocol.model_dump(mode="json"),
            "protocol_statement": self.task.protocol.statement(),
            "selected_on_test": self.is_selected_on_test(),
        }

    def title(self) -> str:
        """Return the task's name as tables show it."""
        return self.task.name + (" (selected on test)" if self.is_selected_on_test() else "")

    def is_selected_on_test(self) -> bool:
        """Say whether layer or learning rate are chosen on the test split, by force."""
        select = self.task.protocol.select
        return select is not None and select.split == "test"

    def _without_tags(self) -> int:
        return int((~self.targets.any(axis=1)).sum()) if self.task.kind == "tagging" else 0

    def _untrained(self) -> list[str]:
        tracks = [prepared.track for prepared in probed_tracks(self.corpus)]
        return tags_without_training(tracks, self.task)

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
    _require_splits(task, source, tracks)
    require_labelled(task, source, tracks)
    counts = Counter(track.split for track in tracks)
    return {
        "name": task.name,
        "kind": task.kind,
        "corpus": task.corpus,
        "tracks": {split: counts[split] for split in SPLITS},
        "protocol": task.protocol.model_dump(mode="json"),
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
        The corpus has no splits or no labels, a split is empty, tracks lack their one class or a
        value, or nothing can be scored in a split.
    """
    source = root / task.corpus
    corpus = store.prepare(
        source,
        sample_rate_hz=backbone.sample_rate_hz,
        workers=torch.get_num_threads() if workers is None else workers,
        progress=progress,
    )
    if left_out := left_out_sentence(corpus.report.as_dict()):
        progress(remark(f"prepare {task.name}", left_out))
    tracks = probed_tracks(corpus)
    _require_splits(task, source, [prepared.track for prepared in corpus.tracks])
    require_labelled(task, source, [prepared.track for prepared in corpus.tracks])
    labels, targets = targets_of(task, source, [prepared.track for prepared in tracks])
    splits = np.array([prepared.track.split for prepared in tracks], dtype=np.str_)
    require_scorable(task, splits, labels, targets)
    return PreparedTask(
        task, corpus, labels, splits, targets, _digest(task, backbone, tracks, labels, targets)
    )


def _without_scores(
    kind: TaskKind, targets: NDArray[Any], labels: int
) -> dict[str, NDArray[np.bool_]]:
    """Return which labels can't be scored on a split's targets, by reason."""
    if kind == "tagging":
        counts = targets.sum(axis=0)
        return {"without_positives": counts == 0, "without_negatives": counts == len(targets)}
    if kind in ONE_CLASS:
        return {"without_tracks": np.bincount(targets, minlength=labels) == 0}
    if kind == "regression":
        return {"constant": targets.min(axis=0) == targets.max(axis=0)}
    return {}


def _require_splits(task: Task, source: Path, tracks: Sequence[Track]) -> None:
    found = {track.split for track in tracks}
    if absent := [split for split in SPLITS if split not in found]:
        named = ", ".join(sorted(split or "no split" for split in found)) or "no track at all"
        raise InputError(
            f"{source}: task {task.name!r} needs tracks in the splits train, valid and test; "
            f"none of its {len(tracks)} tracks is in {' or '.join(absent)} (found: {named})",
            "give each row of the manifest a `split` of train, valid or test",
        )


def require_scorable(
    task: Task,
    splits: NDArray[np.str_],
    labels: Sequence[str],
    targets: NDArray[Any],
    scored: Sequence[str] = SPLITS,
) -> None:
    """Check that something can be scored in each split: tags with both kinds of tracks, values.

    Raises
    ------
    InputError
        Nothing can.
    """
    for split in scored:
        rows = targets[splits == split]
        reasons = _without_scores(task.kind, rows, len(labels))
        if not reasons or not np.logical_or.reduce(list(reasons.values())).all():
            continue
        if task.kind == "tagging":
            raise InputError(
                f"task {task.name!r}, the {split} split: none of its {len(labels)} tags has "
                f"both a positive and a negative track among {len(rows)} tracks",
                f"give the {split} split tracks with and without some of these tags",
            )
        raise InputError(
            f"task {task.name!r}, the {split} split: {', '.join(labels)} never changes over its "
            f"{len(rows)} tracks",
            f"give the {split} split tracks with different values",
        )


def _digest(
    task: Task,
    backbone: Backbone,
    tracks: Sequence[PreparedTrack],
    labels: Sequence[str],
    targets: NDArray[Any],
) -> str:
    described = {
        "version": PROBE_VERSION,
        "backbone": backbone.model_dump(mode="json"),
        "kind": task.kind,
        "protocol": task.protocol.model_dump(mode="json"),
        "labels": list(labels),
        "tracks": [
            [prepared.track.id, prepared.track.split, prepared.digest, _plain(row)]
            for prepared, row in zip(tracks, targets, strict=True)
        ],
    }
    return sha256_of_text(canonical_json(described))


def _plain(target: NDArray[Any]) -> Any:
    """Return a track's target as JSON values; of tags the indices of those that it has."""
    return np.flatnonzero(target).tolist() if target.dtype == bool else target.tolist()
