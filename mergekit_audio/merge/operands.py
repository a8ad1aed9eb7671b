"""What a merged tensor is made of: stored tensors, and kernels that weight norm keeps in two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import to_float64


class Operand(Protocol):
    """One model's values of one tensor, read in flat slices as float64."""

    shape: tuple[int, ...]

    def read(self, start: int, stop: int, out: np.ndarray, step: int = 1) -> None:
        """Put every ``step``-th of the flat values ``start`` to ``stop`` into ``out``, float64."""
        ...


class Stored:
    """A tensor as its file holds it."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self.shape = checkpoint.index[name].shape
        self._dtype = checkpoint.index[name].dtype
        self._flat = checkpoint.bits(name).reshape(-1)

    def read(self, start: int, stop: int, out: np.ndarray, step: int = 1) -> None:
        """Put every ``step``-th of the flat values ``start`` to ``stop`` into ``out``, float64."""
        bits = self._flat[start:stop:step]
        if self._dtype in ("float32", "float64", "float16"):
            np.copyto(out, bits)
        else:
            out[...] = to_float64(bits, self._dtype)


class InMemory:
    """Values that were computed: a tensor with an adapter's change, an effective kernel."""

    def __init__(self, values: np.ndarray) -> None:
        self.shape: tuple[int, ...] = values.shape
        self.values = values

    def read(self, start: int, stop: int, out: np.ndarray, step: int = 1) -> None:
        """Put every ``step``-th of the flat values ``start`` to ``stop`` into ``out``, float64."""
        out[...] = self.values.reshape(-1)[start:stop:step]


def whole(operand: Operand) -> np.ndarray:
    """Return all values of an operand, float64, in its shape."""
    values = np.empty(operand.shape)
    operand.read(0, values.size, values.reshape(-1))
    return values


def with_change(operand: Operand, change: np.ndarray) -> InMemory:
    """Return an operand plus an adapter's change of it."""
    return InMemory(whole(operand) + change)


def effective_kernel(magnitude: Operand, direction: Operand) -> InMemory:
    """Return w = g · v / ‖v‖ of a weight-normalised kernel; 0 where v is.

    The norm runs over the axes where g has size 1 (Salimans & Kingma, arXiv 1602.07868, eq. 2).
    """
    g, v = whole(magnitude), whole(direction)
    norm = kernel_norm(v, g.shape)
    return InMemory(v * np.divide(g, norm, out=np.zeros_like(g), where=norm > 0))


@dataclass(frozen=True)
class Factored:
    """A kernel in the two parts that weight norm stores."""

    magnitude: np.ndarray
    direction: np.ndarray


def factor_kernel(kernel: np.ndarray, magnitude: np.ndarray, direction: np.ndarray) -> Factored:
    """Return g = ±‖w‖ and v = ±w · ‖v_base‖ / ‖w‖: v keeps the base's norms, g the base's signs.

    Parameters
    ----------
    kernel
        w, float64.
    magnitude, direction
        The base's g and v, float64; v of the kernel's shape.
    """
    length = kernel_norm(kernel, magnitude.shape)
    g = np.copysign(length, magnitude)
    norm = kernel_norm(direction, magnitude.shape)
    factor = np.divide(norm, g, out=np.zeros_like(g), where=length > 0)
    return Factored(g, np.where(length > 0, kernel * factor, direction))


def kernel_norm(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the Euclidean norm over the axes where ``shape`` is 1, in that shape."""
    axes = tuple(axis for axis, size in enumerate(shape) if size == 1)
    norm: np.ndarray = np.sqrt(np.sum(np.square(values), axis=axes, keepdims=True))
    return norm
