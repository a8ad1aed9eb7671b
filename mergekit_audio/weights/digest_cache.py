"""Remember the digests of large files between runs, as long as the files are untouched."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.files import staged_file

VARIABLE = "CMERGE_DIGEST_CACHE"
"""The environment variable that names another folder for the memory; empty turns it off."""

_NAME = "digests.json"
_FORMAT = 1
_MOST_FILES = 256
_SETTLED_NS = 2_000_000_000


class DigestCache:
    """Digests by file, valid for one inode, size, time of change and time of modification.

    A file is remembered only when its last change lay two seconds before it was read: otherwise a
    write within the clock's resolution could go unseen. ``cmerge verify`` never asks this memory.
    """

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _NAME
        self._entries: dict[str, Any] = {} if self._path is None else _read(self._path)
        self._started_ns = time.time_ns()
        self._changed = False

    @classmethod
    def of_user(cls) -> DigestCache:
        """Open the memory of this user: ``$XDG_CACHE_HOME/mergekit_audio``, or as VARIABLE says."""
        named = os.environ.get(VARIABLE)
        if named is not None:
            return cls(Path(named) if named else None)
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return cls(Path(cache) / "mergekit_audio")

    def known(self, path: Path) -> Mapping[str, Any]:
        """Return what is remembered of a file as it lies there now; empty when nothing is."""
        entry = self._entries.get(str(path.resolve()))
        if entry is None or entry["stamp"] != _stamp(path):
            return {}
        known: Mapping[str, Any] = entry["known"]
        return known

    def remember(self, path: Path, **facts: Any) -> None:
        """Keep facts about a file, unless it was changed a moment ago."""
        stamp = _stamp(path)
        if self._path is None or max(stamp[3:]) > self._started_ns - _SETTLED_NS:
            return
        known = {**self.known(path), **facts}
        self._entries.pop(str(path.resolve()), None)
        self._entries[str(path.resolve())] = {"stamp": stamp, "known": known}
        self._changed = True

    def save(self) -> None:
        """Write the memory; where that can't be, the next run reads the files again."""
        if self._path is None or not self._changed:
            return
        entries = dict(list({**_read(self._path), **self._entries}.items())[-_MOST_FILES:])
        content = {"format": _FORMAT, "files": entries}
        with contextlib.suppress(Exception), staged_file(self._path) as staging:
            staging.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
        self._changed = False


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """Return the remembered files; a file that is damaged or of another version counts as none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        files = content["files"] if content["format"] == _FORMAT else {}
        well_formed = all(
            isinstance(entry["stamp"], list) and isinstance(entry["known"], dict)
            for entry in files.values()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return files if well_formed else {}
