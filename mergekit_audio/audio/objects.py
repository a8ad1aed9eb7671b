"""The files of the prepared store: how they are named, made whole and found again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.audio.decode import DECODER, RecordingError, decode_blocks
from mergekit_audio.audio.prepared import FULL_SCALE, SAMPLE_DTYPE
from mergekit_audio.files import canonical_json, sha256_of_text, staged_file, write_text

_HASH_BLOCK_BYTES = 1 << 20
_ABANDONED_AFTER_S = 3600.0


class StoppedError(Exception):
    """Another file's error, or Ctrl-C, ended the work."""


@dataclass(frozen=True)
class SourceFile:
    """A recording's file: its stand when it was read, and the sha256 of its bytes.

    The stand is size in bytes, time of writing and time of change in ns: programs can set the time
    of writing back, and no program the time of change.
    """

    path: Path
    stand: tuple[int, int, int]
    sha256: str


@dataclass(frozen=True)
class Sound:
    """Prepared samples: their file, number, sha256, lowest and highest 16-bit value."""

    path: Path
    samples: int
    digest: str
    lowest: int
    highest: int


@dataclass(frozen=True)
class Facts:
    """What the store knows of a window of a recording: its sound, or why there is none."""

    sound: Sound | None = None
    problem: str = ""


def known_source(root: Path, path: Path) -> SourceFile | None:
    """Return what the store remembers of a file; ``None`` when it is new or has changed."""
    try:
        entry = json.loads(_source_path(root, path).read_bytes())
        stand = (entry["size"], entry["mtime_ns"], entry["ctime_ns"])
        known = SourceFile(path, stand, entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if _is_unchanged(known) else None


def read_source(root: Path, path: Path, stop: threading.Event) -> SourceFile | RecordingError:
    """Hash a file and remember it; a file that can't be read is returned as its error."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            stand = _stand(os.fstat(stream.fileno()))
            while block := stream.read(_HASH_BLOCK_BYTES):
                _stop_if(stop)
                digest.update(block)
    except OSError as error:
        return RecordingError(path, f"can't be read ({error.strerror})")
    file = SourceFile(path, stand, digest.hexdigest())
    entry = {
        "path": os.fsencode(os.path.abspath(path)).decode("utf-8", "backslashreplace"),
        **dict(zip(("size", "mtime_ns", "ctime_ns"), file.stand, strict=True)),
        "sha256": file.sha256,
    }
    _write_entry(_source_path(root, path), entry)
    return file


def key_of(sha256: str, start_s: float | None, end_s: float | None, sample_rate_hz: int) -> str:
    """Return the name of a prepared window: sha256 of source, window, rate and decoder."""
    return sha256_of_text(
        canonical_json([sha256, float(start_s or 0.0), end_s, sample_rate_hz, DECODER])
    )


def read_facts(root: Path, key: str) -> Facts | None:
    """Return what the store knows under a key; ``None`` when the window must be decoded."""
    path = _object_path(root, key)
    try:
        entry = json.loads(path.with_suffix(".json").read_bytes())
        if "problem" in entry:
            return Facts(problem=str(entry["problem"]))
        sound = Sound(path, entry["samples"], entry["digest"], entry["lowest"], entry["highest"])
        held = path.stat().st_size
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Facts(sound) if held == sound.samples * SAMPLE_DTYPE.itemsize else None


def make(
    root: Path,
    key: str,
    file: SourceFile,
    window: tuple[float | None, float | None],
    sample_rate_hz: int,
    stop: threading.Event,
) -> Facts:
    """Decode a window into the store, block by block; what is wrong with it is kept as well.

    Raises
    ------
    InputError
        The store can't be written.
    """
    path = _object_path(root, key)
    try:
        sound = _write_sound(path, file, window, sample_rate_hz, stop)
    except RecordingError as error:
        # a disk's failure may pass, what the bytes say does not
        if not isinstance(error.__cause__, OSError) and _is_unchanged(file):
            _write_entry(path.with_suffix(".json"), {"problem": error.problem})
        return Facts(problem=error.problem)
    entry = {name: getattr(sound, name) for name in ("samples", "digest", "lowest", "highest")}
    _write_entry(path.with_suffix(".json"), entry)
    return Facts(sound)


def remove_abandoned(root: Path) -> None:
    """Remove temporary files that no living process can be writing (a killed one left them)."""
    oldest = time.time() - _ABANDONED_AFTER_S
    for partial in sorted((root / "objects").glob("*/.*.partial")):
        with contextlib.suppress(OSError):
            if partial.stat().st_mtime < oldest:
                partial.unlink()


def _write_sound(
    path: Path,
    file: SourceFile,
    window: tuple[float | None, float | None],
    sample_rate_hz: int,
    stop: threading.Event,
) -> Sound:
    digest = hashlib.sha256()
    samples, lowest, highest = 0, 0, 0
    blocks = decode_blocks(
        file.path, sample_rate_hz=sample_rate_hz, start_s=window[0], end_s=window[1]
    )
    with staged_file(path) as staging, open(staging, "wb") as stream:
        for block in blocks:
            _stop_if(stop)
            steps = np.clip(np.rint(block * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE - 1)
            data = steps.astype(SAMPLE_DTYPE)
            if data.size:
                bounds = (int(data.min()), int(data.max()))
                lowest = min(lowest, bounds[0]) if samples else bounds[0]
                highest = max(highest, bounds[1]) if samples else bounds[1]
            samples += data.size
            digest.update(data.data)
            stream.write(data.data)
        if not samples:
            raise RecordingError(file.path, "is too short to be resampled")
        if not _is_unchanged(file):
            raise RecordingError(file.path, "changed while it was read")
    return Sound(path, samples, digest.hexdigest(), lowest, highest)


def _is_unchanged(file: SourceFile) -> bool:
    try:
        return _stand(file.path.stat()) == file.stand
    except OSError:
        return False


def _stand(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _write_entry(path: Path, entry: dict[str, Any]) -> None:
    write_text(path, json.dumps(entry, ensure_ascii=False) + "\n")


def _source_path(root: Path, path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()
    return root / "sources" / name[:2] / f"{name}.json"


def _object_path(root: Path, key: str) -> Path:
    return root / "objects" / key[:2] / f"{key}.pcm"


def _stop_if(stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError
