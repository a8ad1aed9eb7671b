"""Map one weight file, safetensors or PyTorch, and hand out its tensors' bits one at a time."""

from __future__ import annotations

import mmap
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.weights._tame_pickle import require_tame
from mergekit_audio.weights.dtypes import STORED, from_torch
from mergekit_audio.weights.header import read_header

if TYPE_CHECKING:
    import torch

FileFormat = Literal["safetensors", "torch"]

Entries = Mapping[str, tuple[str, tuple[int, ...]]]
"""Stored name -> (torch's name of the dtype, shape), sorted by name."""


def open_shard(path: Path, file_format: FileFormat) -> Shard:
    """Read what a file holds, without its values.

    Raises
    ------
    InputError
        The file can't be read, is damaged, or (PyTorch) holds anything but plain tensors.
    """
    try:
        return SafetensorsShard(path) if file_format == "safetensors" else TorchShard(path)
    except OSError as error:
        raise _unreadable(path, error) from error


class Shard(Protocol):
    """One weight file."""

    path: Path
    entries: Entries

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's stored bits by its stored name, mapped from the file."""
        ...


class SafetensorsShard:
    """A safetensors file; each tensor is a mapping of its own, so dropping it frees its pages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = file_stamp(path.stat())
        self._header = read_header(path)
        self.entries: Entries = {
            name: (entry.dtype, entry.shape) for name, entry in self._header.items()
        }

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's bits by its stored name; writing to them does not reach the file.

        Raises
        ------
        InputError
            The file is gone, or another one than the one whose header was read.
        """
        entry = self._header[name]
        before = entry.start % mmap.ALLOCATIONGRANULARITY
        length = entry.end - entry.start
        try:
            with open(self.path, "rb") as stream:
                if file_stamp(os.fstat(stream.fileno())) != self._stamp:
                    raise changed_meanwhile(self.path)
                region = mmap.mmap(
                    stream.fileno(),
                    before + length,
                    access=mmap.ACCESS_COPY,
                    offset=entry.start - before,
                )
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise _unreadable(self.path, error) from error
        data = np.frombuffer(region, dtype=np.uint8, count=length, offset=before)
        holder = STORED[entry.dtype]
        if before % holder.itemsize:
            data = data.copy()  # a header of odd length: arithmetic wants aligned values
        return data.view(holder).reshape(entry.shape)


class TorchShard:
    """A file of ``torch.save`` that holds a flat dictionary of tensors; no code of it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _load_tensors_only(path)
        if not isinstance(content, Mapping) or not content:
            raise InputError(
                f"{path}: expected a dictionary of tensors, found "
                f"{'an empty one' if isinstance(content, Mapping) else type(content).__name__}",
                "save the model's state_dict()",
            )
        self._tensors: dict[str, torch.Tensor] = {}
        for name in sorted(content, key=str):
            _check_tensor(path, name, content[name])
            self._tensors[name] = content[name].detach()
        self.entries: Entries = {
            name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's bits by its stored name."""
        return from_torch(self._tensors[name])[0]


def file_stamp(status: os.stat_result) -> tuple[int, int, int]:
    """Return what tells a file from another one in its place: inode, size, time of writing."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def changed_meanwhile(path: Path) -> InputError:
    """Return the error for a file that is no longer the one that was opened."""
    return InputError(
        f"{path}: changed while it was in use",
        "let what writes it finish, then run the same command again",
    )


def _load_tensors_only(path: Path) -> Any:
    import torch

    with open(path, "rb") as stream:
        start = stream.read(64)
    if not start:
        raise InputError(f"{path}: the file is empty", "download or copy the file again")
    require_tame(path)
    try:
        # Only the zip format of torch >= 1.6 can be mapped; an older file is read into memory.
        is_zip = start.startswith(b"PK\x03\x04")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise _refused(path, error) from error


def _refused(path: Path, error: Exception) -> InputError:
    text = str(error)
    wanted = re.search(r"GLOBAL ([\w.]+)|`([\w.]+)` was not an allowed global", text)
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return InputError(
            f"{path}: refused: loading it would run code ({wanted.group(1) or wanted.group(2)}), "
            "expected plain tensors only",
            "use the model's safetensors file; or, if you trust the file, save its state_dict() "
            "again with safetensors.torch.save_file",
        )
    first = (text.splitlines() or [type(error).__name__])[0]
    return InputError(
        f"{path}: damaged, or not a PyTorch checkpoint of plain tensors ({first[:200]})",
        "download or copy the file again",
    )


def _check_tensor(path: Path, name: Any, value: Any) -> None:
    import torch

    if not isinstance(name, str) or not name or not name.isprintable():
        raise InputError(f"{path}: {name!r} can't be a tensor's name", "save a state_dict()")
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"{path}: {name!r} holds {type(value).__name__}, expected a tensor",
            "save the model's state_dict() alone, as a flat dictionary",
        )
    if value.layout != torch.strided or value.is_quantized or value.is_meta:
        raise InputError(
            f"{path}: tensor {name!r} is sparse, quantised or without values", "save dense tensors"
        )
    if value.numel() == 0:
        raise InputError(
            f"{path}: tensor {name!r}: shape {list(value.shape)} has no elements",
            "save the checkpoint again without it",
        )


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: no such file", "download or copy the checkpoint again")
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path}: can't be read ({reason})", "check the file and its permissions")
