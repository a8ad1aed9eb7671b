"""Read a file of ``torch.save`` without running anything of it: tensors stay, objects become inert.

Every name that the pickle asks for is looked up in this module's own tables. Settings objects
(``argparse.Namespace``, ``omegaconf.*``, ``fairseq.*``) become :class:`Placeholder`; any name that
is not in the tables ends the reading, and nothing is ever imported.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.weights.dtypes import STORED

_ZIP_START = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_SEARCHED = 1 << 24
_DAMAGED = "download or copy the file again"

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
    """Return what a file of ``torch.save`` holds, tensors as :class:`PickledTensor`.

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
            start = stream.read(len(_ZIP_START))
        return _read_zip(path) if start == _ZIP_START else _read_legacy(path)
    except OSError as error:
        raise InputError(
            f"{path}: can't be read ({error.strerror or error})",
            "check the file and its permissions",
        ) from error
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged pickle can raise anything
        first = (str(error).splitlines() or [""])[0][:200]
        raise InputError(
            f"{path}: damaged, or not a file of torch.save ({type(error).__name__}: {first})",
            _DAMAGED,
        ) from error


def pickle_bytes(path: Path) -> bytes:
    """Return the pickled part of a file of ``torch.save``, unread; empty when there is none."""
    try:
        with open(path, "rb") as stream:
            if stream.read(len(_ZIP_START)) != _ZIP_START:
                stream.seek(0)
                return stream.read(_LEGACY_SEARCHED)
        with zipfile.ZipFile(path) as archive:
            return archive.read(_entry(archive, path))
    except (OSError, InputError, zipfile.BadZipFile, NotImplementedError, EOFError):
        return b""  # whoever reads the file says what is wrong with it


@dataclass
class PickledStorage:
    """Numbers in the file: torch's name of their dtype, how many, and where they start (bytes)."""

    path: Path
    dtype: str
    count: int
    start: int = -1

    def read(self) -> np.ndarray:
        """Return the stored bits ``[count]``, mapped from the file; writing does not reach it."""
        holder = np.dtype(STORED[self.dtype])
        before = self.start % mmap.ALLOCATIONGRANULARITY
        length = self.count * holder.itemsize
        try:
            with open(self.path, "rb") as stream:
                region = mmap.mmap(
                    stream.fileno(),
                    before + length,
                    access=mmap.ACCESS_COPY,
                    offset=self.start - before,
                )
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise InputError(f"{self.path}: can't be read ({error})", _DAMAGED) from error
        data = np.frombuffer(region, dtype=np.uint8, count=length, offset=before)
        if self.start % holder.itemsize:
            data = data.copy()
        return data.view(holder)


@dataclass(frozen=True)
class PickledTensor:
    """A strided view of a storage, in elements; its values are read when asked for."""

    storage: PickledStorage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The dtype by torch's name."""
        return self.storage.dtype

    def bits(self) -> np.ndarray:
        """Return the stored bits in the tensor's shape, contiguous."""
        flat = self.storage.read()
        steps = tuple(step * flat.itemsize for step in self.stride)
        view = np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps)
        return np.ascontiguousarray(view).reshape(self.shape)


class Placeholder:
    """An object of a class that is not imported: what it was made of, and nothing else."""

    global_name = ""

    def __new__(cls, *arguments: Any, **named: Any) -> Placeholder:
        """Keep the arguments."""
        made = super().__new__(cls)
        made.__dict__ = {"arguments": arguments, "named": named, "state": None, "items": {}}
        made.__dict__["elements"] = []
        return made

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Do nothing more."""

    def __setstate__(self, state: Any) -> None:
        """Keep the state that the pickle holds."""
        self.__dict__["state"] = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item of a dictionary's subclass."""
        self.__dict__["items"][key] = value

    def append(self, value: Any) -> None:
        """Keep an element of a list's subclass."""
        self.__dict__["elements"].append(value)

    def extend(self, values: Iterable[Any]) -> None:
        """Keep elements of a list's subclass."""
        self.__dict__["elements"].extend(values)


def plain(value: Any, depth: int = 24) -> Any:
    """Return settings as plain values: dictionaries, lists, text and numbers.

    ``argparse.Namespace`` gives its attributes, omegaconf's nodes what they hold; what is neither
    is None.
    """
    if depth == 0 or value is None or isinstance(value, (str, int, float, bool)):
        return value if depth else None
    if isinstance(value, dict):
        return {str(key): plain(each, depth - 1) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, depth - 1) for each in value]
    if not isinstance(value, Placeholder):
        return None
    state, found = value.__dict__["state"], value.__dict__["items"]
    if isinstance(state, tuple) and len(state) == 2:  # attributes and slots
        state = {**(state[0] or {}), **(state[1] or {})}
    if isinstance(state, dict):
        for content in ("_content", "_val"):  # omegaconf's containers and their leaves
            if content in state:
                return plain(state[content], depth - 1)
        return plain({**found, **state}, depth - 1)
    if found:
        return plain(found, depth - 1)
    arguments = value.__dict__["arguments"]
    return plain(arguments[0], depth - 1) if len(arguments) == 1 else None  # an enum's value


class _Callable:
    """What stands for a function of the tables: the pickle may call it and nothing else."""

    __slots__ = ("_made",)
    _made: Callable[..., Any]

    def __init__(self, made: Callable[..., Any]) -> None:
        object.__setattr__(self, "_made", made)

    def __call__(self, *arguments: Any) -> Any:
        return self._made(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError("the pickle changes a function")


@dataclass(frozen=True)
class _StorageType:
    dtype: str


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: Any, path: Path, storages: Callable[..., PickledStorage]) -> None:
        super().__init__(stream, encoding="utf-8")
        self._path = path
        self._storages = storages
        self._classes: dict[tuple[str, str], type[Placeholder]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global name; nothing is imported."""
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return _Callable(_rebuild_tensor)
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _Callable(_rebuild_parameter)
        if module == "torch" and name in _STORAGE_DTYPES:
            return _StorageType(_STORAGE_DTYPES[name])
        if (module, name) == ("collections", "OrderedDict"):
            return _Callable(OrderedDict)
        settings = _SETTINGS_MODULE.fullmatch(module) and name.isidentifier()
        if settings or (module, name) in _INERT:
            if (module, name) not in self._classes:
                self._classes[module, name] = type(
                    name, (Placeholder,), {"global_name": f"{module}.{name}"}
                )
            return self._classes[module, name]
        raise InputError(
            f"{self._path}: refused: it asks for {module}.{name}, which loading would run; nothing "
            "was run. Expected tensors and fairseq's settings",
            "don't use this file unless you know who made it; safetensors files hold no code",
        )

    def persistent_load(self, identity: Any) -> PickledStorage:
        """Return the storage that the pickle names."""
        if not (isinstance(identity, tuple) and len(identity) >= 5 and identity[0] == "storage"):
            raise pickle.UnpicklingError("an unknown kind of persistent id")
        kind, key, count = identity[1], identity[2], identity[4]
        if not isinstance(kind, _StorageType) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if len(identity) > 5 and identity[5] is not None:
            raise pickle.UnpicklingError("a view of a storage")
        return self._storages(str(key), kind.dtype, count)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> PickledTensor:
    shape, stride = _sizes(shape), _sizes(stride)
    if not isinstance(storage, PickledStorage) or type(offset) is not int or offset < 0:
        raise pickle.UnpicklingError("a tensor without a storage")
    if len(shape) != len(stride):
        raise pickle.UnpicklingError("a tensor with unequal numbers of sizes and strides")
    if math.prod(shape):
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if last >= storage.count:
            raise pickle.UnpicklingError("a tensor beyond its storage")
    return PickledTensor(storage, offset, shape, stride)


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Placeholder):  # torch.Size
        value = value.__dict__["arguments"][0]
    sizes = tuple(value)
    if any(type(size) is not int or size < 0 for size in sizes):
        raise pickle.UnpicklingError("sizes that are not whole numbers")
    return sizes


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive, open(path, "rb") as stream:
        entry = _entry(archive, path)
        folder = entry.filename.removesuffix("data.pkl")
        entries = {each.filename: each for each in archive.infolist()}
        order = entries.get(f"{folder}byteorder")
        if order is not None and archive.read(order).strip() != b"little":
            raise pickle.UnpicklingError("numbers of another byte order")
        known: dict[str, PickledStorage] = {}

        def storage(key: str, dtype: str, count: int) -> PickledStorage:
            if key not in known:
                data = entries.get(f"{folder}data/{key}")
                if data is None or data.compress_type != zipfile.ZIP_STORED:
                    raise pickle.UnpicklingError(f"no storage {key}")
                if data.file_size != count * np.dtype(STORED[dtype]).itemsize:
                    raise pickle.UnpicklingError(f"storage {key} has another size")
                known[key] = PickledStorage(path, dtype, count, _data_start(stream, data))
            return known[key]

        return _Unpickler(io.BytesIO(archive.read(entry)), path, storage).load()


def _entry(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    for info in archive.infolist():
        # torch.save compresses nothing: what is compressed could grow without bound.
        if info.filename.count("/") == 1 and info.filename.endswith("/data.pkl"):
            if info.compress_type == zipfile.ZIP_STORED:
                return info
            break
    raise InputError(f"{path}: not a file of torch.save", _DAMAGED)


def _data_start(stream: Any, entry: zipfile.ZipInfo) -> int:
    stream.seek(entry.header_offset)
    header = stream.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    return int(entry.header_offset + 30 + name + extra)


def _read_legacy(path: Path) -> Any:
    known: dict[str, PickledStorage] = {}

    def storage(key: str, dtype: str, count: int) -> PickledStorage:
        return known.setdefault(key, PickledStorage(path, dtype, count))

    with open(path, "rb") as stream:
        magic = _Unpickler(stream, path, storage).load()
        if magic != _LEGACY_MAGIC:
            raise pickle.UnpicklingError("no magic number")
        _Unpickler(stream, path, storage).load()  # the protocol's version
        system = _Unpickler(stream, path, storage).load()
        if isinstance(system, dict) and system.get("little_endian") is False:
            raise pickle.UnpicklingError("numbers of another byte order")
        content = _Unpickler(stream, path, storage).load()
        keys = _Unpickler(stream, path, storage).load()
        size = path.stat().st_size
        for key in keys:
            found = known[str(key)]
            (count,) = struct.unpack("<q", stream.read(8))
            if count != found.count:
                raise pickle.UnpicklingError(f"storage {key} has another size")
            found.start = stream.tell()
            end = found.start + count * np.dtype(STORED[found.dtype]).itemsize
            if end > size:
                raise pickle.UnpicklingError("the file ends too early")
            stream.seek(end)
        if any(each.start < 0 for each in known.values()):
            raise pickle.UnpicklingError("a storage is missing")
    return content
