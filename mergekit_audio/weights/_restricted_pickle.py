"""Read a file of ``torch.save`` without running anything of it: tensors stay, objects become inert.

Every name that the pickle asks for is looked up in this module's own tables. Settings objects
(``argparse.Namespace``, ``omegaconf.*``, ``fairseq.*``) become placeholders; any name that
is not in the tables ends the reading, and nothing is ever imported.
"""

from __future__ import annotations

import io
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.weights._pickle_machine import Function, ordered_dict, run_program
from mergekit_audio.weights._pickled_tensor import (
    DAMAGED,
    PickledStorage,
    rebuild_parameter,
    rebuild_tensor,
)
from mergekit_audio.weights._placeholder import PlaceholderClass, shown
from mergekit_audio.weights.dtypes import STORED

ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
PROGRAM_LIMIT = 1 << 24

_STORAGE_DTYPES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# Classes of these packages are settings and dictionaries; MERT's own code is a fairseq user_dir.
_SETTINGS_MODULE = re.compile(r"(omegaconf|fairseq|fairseq_cli|examples|hydra|mert\w*)(\.\w+)*")
_FUNCTIONS = {
    ("torch._utils", "_rebuild_tensor_v2"): Function(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function(rebuild_parameter),
    ("collections", "OrderedDict"): Function(ordered_dict),
}
_INERT = {
    ("argparse", "Namespace"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "Size"),
    ("torch", "device"),
    ("typing", "Any"),
    ("typing", "Dict"),
    ("typing", "List"),
    ("typing", "Optional"),
    ("typing", "Tuple"),
    ("typing", "Union"),
} | {
    (module, name)
    for module in ("builtins", "__builtin__")
    for name in (
        *("object", "dict", "list", "tuple", "set", "frozenset"),
        *("int", "float", "complex", "bool", "str", "bytes"),
    )
}


def read_pickled(path: Path) -> Any:
    """Return what a file of ``torch.save`` holds, tensors as ``PickledTensor``.

    Parameters
    ----------
    path
        A file in the zip format of torch >= 1.6 or in the older one.

    Raises
    ------
    InputError
        The file can't be read, is damaged, or asks for a name that is not of the settings objects
        that fairseq saves: the name is in the message, and nothing was run.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(len(ZIP_START))
        return _read_zip(path) if start == ZIP_START else _read_legacy(path)
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror or error})",
            "check the file and its permissions",
        ) from error
    except InputError:
        raise
    except Exception as error:  # a damaged pickle can raise anything, MemoryError too
        first = shown((str(error).splitlines() or [""])[0], 200)
        raise InputError(
            f"{path}: damaged, or not a file of torch.save ({type(error).__name__}: {first})",
            DAMAGED,
        ) from error


def pickle_bytes(path: Path) -> bytes:
    """Return the pickled part of a file of ``torch.save``, unread; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(ZIP_START)) != ZIP_START:
                stream.seek(0)
                return stream.read(PROGRAM_LIMIT)
        with zipfile.ZipFile(path) as archive:
            return content_of(archive, _entry(archive, path), PROGRAM_LIMIT)
    except Exception:  # a damaged archive can raise anything
        return b""  # whoever reads the file says what is wrong with it


@dataclass(frozen=True)
class _StorageType:
    dtype: str


class _Reader:
    """Reads the pickles of one file; what they name is looked up here.

    Parameters
    ----------
    path
        The file, for messages.
    storages
        Returns a storage by key, dtype and count.
    """

    def __init__(self, path: Path, storages: Callable[[str, str, int], PickledStorage]) -> None:
        self._path = path
        self._storages = storages

    def read(self, stream: Any) -> Any:
        """Return what the pickle at the stream's place holds."""
        return run_program(stream, self._find, self._storage)

    def _find(self, module: str, name: str) -> Any:
        """Return what stands for a global name; nothing is imported."""
        if (module, name) in _FUNCTIONS:
            return _FUNCTIONS[module, name]
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        settings = _SETTINGS_MODULE.fullmatch(module) and name.isidentifier()
        if settings or (module, name) in _INERT:
            return PlaceholderClass(f"{module}.{name}")
        raise InputError(
            f"{self._path}: refused: it asks for {shown(f'{module}.{name}')}, which loading would "
            "run; nothing was run. Expected tensors and fairseq's settings",
            "don't use this file unless you know who made it; safetensors files hold no code",
        )

    def _storage(self, identity: Any) -> PickledStorage:
        """Return the storage that the pickle names."""
        if not (isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"):
            raise pickle.UnpicklingError("an unknown kind of persistent id")
        kind, key, count = identity[1], identity[2], identity[4]
        if not isinstance(kind, _StorageType) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if len(identity) > 5 and identity[5] is not None:
            raise pickle.UnpicklingError("a view of a storage")
        return self._storages(_key(key), kind.dtype, count)


def _key(value: Any) -> str:
    if not isinstance(value, (str, int)):
        raise pickle.UnpicklingError("a storage without a name")
    return str(value)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive, open(path, "rb") as stream:
        entry = _entry(archive, path)
        folder = entry.filename.removesuffix("data.pkl")
        entries = {each.filename: each for each in archive.infolist()}
        order = entries.get(f"{folder}byteorder")
        if order is not None and content_of(archive, order, 64).strip() != b"little":
            raise pickle.UnpicklingError("numbers of another byte order")
        size = os.fstat(stream.fileno()).st_size
        known: dict[str, PickledStorage] = {}

        def storage(key: str, dtype: str, count: int) -> PickledStorage:
            if key not in known:
                data = entries.get(f"{folder}data/{key}")
                if data is None or data.compress_type != zipfile.ZIP_STORED:
                    raise pickle.UnpicklingError(f"no storage {shown(key)}")
                if data.file_size != count * np.dtype(STORED[dtype]).itemsize:
                    raise pickle.UnpicklingError(f"storage {shown(key)} has another size")
                start = _data_start(stream, data)
                if start + data.file_size > size:
                    raise pickle.UnpicklingError("the file ends too early")
                known[key] = PickledStorage(path, dtype, count, start)
            if (known[key].dtype, known[key].count) != (dtype, count):
                raise pickle.UnpicklingError(f"storage {shown(key)} has two descriptions")
            return known[key]

        program = content_of(archive, entry, PROGRAM_LIMIT)
        return _Reader(path, storage).read(io.BytesIO(program))


def _entry(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    for info in archive.infolist():
        # torch.save compresses nothing: what is compressed could grow without bound.
        if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl"):
            if info.compress_type == zipfile.ZIP_STORED:
                return info
            break
    raise InputError(f"{path}: not a file of torch.save", DAMAGED)


def content_of(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """Return a part of an archive that is not compressed and has at most ``limit`` bytes."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > limit:
        raise pickle.UnpicklingError(f"{shown(entry.filename)} is compressed or too large")
    return archive.read(entry)


def _data_start(stream: Any, entry: zipfile.ZipInfo) -> int:
    stream.seek(entry.header_offset)
    header = stream.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    return int(entry.header_offset + 30 + name + extra)


def _read_legacy(path: Path) -> Any:
    known: dict[str, PickledStorage] = {}

    def storage(key: str, dtype: str, count: int) -> PickledStorage:
        found = known.setdefault(key, PickledStorage(path, dtype, count))
        if (found.dtype, found.count) != (dtype, count):
            raise pickle.UnpicklingError(f"storage {shown(key)} has two descriptions")
        return found

    reader = _Reader(path, storage)
    with open(path, "rb") as stream:
        magic = reader.read(stream)
        if magic != LEGACY_MAGIC:
            raise pickle.UnpicklingError("no magic number")
        reader.read(stream)  # the protocol's version
        system = reader.read(stream)
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise pickle.UnpicklingError("numbers of another byte order")
        content = reader.read(stream)
        keys = reader.read(stream)
        size = path.stat().st_size
        for key in keys:
            found = known[_key(key)]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != found.count:
                raise pickle.UnpicklingError(f"storage {shown(_key(key))} has another size")
            found.start = stream.tell()
            end = found.start + count * np.dtype(STORED[found.dtype]).itemsize
            if end > size:
                raise pickle.UnpicklingError("the file ends too early")
            stream.seek(end)
        if any(each.start < 0 for each in known.values()):
            raise pickle.UnpicklingError("a storage is missing")
    return content
