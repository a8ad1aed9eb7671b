"""The folder of work in progress beside an output: whose it is, and what in it is finished."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError
from mergekit_audio.files import explain_os_errors, sha256_of_file, write_json

SUFFIX = ".work"
_IDENTITY_NAME = "run.json"
_BUSY_NAME = ".busy"
_WRITTEN_NAME = "written.json"
_DAMAGED = "damaged"
_KEPT_CHECKPOINTS = 2


@contextlib.contextmanager
def open_work(output: Path) -> Iterator[Work]:
    """Yield ``<output>.work/``, made if need be, held by this process alone until the block ends.

    Whole files and folders get their names by renaming, so that a killed process leaves nothing
    that looks finished; leftovers of killed processes are removed first.

    Raises
    ------
    InputError
        Another process trains there, or the folder can't be written.
    """
    folder = output.parent / f"{output.name}{SUFFIX}"
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / _BUSY_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another process is training here",
                "wait for it to end, or choose another output (--set output=…)",
            ) from None
        _remove_leftovers(folder, output)
        work = Work(folder)
        try:
            yield work
        except BaseException:
            work.remove_if_unused()
            raise
    finally:
        os.close(handle)


class Work:
    """The folder of a training in progress.

    Parameters
    ----------
    folder
        ``<output>.work``, existing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def claim(self, identity: Mapping[str, Any], *, anew: bool) -> None:
        """Make sure that what is here belongs to this training, or start anew.

        Parameters
        ----------
        identity
            What decides the training's result, or the part of it that is known by now.
        anew
            Throw away what another training left, instead of refusing.

        Raises
        ------
        InputError
            The work of another training is here.
        """
        path = self.folder / _IDENTITY_NAME
        stored = _read_identity(path)
        different = sorted(
            name for name, value in identity.items() if stored.get(name, value) != value
        )
        if _DAMAGED in stored:
            different = [f"{path.name} is damaged"]
        if different and not anew:
            names = ", ".join(different)
            raise InputError(
                f"{self.folder}: holds the unfinished work of another training; different: {names}",
                "add --force to start anew, run the other recipe to its end, or choose another "
                "output (--set output=…)",
            )
        if different:
            self.clear()
            stored = {}
        merged = dict(sorted({**stored, **identity}.items()))
        if merged != stored:
            write_json(path, merged)

    def claimed(self, name: str) -> Any:
        """Return a part of the identity that the work here was begun with, None when it is new."""
        return _read_identity(self.folder / _IDENTITY_NAME).get(name)

    def holds(self, identity: Mapping[str, Any]) -> bool:
        """Whether the work here was begun with this identity."""
        stored = _read_identity(self.folder / _IDENTITY_NAME)
        return all(name in stored and stored[name] == value for name, value in identity.items())

    def mark_written(self, lock: Path) -> None:
        """Remember the lock of the output that is about to get its name."""
        write_json(self.folder / _WRITTEN_NAME, sha256_of_file(lock))

    def is_written(self, lock: Path) -> bool:
        """Whether this is the lock of the output that this work made."""
        path = self.folder / _WRITTEN_NAME
        if not path.is_file() or not lock.is_file():
            return False
        return bool(json.loads(path.read_text(encoding="utf-8")) == sha256_of_file(lock))

    def remove_if_unused(self) -> None:
        """Remove the folder when nothing in it is worth keeping."""
        if {path.name for path in self.folder.iterdir()} <= {_BUSY_NAME, _IDENTITY_NAME}:
            self.remove()

    def clear(self) -> None:
        """Remove everything but the mark of the process that is here."""
        self._remove_all_but((_BUSY_NAME,))

    def _remove_all_but(self, kept: tuple[str, ...]) -> None:
        for path in sorted(self.folder.iterdir()):
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def remove(self) -> None:
        """Remove the folder: the training is finished.

        What says so goes last, so that a kill on the way costs nothing.
        """
        self._remove_all_but((_BUSY_NAME, _IDENTITY_NAME, _WRITTEN_NAME))
        shutil.rmtree(self.folder)

    def stage(self, index: int, name: str) -> StageFolder:
        """Return the folder of a stage."""
        return StageFolder(self.folder / f"{index + 1}-{name}")


class StageFolder:
    """A stage's checkpoints, its log, and its result once it is finished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def finished(self) -> Path:
        """Where the result stands when the stage is finished: the folder appears complete."""
        return self.folder / "finished"

    @property
    def log(self) -> Path:
        """The stage's log, one JSON object a line."""
        return self.folder / "log.jsonl"

    def checkpoint(self, step: int) -> Path:
        """Return where the checkpoint after a step stands."""
        return self.folder / f"checkpoint-{step}"

    def checkpoints(self) -> list[Path]:
        """Return the complete checkpoints, the earliest first."""
        found = [
            (int(path.name.removeprefix("checkpoint-")), path)
            for path in self.folder.glob("checkpoint-*")
            if path.name.removeprefix("checkpoint-").isdecimal()
        ]
        return [path for _, path in sorted(found)]

    def drop_old_checkpoints(self) -> None:
        """Keep the last two."""
        for path in self.checkpoints()[:-_KEPT_CHECKPOINTS]:
            _remove_folder(path)

    def drop_checkpoints(self) -> None:
        """Keep none: the stage is finished."""
        for path in self.checkpoints():
            _remove_folder(path)


def _remove_folder(path: Path) -> None:
    """Take the name away first, so that a half-removed checkpoint is never mistaken for one."""
    aside = path.with_name(f".{path.name}.partial")
    os.rename(path, aside)
    shutil.rmtree(aside)


def _read_identity(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        value = None
    return value if isinstance(value, dict) else {_DAMAGED: True}


def _remove_leftovers(folder: Path, output: Path) -> None:
    """Remove what killed processes were writing: in the work folder, and beside the output."""
    staged = re.compile(rf"\.{re.escape(output.name)}\.\w{{8}}\.partial")
    beside = [path for path in sorted(output.parent.iterdir()) if staged.fullmatch(path.name)]
    for path in [*sorted(folder.rglob(".*.partial")), *beside]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
