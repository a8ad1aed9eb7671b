"""What a task asks of each track: tags, one class, a key, a tempo or values; faults name tracks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.audio.corpus import Track, manifests_of
from mergekit_audio.audio.manifest import read_rows
from mergekit_audio.errors import InputError
from mergekit_audio.recipe.evaluate import KEYS, TEMPO_VALUE, Task

MOST_LISTED = 20

_Target = TypeVar("_Target")


class _TrackError(Exception):
    """What is wrong with one track's labels."""


def targets_of(
    task: Task, source: Path, tracks: Sequence[Track]
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """Return the labels of a task and every track's target.

    Parameters
    ----------
    task
        Its kind, and which tags or values it takes.
    source
        The corpus's manifest or folder, for messages.
    tracks
        Those of the splits train, valid and test.

    Returns
    -------
    tuple
        The labels, and tags ``[tracks, labels]``, class indices ``[tracks]`` or values
        ``[tracks, outputs]``.

    Raises
    ------
    InputError
        Tracks have not exactly one of the classes, or lack a value; each is named with its line.
    """
    train = [track for track in tracks if track.split == "train"]
    if task.kind == "tagging":
        labels = choose_labels([track.tags for track in train], task)
        column = {label: index for index, label in enumerate(labels)}
        tags = np.zeros((len(tracks), len(labels)), dtype=bool)
        for row, track in enumerate(tracks):
            tags[row, [column[tag] for tag in track.tags if tag in column]] = True
        return labels, tags
    if task.kind in ("multiclass", "key"):
        labels = KEYS if task.kind == "key" else _classes(train, task)
        index = {label: place for place, label in enumerate(labels)}
        classes = _each(task, source, tracks, lambda track: _one_class(track, index))
        return labels, np.array(classes, dtype=np.int64)
    labels = (TEMPO_VALUE,) if task.kind == "tempo" else _outputs(train, task)
    values = _each(task, source, tracks, lambda track: _values(track, labels))
    return labels, np.array(values, dtype=np.float64)


def require_labelled(task: Task, source: Path, tracks: Sequence[Track]) -> None:
    """Check that a training track has what the task learns: tags, or values.

    Raises
    ------
    InputError
        None has.
    """
    train = [track for track in tracks if track.split == "train"]
    if task.kind in ("tempo", "regression"):
        if any(track.values for track in train):
            return
        what, hint = "values", 'give the rows `values`, such as {"tempo_bpm": 120.5}'
    else:
        if any(track.tags for track in train):
            return
        what, hint = "tags", "give the rows of the manifest `tags`, such as category--value"
    raise InputError(
        f"{source}: task {task.name!r} needs {what}, and no training track has one", hint
    )


def choose_labels(train_tags: Sequence[Sequence[str]], task: Task) -> tuple[str, ...]:
    """Return the pinned tags, or the training split's most frequent ones (ties alphabetical)."""
    if task.tags is not None:
        return tuple(task.tags)
    counts = Counter(tag for tags in train_tags for tag in tags if _is_of(task.category, tag))
    ranked = sorted(counts, key=lambda tag: (-counts[tag], tag))
    return tuple(ranked[: task.top_tags])


def tags_without_training(tracks: Sequence[Track], task: Task) -> list[str]:
    """Return the tags that only other splits have, sorted: they are no labels of the task.

    Pinned tags are labels whatever tracks have, and ``top_tags`` leaves tags out on purpose.
    """
    if task.kind != "tagging" or task.tags is not None or task.top_tags is not None:
        return []
    trained = {tag for track in tracks if track.split == "train" for tag in track.tags}
    found = {tag for track in tracks for tag in track.tags if _is_of(task.category, tag)}
    return sorted(found - trained)


def category_of(label: str) -> str:
    """Return what stands before ``--``, or nothing."""
    return label.partition("--")[0] if "--" in label else ""


def _is_of(category: str | None, tag: str) -> bool:
    return category is None or category_of(tag) == category


def _classes(train: Sequence[Track], task: Task) -> tuple[str, ...]:
    """Return the pinned classes, or those of the training split in alphabetical order."""
    if task.tags is not None:
        return tuple(task.tags)
    return tuple(sorted(choose_labels([track.tags for track in train], task)))


def _outputs(train: Sequence[Track], task: Task) -> tuple[str, ...]:
    if task.values is not None:
        return tuple(task.values)
    return tuple(sorted({name for track in train for name, _ in track.values}))


def _one_class(track: Track, index: dict[str, int]) -> int:
    found = [tag for tag in track.tags if tag in index]
    if len(found) != 1:
        have = f"has {', '.join(found)}" if found else "has none of them"
        others = f" (its tags: {', '.join(track.tags)})" if track.tags and not found else ""
        raise _TrackError(have + others)
    return index[found[0]]


def _values(track: Track, names: Sequence[str]) -> list[float]:
    known = dict(track.values)
    if missing := [name for name in names if name not in known]:
        raise _TrackError(f"has no value {', '.join(missing)}")
    for name in names:
        if not math.isfinite(known[name]) or (name == TEMPO_VALUE and known[name] <= 0):
            raise _TrackError(f"{name} is {known[name]:g}")
    return [float(known[name]) for name in names]


def _each(
    task: Task, source: Path, tracks: Sequence[Track], target: Callable[[Track], _Target]
) -> list[_Target]:
    """Return every track's target, or name all tracks that have none, with their lines."""
    found, faults = [], []
    for track in tracks:
        try:
            found.append(target(track))
        except _TrackError as fault:
            faults.append((track, str(fault)))
    if not faults:
        return found
    places = _places(source)
    lines = [
        f"  {places.get(track.id, str(track.path))}: {track.id}: {problem}"
        for track, problem in faults[:MOST_LISTED]
    ]
    if len(faults) > MOST_LISTED:
        lines.append(f"  and {len(faults) - MOST_LISTED} more")
    needs = {
        "multiclass": "exactly one of its classes",
        "key": "exactly one key, such as `key--C# minor`",
        "tempo": f"a value {TEMPO_VALUE} above 0",
        "regression": "all of its values",
    }[task.kind]
    raise InputError(
        f"{source}: task {task.name!r} needs {needs} of each track, and {len(faults)} of "
        f"{len(tracks)} tracks have not:\n" + "\n".join(lines),
        "correct these rows, or take their `split` away",
    )


def _places(source: Path) -> dict[str, str]:
    """Return ``manifest:line`` of each track by id; nothing for a folder of recordings."""
    return {
        row.fields["id"]: f"{manifest}:{row.line}"
        for manifest in manifests_of(source)
        for row in read_rows(manifest)
    }
