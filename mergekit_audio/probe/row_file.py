"""An ``.npy`` array that grows row by row: a killed run goes on behind its last finished row."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.files import explain_os_errors

PART_SUFFIX = ".part"
JOURNAL_SUFFIX = ".journal"
_HEADER_BYTES = 128


class RowFile:
    """Rows written in their order to ``<target>.part``, which becomes ``target`` with the last.

    ``<target>.journal`` holds a line for each batch: the rows finished so far, the checksum of the
    batch's bytes, and notes. A batch whose line is torn or whose bytes are not what was written
    (after a power cut) counts as not there. Made by :func:`open_row_file`.
    """

    def __init__(self, target: Path, handle: int, shape: tuple[int, ...], dtype: str) -> None:
        self.target = target
        self.shape = shape
        self.notes: list[Any] = []
        self._handle = handle
        self._dtype = np.dtype(dtype)
        self._row_bytes = int(np.prod(shape[1:])) * self._dtype.itemsize
        self._journal = _journal(target)
        _allocate(handle, _HEADER_BYTES + shape[0] * self._row_bytes)
        os.pwrite(handle, _header(shape, self._dtype), 0)
        self.rows, kept_bytes = self._finished()
        with open(self._journal, "ab") as stream:
            stream.truncate(kept_bytes)

    def append(self, values: NDArray[Any], notes: list[Any]) -> None:
        """Write the next rows ``[n, …]`` and note them as finished."""
        data = np.ascontiguousarray(values, dtype=self._dtype).tobytes()
        place = _HEADER_BYTES + self.rows * self._row_bytes
        view = memoryview(data)
        while view:
            written = os.pwrite(self._handle, view, place)
            view, place = view[written:], place + written
        self.rows += len(values)
        self.notes += notes
        line = {"rows": self.rows, "crc32": zlib.crc32(data), "notes": notes}
        with open(self._journal, "ab") as stream:
            stream.write((json.dumps(line) + "\n").encode("utf-8"))

    def finish(self) -> None:
        """Put everything onto the disk and give the file its final name."""
        assert self.rows == self.shape[0]
        os.fsync(self._handle)
        with contextlib.suppress(FileNotFoundError):  # another process finished the same bytes
            os.replace(_part(self.target), self.target)
        self._journal.unlink(missing_ok=True)

    def _finished(self) -> tuple[int, int]:
        """Return how many rows are there, and how many bytes of the journal say so."""
        rows = kept_bytes = 0
        try:
            lines = self._journal.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return 0, 0
        for text in lines:
            line = _parsed(text)
            if line is None or not rows < line["rows"] <= self.shape[0]:
                break
            count = (line["rows"] - rows) * self._row_bytes
            data = os.pread(self._handle, count, _HEADER_BYTES + rows * self._row_bytes)
            if zlib.crc32(data) != line["crc32"]:
                break
            rows, kept_bytes = line["rows"], kept_bytes + len(text)
            self.notes += line["notes"]
        return rows, kept_bytes


@contextlib.contextmanager
def open_row_file(target: Path, shape: tuple[int, ...], dtype: str) -> Iterator[RowFile | None]:
    """Yield the file to append to, or ``None`` where another process finished it meanwhile.

    One process writes at a time, others wait for it. A full disk is an error at once, since the
    whole file is asked for first, and leaves nothing behind; after other errors the finished rows
    stay for the next call.

    Parameters
    ----------
    target
        The final name.
    shape, dtype
        Of the whole array.

    Raises
    ------
    InputError
        The disk is full, or the place can't be written.
    """
    part = _part(target)
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with contextlib.suppress(OSError):  # no locks in this place: equal bytes are written twice
            fcntl.flock(handle, fcntl.LOCK_EX)
        if _was_replaced(handle, part):
            yield None
            return
        with explain_os_errors(target):
            try:
                yield RowFile(target, handle, shape, dtype)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    discard(target)
                raise
    finally:
        os.close(handle)


def discard(target: Path) -> None:
    """Remove an unfinished file and its journal."""
    _part(target).unlink(missing_ok=True)
    _journal(target).unlink(missing_ok=True)


def unfinished_rows(target: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
    """Return the finished rows, mapped, of an unfinished file that no process writes, if any."""
    try:
        handle = os.open(_part(target), os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rows = RowFile(target, handle, shape, dtype).rows
    except OSError:
        return None
    finally:
        os.close(handle)
    if not rows:
        return None
    return np.memmap(
        _part(target), dtype=dtype, mode="r", offset=_HEADER_BYTES, shape=(rows, *shape[1:])
    )


def _allocate(handle: int, size: int) -> None:
    """Ask for the whole file at once, where the system can; elsewhere only say how long it is."""
    try:
        os.posix_fallocate(handle, 0, size)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(handle, size)


def _was_replaced(handle: int, part: Path) -> bool:
    """Tell whether the file that was waited for has got its final name meanwhile."""
    try:
        return not os.path.samestat(os.fstat(handle), os.stat(part))
    except FileNotFoundError:
        return True


def _header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """Return the header of numpy's format 1.0, padded to a fixed length."""
    described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    text = repr(described).ljust(_HEADER_BYTES - 11) + "\n"
    assert len(text) == _HEADER_BYTES - 10
    return np.lib.format.magic(1, 0) + len(text).to_bytes(2, "little") + text.encode("ascii")


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text) if text.endswith(b"\n") else None
    except ValueError:
        return None
    fields = {"rows", "crc32", "notes"}
    return line if isinstance(line, dict) and fields <= line.keys() else None


def _part(target: Path) -> Path:
    return target.with_name(target.name + PART_SUFFIX)


def _journal(target: Path) -> Path:
    return target.with_name(target.name + JOURNAL_SUFFIX)
