"""Tensors in a file of ``torch.save``: where their numbers lie, read when they are asked for."""

from __future__ import annotations

import math
import mmap
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.weights._placeholder import Placeholder
from mergekit_audio.weights.dtypes import STORED

DAMAGED = "download or copy the file again"

_DIMENSIONS_LIMIT = 16


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
        if not self.count:
            return np.empty(0, holder)
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
            raise InputError(f"{self.path}: can't be read ({error})", DAMAGED) from error
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


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> PickledTensor:
    """Return what ``torch._utils._rebuild_tensor_v2`` stands for, within its storage."""
    shape, stride = _sizes(shape), _sizes(stride)
    if not isinstance(storage, PickledStorage) or type(offset) is not int or offset < 0:
        raise pickle.UnpicklingError("a tensor without a storage")
    if len(shape) != len(stride):
        raise pickle.UnpicklingError("a tensor with unequal numbers of sizes and strides")
    if math.prod(shape) > storage.count:
        raise pickle.UnpicklingError("a tensor larger than its storage")
    if math.prod(shape):
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if last >= storage.count:
            raise pickle.UnpicklingError("a tensor beyond its storage")
    return PickledTensor(storage, offset, shape, stride)


def rebuild_parameter(tensor: Any, *_: Any) -> Any:
    """Return the tensor of a ``torch.nn.Parameter``."""
    return tensor


def _sizes(value: Any) -> tuple[int, ...]:
    if isinstance(value, Placeholder):  # torch.Size
        (value,) = value.arguments
    if not isinstance(value, (tuple, list)) or len(value) > _DIMENSIONS_LIMIT:
        raise pickle.UnpicklingError("sizes that are no short tuple")
    sizes = tuple(value)
    if any(type(size) is not int or size < 0 for size in sizes):
        raise pickle.UnpicklingError("sizes that are not whole numbers")
    return sizes
