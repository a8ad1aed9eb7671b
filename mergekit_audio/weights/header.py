"""Read the header of a safetensors file, and refuse every file that breaks the format."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

from mergekit_audio.errors import InputError
from mergekit_audio.weights.strict_json import parse_object

LONGEST_HEADER_BYTES = 100_000_000
"""The safetensors library's own limit of a header."""

DTYPES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "BOOL": ("bool", 1),
        "U8": ("uint8", 1),
        "I8": ("int8", 1),
        "F8_E4M3": ("float8_e4m3fn", 1),
        "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
        "F8_E5M2": ("float8_e5m2", 1),
        "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
        "F8_E8M0": ("float8_e8m0fnu", 1),
        "I16": ("int16", 2),
        "U16": ("uint16", 2),
        "F16": ("float16", 2),
        "BF16": ("bfloat16", 2),
        "I32": ("int32", 4),
        "U32": ("uint32", 4),
        "F32": ("float32", 4),
        "C64": ("complex64", 8),
        "I64": ("int64", 8),
        "U64": ("uint64", 8),
        "F64": ("float64", 8),
    }
)
"""What the format calls a dtype -> what torch calls it, and bytes an element."""

_HINT = "download or copy the file again, or save it again with safetensors.torch.save_file"
_MOST_DIMENSIONS = 64
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class HeaderEntry:
    """One tensor of a file: torch's name of its dtype, its shape, its place ``[start, end)``."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, HeaderEntry]:
    """Return the tensors of a safetensors file by name, sorted by name.

    Stricter than the library: duplicate keys, zero-size tensors, a file without tensors and names
    that can't be printed are refused as well.

    Raises
    ------
    InputError
        The file is not safetensors, is truncated, or its header contradicts itself or the file.
    """
    text, data_start, data_bytes = _read_text(path)
    header = _parse(path, text)
    _check_metadata(path, header.pop("__metadata__", {}))
    if not header:
        _refuse(path, "the file holds no tensors")
    entries = {name: _entry(path, name, header[name], data_start) for name in sorted(header)}
    _check_contiguous(path, entries, data_start, data_bytes)
    return entries


def _read_text(path: Path) -> tuple[bytes, int, int]:
    with open(path, "rb") as stream:
        file_bytes = os.fstat(stream.fileno()).st_size
        if file_bytes == 0:
            _refuse(path, "the file is empty")
        start = stream.read(64)
        _refuse_other_formats(path, start)
        if file_bytes < _LENGTH_BYTES:
            _refuse(path, f"truncated: {file_bytes} bytes, but a safetensors file opens with 8")
        (length,) = struct.unpack("<Q", start[:_LENGTH_BYTES])
        if length > LONGEST_HEADER_BYTES:
            _refuse(
                path,
                f"not a safetensors file: its first 8 bytes announce a header of {length:,} bytes, "
                f"more than the format's {LONGEST_HEADER_BYTES:,}",
            )
        if length > file_bytes - _LENGTH_BYTES:
            _refuse(
                path,
                f"truncated inside the header: {length:,} bytes announced, "
                f"{file_bytes - _LENGTH_BYTES:,} there",
            )
        stream.seek(_LENGTH_BYTES)
        text = stream.read(length)
    data_start = _LENGTH_BYTES + length
    return text, data_start, file_bytes - data_start


def _refuse_other_formats(path: Path, start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path}: a git-lfs pointer, not the weights themselves",
            "fetch the weights with 'git lfs pull', or with 'hf download'",
        )
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            f"{path}: a web page (HTML), not a safetensors file",
            "the download went to a login or error page: download the file again",
        )
    if start.startswith(b"PK\x03\x04"):
        raise InputError(
            f"{path}: a zip archive (a PyTorch checkpoint?), not a safetensors file",
            "if it is a PyTorch checkpoint, name it pytorch_model.bin",
        )


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    if not text.startswith(b"{"):
        _refuse(path, f"bad header: expected '{{' as its first byte, found {text[:1]!r}")
    try:
        return parse_object(text)
    except ValueError as error:
        _refuse(path, f"bad header: {error}")


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        _refuse(path, "bad header: __metadata__ must map names to strings")


def _entry(path: Path, name: str, value: Any, data_start: int) -> HeaderEntry:
    if not name or not name.isprintable():
        _refuse(path, f"bad header: {name!r} can't be a tensor's name")
    where = f"tensor {name!r}"
    if not isinstance(value, dict) or sorted(value) != ["data_offsets", "dtype", "shape"]:
        _refuse(
            path, f"{where}: expected the keys dtype, shape and data_offsets, found {_short(value)}"
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        _refuse(path, f"{where}: unknown dtype {_short(dtype)}; known: {', '.join(DTYPES)}")
    if not _whole_numbers(shape) or len(shape) > _MOST_DIMENSIONS:
        _refuse(path, f"{where}: bad shape {_short(shape)}; expected a list of whole numbers")
    if 0 in shape:
        _refuse(path, f"{where}: shape {_short(shape)} has no elements")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(path, f"{where}: bad data_offsets {_short(offsets)}; expected [begin, end]")
    torch_dtype, item_bytes = DTYPES[dtype]
    begin, end = offsets
    expected = math.prod(shape) * item_bytes
    if end - begin != expected:
        _refuse(
            path,
            f"{where}: shape {_short(shape)} of {dtype} needs {_short(expected)} bytes, "
            f"but its data_offsets span {_short(end - begin)}",
        )
    return HeaderEntry(torch_dtype, tuple(shape), data_start + begin, data_start + end)


def _check_contiguous(
    path: Path, entries: dict[str, HeaderEntry], data_start: int, data_bytes: int
) -> None:
    last = max(entries, key=lambda name: entries[name].end)
    if entries[last].end - data_start > data_bytes:
        _refuse(
            path,
            f"truncated: {data_bytes} bytes of data, but tensor {last!r} ends at byte "
            f"{_short(entries[last].end - data_start)}",
        )
    position = data_start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            problem = "leaves a hole" if entry.start > position else "overlaps the one before"
            _refuse(
                path,
                f"tensor {name!r}: {problem}: it begins at byte {entry.start - data_start:,} of "
                f"the data, expected {position - data_start:,}",
            )
        position = entry.end
    surplus = data_start + data_bytes - position
    if surplus:
        _refuse(path, f"{surplus} bytes too many after the last tensor")


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # more digits, or brackets, than Python prints
        return "a value beyond any file"
    return text if len(text) <= 80 else text[:77] + "…"


def _refuse(path: Path, problem: str) -> NoReturn:
    raise InputError(f"{path}: {problem}", _HINT)
