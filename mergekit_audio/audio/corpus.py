"""What recordings a corpus holds: a folder of audio, or a manifest in JSONL or CSV."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergekit_audio.audio.foreign import split_files
from mergekit_audio.audio.integrity import READABLE_SUFFIXES
from mergekit_audio.audio.manifest import Row, read_rows
from mergekit_audio.errors import InputError
from mergekit_audio.files import write_text

MANIFEST_NAMES = ("manifest.jsonl", "manifest.csv")
OTHER_AUDIO_SUFFIXES = (".aac", ".aif", ".aifc", ".aiff", ".ape", ".caf", ".m4a", ".wma", ".wv")
"""Not readable, but taken from a folder all the same, so that the report names them."""


@dataclass(frozen=True)
class Track:
    """One recording, or a window of one.

    Parameters
    ----------
    id
        Its name in the corpus.
    path
        The audio file.
    split
        ``train``, ``valid``, ``test`` or nothing.
    tags
        Labels, such as ``makam--hicaz``.
    duration_s
        As the manifest says.
    start_s, end_s
        The window in seconds of the file; ``None`` means its beginning and its end.
    artist
        Who plays, as the manifest says.
    values
        Named numbers for regression and tempo, such as ``tempo_bpm``, sorted by name.
    """

    id: str
    path: Path
    split: str | None = None
    tags: tuple[str, ...] = ()
    duration_s: float | None = None
    start_s: float | None = None
    end_s: float | None = None
    artist: str | None = None
    values: tuple[tuple[str, float], ...] = ()


def load_tracks(source: Path) -> list[Track]:
    """Return the tracks of a folder or of a manifest, sorted by id.

    A folder that holds ``manifest.jsonl`` or ``manifest.csv`` means that manifest; any other folder
    is searched with its sub-folders for audio files, hidden ones left out, and a file's id is its
    path in the folder without the suffix (with it, where two files would share an id). MARBLE's
    files ``X.train.jsonl``, ``X.val.jsonl`` and ``X.test.jsonl`` are one corpus, named by their
    folder or, where it holds several, by ``folder/X``.

    Raises
    ------
    InputError
        The source is missing, holds no audio, or its manifest has faults; all of them are listed,
        one a line, as ``file:line: column: problem``.
    """
    source = Path(source)
    manifests = manifests_of(source)
    if manifests:
        return _from_manifests(source, manifests)
    if source.is_dir():
        return _from_folder(source)
    raise InputError(
        f"{source}: no such file or folder",
        "expected a folder of recordings, or a manifest (.jsonl or .csv)",
    )


def manifests_of(source: Path) -> list[Path]:
    """Return the manifests that a source means, in order; none for a folder of recordings.

    Raises
    ------
    InputError
        A folder holds several corpora.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        return split_files(source.parent).get(source.name, [])
    manifests = [source / name for name in MANIFEST_NAMES if (source / name).is_file()]
    if len(manifests) > 1:
        raise InputError(
            f"{source}: holds both {MANIFEST_NAMES[0]} and {MANIFEST_NAMES[1]}",
            "name the one that you mean",
        )
    corpora = {} if manifests else split_files(source)
    if len(corpora) > 1:
        raise InputError(
            f"{source}: holds the manifests of {', '.join(corpora)}",
            f"name the one that you mean, such as {source / next(iter(corpora))}",
        )
    return manifests or next(iter(corpora.values()), [])


def write_manifest(path: Path, tracks: Iterable[Track]) -> None:
    """Write a JSONL manifest, sorted by id, with paths relative to it and without empty fields."""
    path = Path(path)
    lines = []
    for track in sorted(tracks, key=lambda track: track.id):
        relative = os.path.relpath(track.path, path.parent).replace(os.sep, "/")
        fields: dict[str, Any] = {
            "id": track.id,
            "path": relative,
            "split": track.split,
            "tags": list(track.tags) or None,
            "duration_s": track.duration_s,
            "start_s": track.start_s,
            "end_s": track.end_s,
            "artist": track.artist,
            "values": dict(sorted(track.values)) or None,
        }
        row = {name: value for name, value in fields.items() if value is not None}
        lines.append(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(path, "".join(lines))


def _from_manifests(source: Path, manifests: Sequence[Path]) -> list[Track]:
    """Return the tracks of manifests that are one corpus; the faults of all are listed."""
    tracks: dict[str, Track] = {}
    faults: list[InputError] = []
    repeated: list[str] = []
    for manifest in manifests:
        try:
            rows = read_rows(manifest)
        except InputError as error:
            faults.append(error)
            continue
        for row in rows:
            track = _track(row, manifest.parent)
            if track.id in tracks:
                there = tracks[track.id].split
                repeated.append(f"{manifest}:{row.line}: id: {track.id!r} is in {there} already")
            tracks[track.id] = track
    if faults or repeated:
        hint = faults[0].hint if faults else "each recording may stand in one split only"
        raise InputError("\n".join([*(fault.message for fault in faults), *repeated]), hint)
    return [tracks[name] for name in sorted(tracks)]


def _track(row: Row, folder: Path) -> Track:
    fields = dict(row.fields)
    return Track(path=folder / fields.pop("path"), **fields)


def _from_folder(folder: Path) -> list[Track]:
    paths = _audio_files(folder)
    if not paths:
        raise InputError(
            f"{folder}: holds no audio files ({', '.join(READABLE_SUFFIXES)})",
            "name a folder of recordings, or a manifest (.jsonl or .csv)",
        )
    stems = [path.relative_to(folder).with_suffix("") for path in paths]
    shared = Counter(stems)
    tracks = [
        Track(id=printable(path.relative_to(folder) if shared[stem] > 1 else stem), path=path)
        for path, stem in zip(paths, stems, strict=True)
    ]
    return sorted(tracks, key=lambda track: track.id)


def printable(path: Path) -> str:
    """Return a path as text with ``/``; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def from_printable(text: str) -> Path:
    r"""Return the path that ``printable`` wrote: ``\xff`` is a byte again."""
    data = re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode("utf-8"))
    return Path(os.fsdecode(data))


def _audio_files(folder: Path) -> list[Path]:
    """Return the audio files below a folder; links to folders are followed, loops are not."""
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in READABLE_SUFFIXES + OTHER_AUDIO_SUFFIXES and not name.startswith("."):
                found.append(Path(parent) / name)
    return found
