"""Write tensors to safetensors files as they come, one in memory at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.files import sha256_of_file, staged_file, start_writing_back, write_json
from mergekit_audio.weights.dtypes import STORED, from_float64, from_torch, is_floating, to_float64
from mergekit_audio.weights.header import DTYPES
from mergekit_audio.weights.locate import INDEX_SUFFIX

if TYPE_CHECKING:
    import torch

_FORMAT_NAMES = {torch_name: name for name, (torch_name, _) in DTYPES.items()}
# The safetensors library's own order: wide dtypes first, so that every tensor is aligned.
_DTYPE_ORDER = {torch_name: place for place, torch_name in enumerate(_FORMAT_NAMES)}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor to be written: its name in the file, its shape and torch's name of the dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * DTYPES[_FORMAT_NAMES[self.dtype]][1]


def write_tensors(
    folder: Path,
    specs: Sequence[TensorSpec],
    tensors: Iterable[tuple[str, torch.Tensor | np.ndarray]],
    *,
    max_shard_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] | None = None,
    stem: str = "model",
) -> list[Path]:
    """Write ``model.safetensors``, or numbered shards and their index, and return the files.

    Every file has a temporary name until all are complete; an error leaves nothing.

    Parameters
    ----------
    folder
        An existing folder.
    specs
        What will come, in this order; the headers are made from it.
    tensors
        Name and values (torch's, or NumPy's with the stored bits), in the order of ``specs``; cast
        once to the spec's dtype.
    max_shard_bytes
        A new shard begins before a tensor that would make the data longer than this; a tensor is
        never split.
    metadata
        Strings in the header; ``{"format": "pt"}`` by default, without which transformers refuses
        the file.
    stem
        The files' name before ``.safetensors``.

    Raises
    ------
    InputError
        The folder can't be written, the disk is full, other weights of the same stem would stay
        beside the new ones, or a value is too large for the spec's dtype.
    ValueError
        ``specs`` repeat a name or hold a dtype that the format lacks, or ``tensors`` are not what
        ``specs`` say.
    """
    with open_writer(
        folder, specs, max_shard_bytes=max_shard_bytes, metadata=metadata, stem=stem
    ) as writer:
        source = iter(tensors)
        for spec in specs:
            name, tensor = next(source, ("", None))
            if tensor is None:
                raise ValueError(f"tensor {spec.name!r} did not come")
            if name != spec.name or tuple(tensor.shape) != spec.shape:
                raise ValueError(
                    f"got tensor {name!r} {list(tensor.shape)}, "
                    f"expected {spec.name!r} {list(spec.shape)}"
                )
            writer.write(name, _cast(spec, tensor))
            del tensor
        if (surplus := next(source, None)) is not None:
            raise ValueError(f"tensor {surplus[0]!r} comes after the last of the specs")
    return sorted(writer.paths)


@contextlib.contextmanager
def open_writer(
    folder: Path,
    specs: Sequence[TensorSpec],
    *,
    max_shard_bytes: int = 5_000_000_000,
    metadata: Mapping[str, str] | None = None,
    stem: str = "model",
) -> Iterator[TensorWriter]:
    """Yield a writer of ``model.safetensors`` (or shards and index), complete when the block ends.

    Parameters and errors are those of :func:`write_tensors`; the tensors may come in any order,
    without a second pass over the files in that of ``writer.order``.
    """
    _check_specs(specs, max_shard_bytes)
    shards = _split(specs, max_shard_bytes)
    names = [_shard_name(stem, i, len(shards)) for i in range(len(shards))]
    index_name = f"{stem}.safetensors{INDEX_SUFFIX}"
    paths = [folder / name for name in names]
    if len(shards) > 1:
        paths.append(folder / index_name)
    _refuse_stale(folder, stem, paths)
    header_metadata = {"format": "pt"} if metadata is None else metadata
    with contextlib.ExitStack() as stack:
        staged = [stack.enter_context(staged_file(path)) for path in paths]
        files = [
            stack.enter_context(_ShardFile(target, shard, header_metadata))
            for target, shard in zip(staged, shards, strict=False)  # the index file has no shard
        ]
        writer = TensorWriter(paths, files)
        yield writer
        writer.finish()
        if len(shards) > 1:
            write_json(staged[-1], _index(names, shards))


class TensorWriter:
    """Places stored bits in the files of one checkpoint; made by :func:`open_writer`.

    ``order`` names the tensors as they lie in the files; ``paths`` are the files; ``digests`` the
    sha256 of each weight file by its name, there when the writer's block has ended.
    """

    def __init__(self, paths: list[Path], files: list[_ShardFile]) -> None:
        self.paths = paths
        self.digests: dict[str, str] = {}
        self._files = files
        self._file_of = {name: file for file in files for name in file.starts}
        self.order = [name for file in files for name in sorted(file.starts, key=file.starts.get)]  # type: ignore[arg-type]

    def write(self, name: str, bits: np.ndarray, start: int = 0) -> None:
        """Write a tensor's stored bits, or a run of them that begins at its element ``start``.

        Of several threads one at a time.
        """
        self._file_of[name].write(name, bits, start)

    def finish(self) -> None:
        """Put the files onto the disk and know their digests; done at the block's end otherwise.

        Raises
        ------
        ValueError
            A tensor did not come, or not whole.
        """
        if not self.digests:
            names = [path.name for path in self.paths]
            self.digests = {
                name: file.finish() for name, file in zip(names, self._files, strict=False)
            }


class _ShardFile:
    """One file that is being written, hashed on the way as long as its bytes come in order."""

    def __init__(
        self, path: Path, specs: Sequence[TensorSpec], metadata: Mapping[str, str]
    ) -> None:
        self.path = path
        header, starts = _header(specs, metadata)
        self.starts = {name: len(header) + start for name, start in starts.items()}
        self._missing = {spec.name: spec.nbytes for spec in specs}
        self._digest = hashlib.sha256(header)
        self._hashed = len(header)
        self._handle = os.open(path, os.O_WRONLY | os.O_TRUNC)
        _write_all(self._handle, memoryview(header), 0)

    def write(self, name: str, bits: np.ndarray, start: int) -> None:
        data = np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data
        self._missing[name] -= len(data)
        if self._missing[name] < 0:
            raise ValueError(f"tensor {name!r}: more bytes came than the header says")
        place = self.starts[name] + start * bits.itemsize
        _write_all(self._handle, data, place)
        start_writing_back(self._handle, place, len(data))
        if place == self._hashed:
            self._digest.update(data)
            self._hashed += len(data)

    def finish(self) -> str:
        """Put the file onto the disk and return its sha256."""
        if missing := sorted(name for name, count in self._missing.items() if count):
            raise ValueError(f"tensor {missing[0]!r} did not come")
        os.fsync(self._handle)
        in_order = self._hashed == os.fstat(self._handle).st_size
        return self._digest.hexdigest() if in_order else sha256_of_file(self.path)

    def __enter__(self) -> _ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)


def _write_all(handle: int, data: memoryview, start: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done:], start + done)


def _check_specs(specs: Sequence[TensorSpec], max_shard_bytes: int) -> None:
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes is {max_shard_bytes}, expected at least 1")
    if not specs:
        raise ValueError("no tensors to write")
    seen: set[str] = set()
    for spec in specs:
        if spec.dtype not in _FORMAT_NAMES:
            raise ValueError(f"tensor {spec.name!r}: safetensors has no dtype {spec.dtype}")
        if spec.name in seen or spec.name in ("", "__metadata__"):
            raise ValueError(f"{spec.name!r} is a repeated or impossible tensor name")
        seen.add(spec.name)


def _split(specs: Sequence[TensorSpec], max_shard_bytes: int) -> list[list[TensorSpec]]:
    shards: list[list[TensorSpec]] = [[]]
    used = 0
    for spec in specs:
        if shards[-1] and used + spec.nbytes > max_shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(spec)
        used += spec.nbytes
    return shards


def _shard_name(stem: str, place: int, count: int) -> str:
    if count == 1:
        return f"{stem}.safetensors"
    return f"{stem}-{place + 1:05d}-of-{count:05d}.safetensors"


def _refuse_stale(folder: Path, stem: str, paths: Sequence[Path]) -> None:
    patterns = (f"{stem}.safetensors", f"{stem}-*-of-*.safetensors", f"{stem}.safetensors.*")
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    stale = [path.name for path in found if path not in paths]
    if stale:
        raise InputError(
            f"{folder}: already holds other weights: {', '.join(stale)}",
            "write to a new folder, or remove them first",
        )


def _header(
    specs: Sequence[TensorSpec], metadata: Mapping[str, str]
) -> tuple[bytes, dict[str, int]]:
    content: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    starts: dict[str, int] = {}
    position = 0
    for spec in sorted(specs, key=lambda spec: (-_DTYPE_ORDER[spec.dtype], spec.name)):
        starts[spec.name] = position
        content[spec.name] = {
            "dtype": _FORMAT_NAMES[spec.dtype],
            "shape": list(spec.shape),
            "data_offsets": [position, position + spec.nbytes],
        }
        position += spec.nbytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, starts


def _cast(spec: TensorSpec, values: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return the stored bits of values, rounded once where they are of another dtype."""
    bits, dtype = (values, spec.dtype) if isinstance(values, np.ndarray) else from_torch(values)
    if isinstance(values, np.ndarray) and values.dtype != STORED[spec.dtype]:
        raise ValueError(f"tensor {spec.name!r} is {values.dtype}, expected {spec.dtype}")
    if dtype == spec.dtype:
        return bits
    if is_floating(dtype) != is_floating(spec.dtype):
        raise ValueError(f"tensor {spec.name!r} is {dtype}, expected {spec.dtype}")
    wide = to_float64(bits, dtype)
    cast = from_float64(wide, spec.dtype)
    if np.isinf(to_float64(cast, spec.dtype)).sum() > np.isinf(wide).sum():
        raise InputError(
            f"tensor {spec.name!r}: a value is too large for {spec.dtype}",
            "choose a wider dtype for the output",
        )
    return cast


def _index(names: Sequence[str], shards: Sequence[Sequence[TensorSpec]]) -> dict[str, Any]:
    placed = {spec.name: file for file, shard in zip(names, shards, strict=True) for spec in shard}
    total = sum(spec.nbytes for shard in shards for spec in shard)
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
