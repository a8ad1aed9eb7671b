"""Find test tracks that training has heard: shared artists and recordings, pre-training audio."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mergekit_audio.audio.corpus import from_printable, load_tracks
from mergekit_audio.audio.prepared import PreparedTrack
from mergekit_audio.errors import InputError
from mergekit_audio.lock import LOCK_NAME, Lock, LockedInput, read_lock, recipe_root

SPLIT_PAIRS = (("train", "test"), ("train", "valid"), ("valid", "test"))
TRAINED_ON = ("corpus.", "replay")
"""How a training's lock names the corpora that it learned from."""

MANIFEST_SUFFIXES = (".jsonl", ".csv")
MUSICBRAINZ_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
"""Names a recording wherever it lies and however it was encoded."""


@dataclass(frozen=True, order=True)
class Leak:
    """Something that two splits share, or a model's training and a test split.

    Parameters
    ----------
    task
        The probing task.
    kind
        ``artist``: the same artist; ``recording``: windows of one file, or the same samples;
        ``training``: recordings that a model was trained on.
    first, second
        The splits; of ``training`` the model's name and ``test``.
    shared
        The artists, or the second split's tracks, sorted.
    tracks
        How many tracks of the second split are concerned.
    of
        How many tracks that split has.
    """

    task: str
    kind: Literal["artist", "recording", "training"]
    first: str
    second: str
    shared: tuple[str, ...]
    tracks: int
    of: int


def split_leaks(task: str, tracks: Sequence[PreparedTrack]) -> list[Leak]:
    """Return what the splits of one corpus share: artists, and recordings.

    Tracks share a recording when they are cut from one file, whatever their windows, have the same
    samples, or the same MusicBrainz id in their names.

    Parameters
    ----------
    task
        The task's name.
    tracks
        Of all splits.
    """
    leaks = []
    for first, second in SPLIT_PAIRS:
        before = [each for each in tracks if each.track.split == first]
        after = [each for each in tracks if each.track.split == second]
        known_artists = {each.track.artist for each in before if each.track.artist}
        again = [each for each in after if each.track.artist in known_artists]
        if again:
            artists = sorted({each.track.artist or "" for each in again})
            leaks.append(
                Leak(task, "artist", first, second, tuple(artists), len(again), len(after))
            )
        known = {mark for each in before for mark in _recordings(each)}
        again = [each for each in after if known.intersection(_recordings(each))]
        if again:
            ids = tuple(sorted(each.track.id for each in again))
            leaks.append(Leak(task, "recording", first, second, ids, len(again), len(after)))
    return leaks


def training_leaks(
    task: str, model: str, trained: Mapping[str, str], tested: Mapping[str, Sequence[str]]
) -> list[Leak]:
    """Return the test tracks that a model was trained on, as one finding or none.

    Parameters
    ----------
    task, model
        Their names.
    trained
        The recordings that the model learned from, by sha256 and by MusicBrainz id.
    tested
        Each test track's sha256 and MusicBrainz id, where it has one, by track id.
    """
    heard = tuple(
        sorted(name for name, marks in tested.items() if any(mark in trained for mark in marks))
    )
    if not heard:
        return []
    return [Leak(task, "training", model, "test", heard, len(heard), len(tested))]


def find_leakage(
    tasks: Iterable[tuple[str, Sequence[PreparedTrack]]],
    models: Iterable[tuple[str, Path]],
    inputs: Iterable[LockedInput],
    root: Path,
) -> dict[str, Any]:
    """Return all findings of an evaluation as plain values for its summary.

    Parameters
    ----------
    tasks
        Each task's name and probed tracks.
    models
        Each model's name and folder.
    inputs
        The lock's entries of the tasks' corpora, which hold the files' sha256.
    root
        The folder that the entries' sources are relative to.

    Returns
    -------
    dict
        ``findings``, each a ``Leak``, and ``unknown_training``: models that no lock tells the
        training of.
    """
    digests = _digests_of_files(inputs, root)
    training = {name: training_recordings(folder) for name, folder in models}
    leaks = []
    for task, tracks in tasks:
        leaks += split_leaks(task, tracks)
        tested = {
            each.track.id: (
                digests.get(os.path.realpath(each.track.path), ""),
                *_musicbrainz_ids(each.track.id),
            )
            for each in tracks
            if each.track.split == "test"
        }
        for name, trained in training.items():
            leaks += training_leaks(task, name, trained or {}, tested)
    return {
        "findings": [{**asdict(leak), "shared": list(leak.shared)} for leak in leaks],
        "unknown_training": [name for name, trained in training.items() if trained is None],
    }


def training_recordings(folder: Path) -> dict[str, str] | None:
    """Return what a model learned from: names by sha256 and MusicBrainz id, after its locks.

    The lock of a training names its corpora; those of merges, and of trainings that began from
    another model, lead on to the locks of the models that went in. Of a corpus with splits only the
    training split counts while its manifest can be read, else all of it.

    Parameters
    ----------
    folder
        The model.

    Returns
    -------
    dict or None
        ``None`` where no lock leads to any training.
    """
    found: dict[str, str] = {}
    told, waiting, seen = False, [Path(folder).resolve()], set()
    while waiting:
        place = waiting.pop()
        if place in seen or not (place / LOCK_NAME).is_file():
            continue
        seen.add(place)
        try:
            lock = read_lock(place)
        except InputError:
            continue  # written by another version: as good as none
        root = recipe_root(place, lock)
        for entry in lock.inputs:
            if lock.kind == "train" and entry.name.startswith(TRAINED_ON):
                told = True
                found |= _trained_files(lock, entry, root)
            elif (root / entry.source).is_dir():
                waiting.append((root / entry.source).resolve())
    return found if told else None


def _trained_files(lock: Lock, entry: LockedInput, root: Path) -> dict[str, str]:
    """Return names by sha256 and id of a locked corpus's recordings, other splits left out."""
    corpus = entry.name.removesuffix(" (recordings)")
    source = next(each.source for each in lock.inputs if each.name == corpus)
    files = {
        os.path.realpath(path): (digest, name)
        for path, digest, name in _paths_of_files(entry, root)
        if path.suffix not in MANIFEST_SUFFIXES
    }
    try:
        tracks = load_tracks(root / source)
    except InputError:
        return {digest: f"{corpus}: {name}" for digest, name in files.values()}
    has_splits = any(track.split for track in tracks)
    found: dict[str, str] = {}
    for track in tracks:
        known = files.get(os.path.realpath(track.path))
        if known is not None and (not has_splits or track.split == "train"):
            for mark in (known[0], *_musicbrainz_ids(track.id)):
                found[mark] = f"{corpus}: {known[1]}"
    return found


def _digests_of_files(inputs: Iterable[LockedInput], root: Path) -> dict[str, str]:
    return {
        os.path.realpath(path): digest
        for entry in inputs
        for path, digest, _ in _paths_of_files(entry, root)
    }


def _paths_of_files(entry: LockedInput, root: Path) -> list[tuple[Path, str, str]]:
    place = root / entry.source
    folder = place if place.is_dir() else place.parent
    return [(folder / from_printable(name), digest, name) for name, digest in entry.files.items()]


def _recordings(prepared: PreparedTrack) -> tuple[str, ...]:
    path = os.path.realpath(prepared.track.path)
    return path, prepared.digest, *_musicbrainz_ids(prepared.track.id)


def _musicbrainz_ids(name: str) -> list[str]:
    return [found.lower() for found in MUSICBRAINZ_ID.findall(name)]
