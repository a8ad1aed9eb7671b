"""Write files and folders whole or not at all, and name their content by sha256."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mergekit_audio.errors import InputError

_HASH_BLOCK_BYTES = 1 << 20
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2


@contextlib.contextmanager
def staged_folder(target: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside ``target``, renamed to ``target`` when the block ends well.

    When the block raises (also on Ctrl-C) the temporary folder is removed and ``target`` stays as
    it was; what a killed process left is removed by the next call. An existing ``target`` that is
    not empty is refused unless ``force``; with ``force`` it is moved aside, replaced, and only then
    removed.

    Raises
    ------
    InputError
        ``target`` exists and ``force`` is not given, or its parent can't be written.
    """
    target = Path(target)
    require_free(target, force=force)
    with contextlib.ExitStack() as stack:
        with explain_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_claimed(target))
            remove_abandoned(target)
            staging = Path(
                tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
            )
            staging.chmod(0o777 & ~_umask())
        yield from _filled(staging, target, force)


def _filled(staging: Path, target: Path, force: bool) -> Iterator[Path]:
    try:
        with explain_os_errors(target), _held(staging):
            yield staging
            require_free(target, force=force)
            _sync_folder(staging)
            _replace_folder(staging, target)
    except InputError as error:  # of a file inside: the user knows its final name
        if str(staging) not in error.message:
            raise
        message = error.message.replace(str(staging), str(target))
        raise type(error)(message, error.hint) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def require_free(target: Path, *, force: bool = False) -> None:
    """Raise ``InputError`` when ``target`` is no empty folder, unless ``force``; a file always."""
    with explain_os_errors(target):
        if not target.exists() and not target.is_symlink():
            return
    if target.exists() and not target.is_dir():
        raise InputError(
            f"{target}: a file lies where the output folder should be",
            "choose another output (--set output=…), or remove the file",
        )
    if target.is_dir() and not any(target.iterdir()):
        return
    if not force:
        raise InputError(
            f"{target}: the output already exists",
            "add --force to replace it, or choose another output (--set output=…)",
        )


def require_outside(target: Path, inputs: Mapping[str, Path]) -> None:
    """Raise ``InputError`` when ``target`` is an input or holds one: it would be replaced.

    Parameters
    ----------
    target
        The output folder.
    inputs
        What is read, or written beside, by a name for people.
    """
    place = Path(target).resolve()
    for name, path in inputs.items():
        found = Path(path).resolve()
        if place == found or place in found.parents:
            raise InputError(
                f"{target}: the output would replace {name} ({path})",
                "choose another output (--set output=…)",
            )


def require_space(target: Path, needed_bytes: int) -> None:
    """Raise ``InputError`` when the disk that ``target`` is to lie on has less space left."""
    place = Path(target).absolute()
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place)
    free_bytes = disk.free
    if disk.total and free_bytes < needed_bytes:
        raise InputError(
            f"{target}: no space left on the device: {needed_bytes / 1e6:,.0f} MB are to be "
            f"written, {free_bytes / 1e6:,.0f} MB are free; nothing was written",
            "free some space, or write somewhere else (--set output=…)",
        )


@contextlib.contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``, renamed to ``target`` when the block ends well."""
    target = Path(target)
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        )
        os.close(handle)
    staging = Path(name)
    try:
        with explain_os_errors(target), _held(staging):
            yield staging
            staging.chmod(0o666 & ~_umask())
            os.replace(staging, target)
    finally:
        staging.unlink(missing_ok=True)


def remove_abandoned(target: Path) -> None:
    """Remove the temporary files and folders of ``target`` that no living process holds."""
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.????????.partial")):
        with contextlib.suppress(OSError), _held(path) as is_abandoned:
            if is_abandoned and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif is_abandoned:
                path.unlink()


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text with Unix line ends through a temporary name."""
    with staged_file(target) as staging:
        staging.write_bytes(text.encode("utf-8"))


def write_json(target: Path, value: Any) -> None:
    """Write JSON, indented by two, keys in the order given, with a final newline."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces; equal values hash equal."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of_text(text: str) -> str:
    """Return the hexadecimal sha256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's bytes, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def start_writing_back(handle: int, start: int, count: int) -> None:
    """Let the system begin to put bytes of a file onto the disk, so that fsync finds little left.

    Nothing is promised by this; where the system has no such call nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        _library().sync_file_range(
            handle, ctypes.c_longlong(start), ctypes.c_longlong(count), _SYNC_FILE_RANGE_WRITE
        )


@contextlib.contextmanager
def explain_os_errors(target: Path) -> Iterator[None]:
    """Turn a full disk, a place that can't be written or a bad path into an ``InputError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{target}: no space left on the device; nothing was kept",
                "free some space, or write somewhere else (--set output=…)",
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise InputError(
                f"{target}: can't write here ({os.strerror(error.errno)})",
                "check the folder's permissions, or write somewhere else (--set output=…)",
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
            raise InputError(
                f"{target}: can't be written ({os.strerror(error.errno)}: {error.filename})",
                "choose another output (--set output=…)",
            ) from error
        raise


@contextlib.contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Lock a path, at the longest as long as this process lives; false when that can't be."""
    handle = os.open(path, os.O_RDONLY)
    try:
        locked = False
        with contextlib.suppress(OSError):  # held by another process, or no locks in this place
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = True
        yield locked
    finally:
        os.close(handle)


@contextlib.contextmanager
def _claimed(target: Path) -> Iterator[None]:
    """Hold the only right to write ``target``, at the longest as long as this process lives."""
    path = target.parent / f".{target.name}.claim"
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InputError(
                f"{target}: another process is writing this output",
                "wait for it, or choose another output (--set output=…)",
            ) from None
        except OSError:  # no locks in this place: nothing can be claimed
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                break
        os.close(handle)  # its holder removed it meanwhile
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Put all that lies in a folder onto the disk, so that a rename can't come before it."""
    for path in [*sorted(folder.rglob("*")), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two paths in one step; false where the system can't."""
    try:
        rename = _library().renameat2
    except (OSError, AttributeError):
        return False
    here = -100  # AT_FDCWD
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), _RENAME_EXCHANGE) == 0)


def _replace_folder(staging: Path, target: Path) -> None:
    """Put the new folder in the old one's place: at any moment one of the two is there."""
    if not target.exists() and not target.is_symlink():
        os.rename(staging, target)
        return
    if _exchange(staging, target):
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    os.rename(target, aside / "old")
    try:
        os.rename(staging, target)
    except BaseException:
        os.rename(aside / "old", target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
