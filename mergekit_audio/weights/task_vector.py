"""Task vectors τ = θ_tuned − θ_base: their algebra, their size, and putting them onto a model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.registry import did_you_mean
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.dtypes import as_torch, from_float64, is_floating, to_float64

if TYPE_CHECKING:
    import torch

_ELEMENTS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class TaskVector:
    """A sum Σ cᵢ (θ_tunedᵢ − θ_baseᵢ), computed in float64, one tensor at a time, when asked for.

    Supports ``+``, ``-``, negation and multiplication by a number. Only floating-point tensors take
    part; an empty sum does not exist. Task arithmetic is arXiv 2212.04089.

    Parameters
    ----------
    terms
        The summands, at least one; made by :meth:`from_checkpoints` and the operators.
    """

    terms: tuple[Term, ...]

    @classmethod
    def from_checkpoints(cls, base: Checkpoint, tuned: Checkpoint) -> TaskVector:
        """Return τ = θ_tuned − θ_base.

        Raises
        ------
        LayoutError
            The two do not hold the same tensors; every difference is listed.
        """
        base.require_same_layout(tuned)
        return cls((Term(1.0, base, tuned),))

    @property
    def base(self) -> Checkpoint:
        """The base of the first term: what relative norms are relative to."""
        return self.terms[0].base

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical names of the floating-point tensors, sorted."""
        return tuple(name for name, info in self.base.index.items() if is_floating(info.dtype))

    def tensor(self, name: str) -> torch.Tensor:
        """Return τ of one tensor, float64.

        Raises
        ------
        InputError
            There is no floating-point tensor of this name, or it holds a value that is not finite.
        """
        self._require(name)
        total = np.empty(self.base.index[name].shape)
        for part, values in self.slices(name):
            total.reshape(-1)[part] = values
        return as_torch(total, "float64")

    def __add__(self, other: TaskVector) -> TaskVector:
        if not isinstance(other, TaskVector):
            return NotImplemented
        _require_same_shapes(self.base, other.base)
        return TaskVector(self.terms + other.terms)

    def __neg__(self) -> TaskVector:
        return self * -1.0

    def __sub__(self, other: TaskVector) -> TaskVector:
        if not isinstance(other, TaskVector):
            return NotImplemented
        return self + -other

    def __mul__(self, factor: float) -> TaskVector:
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            return NotImplemented
        if not math.isfinite(factor):
            raise ValueError(f"a task vector can't be multiplied by {factor}")
        return TaskVector(
            tuple(Term(term.factor * factor, term.base, term.tuned) for term in self.terms)
        )

    __rmul__ = __mul__

    def apply(self, base: Checkpoint, scale: float = 1.0) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield θ = θ_base + scale · τ by canonical name, in name order, in the base's dtypes.

        Computed in float64 and rounded once. Tensors that are not floating point are the base's
        own; at scale 0 so are all others, bit for bit.

        Parameters
        ----------
        base
            The model that τ is added to; not necessarily the one that it was subtracted from.
        scale
            λ.

        Raises
        ------
        LayoutError
            The base's names or shapes are not those of τ; every difference is listed.
        ValueError
            ``scale`` is not finite.
        """
        if not math.isfinite(scale):
            raise ValueError(f"a task vector can't be added at scale {scale}")
        _require_same_shapes(self.base, base)
        return self._applied(base, scale)

    def stats(self) -> TaskVectorStats:
        """Return the size of τ, tensor by tensor and in all, in float64.

        The same on every machine and for any number of threads: sums are numpy's pairwise ones,
        over slices of fixed length.
        """
        tensors = {name: self._tensor_stats(name) for name in self.names}
        return TaskVectorStats(tensors, TensorStats.total(list(tensors.values())))

    def dot(self, other: TaskVector) -> float:
        """Return the inner product ⟨τ, τ'⟩ over all tensors.

        Raises
        ------
        LayoutError
            The two do not have the same names and shapes; every difference is listed.
        """
        _require_same_shapes(self.base, other.base)
        return math.fsum(
            float(np.sum(mine * theirs))
            for name in self.names
            for (_, mine), (_, theirs) in zip(self.slices(name), other.slices(name), strict=True)
        )

    def cosine(self, other: TaskVector) -> float:
        """Return ⟨τ, τ'⟩ / (‖τ‖ ‖τ'‖), NaN where one of them is zero.

        Raises
        ------
        LayoutError
            The two do not have the same names and shapes; every difference is listed.
        """
        product = self.dot(other)
        norms = math.sqrt(self.dot(self) * other.dot(other))
        return max(-1.0, min(1.0, product / norms)) if norms else math.nan

    def _applied(self, base: Checkpoint, scale: float) -> Iterator[tuple[str, torch.Tensor]]:
        for name, info in base.index.items():
            if not scale or not is_floating(info.dtype):
                yield name, base.tensor(name)
                continue
            base.require_finite(name)
            bits = base.bits(name)
            result = np.empty_like(bits)
            for part, values in self.slices(name):
                moved = to_float64(bits.reshape(-1)[part], info.dtype)
                moved += values * scale
                result.reshape(-1)[part] = from_float64(moved, info.dtype)
            yield name, as_torch(result, info.dtype)

    def slices(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (place in the flat tensor, τ there as float64), so that no more is in memory.

        Slices have one fixed length, whatever the machine.
        """
        pairs = [
            (term.factor, _stored(term.base, name), _stored(term.tuned, name))
            for term in self.terms
        ]
        elements = pairs[0][1][0].size
        for start in range(0, elements, _ELEMENTS_AT_ONCE):
            part = slice(start, start + _ELEMENTS_AT_ONCE)
            total = np.zeros(min(_ELEMENTS_AT_ONCE, elements - start))
            for factor, base, tuned in pairs:
                with np.errstate(invalid="ignore"):  # infinite values, where they are allowed
                    difference = _float64(tuned, part) - _float64(base, part)
                    difference *= factor
                    total += difference
            yield part, total

    def _tensor_stats(self, name: str) -> TensorStats:
        base = _stored(self.base, name)
        squares, base_squares, largest, zeros = [], [], 0.0, 0
        for part, values in self.slices(name):
            squares.append(float(np.sum(np.square(values))))
            base_squares.append(float(np.sum(np.square(_float64(base, part)))))
            largest = float(np.maximum(largest, np.max(np.abs(values))))  # keeps a NaN
            zeros += int(np.count_nonzero(values == 0))
        return TensorStats(
            elements=base[0].size,
            norm=math.sqrt(math.fsum(squares)),
            max_abs=largest,
            base_norm=math.sqrt(math.fsum(base_squares)),
            zeros=zeros,
        )

    def _require(self, name: str) -> None:
        if name not in self.names:
            raise InputError(
                f"{self.base.source}: there is no floating-point tensor {name!r}",
                did_you_mean(name, self.names),
            )


@dataclass(frozen=True)
class Term:
    """One summand: factor · (tuned − base)."""

    factor: float
    base: Checkpoint
    tuned: Checkpoint


@dataclass(frozen=True)
class TensorStats:
    """The size of τ in one tensor, or in several together.

    Parameters
    ----------
    elements, zeros
        Number of values, and of those that are exactly 0.
    norm, max_abs
        Euclidean norm of τ and its largest absolute value.
    base_norm
        Euclidean norm of the base's values.
    """

    elements: int
    norm: float
    max_abs: float
    base_norm: float
    zeros: int

    @property
    def relative_norm(self) -> float:
        """‖τ‖ / ‖θ_base‖: 0 where τ is zero, infinite where only the base is."""
        if not self.norm:
            return 0.0
        return self.norm / self.base_norm if self.base_norm else math.inf

    @property
    def zero_share(self) -> float:
        """The share of values that are exactly 0, from 0 to 1."""
        return self.zeros / self.elements if self.elements else 0.0

    @classmethod
    def total(cls, parts: list[TensorStats]) -> TensorStats:
        """Return the size over all parts: norms add in squares."""
        return cls(
            elements=sum(part.elements for part in parts),
            norm=math.hypot(*(part.norm for part in parts)),
            max_abs=float(np.max([part.max_abs for part in parts], initial=0.0)),  # keeps a NaN
            base_norm=math.hypot(*(part.base_norm for part in parts)),
            zeros=sum(part.zeros for part in parts),
        )


@dataclass(frozen=True)
class TaskVectorStats:
    """The size of τ by tensor, sorted by canonical name, and over all tensors."""

    tensors: dict[str, TensorStats]
    total: TensorStats


def _stored(checkpoint: Checkpoint, name: str) -> tuple[np.ndarray, str]:
    checkpoint.require_finite(name)
    return checkpoint.bits(name).reshape(-1), checkpoint.index[name].dtype


def _float64(stored: tuple[np.ndarray, str], part: slice) -> np.ndarray:
    bits, dtype = stored
    return to_float64(bits[part], dtype)


def _require_same_shapes(first: Checkpoint, second: Checkpoint) -> None:
    """Raise ``LayoutError`` unless names and shapes are equal; dtypes may differ."""
    faults = []
    for name in sorted({*first.index, *second.index}):
        here, there = first.index.get(name), second.index.get(name)
        if here is None or there is None:
            faults.append(f"{name}: only in {(here and first.source) or second.source}")
        elif here.shape != there.shape or is_floating(here.dtype) != is_floating(there.dtype):
            faults.append(
                f"{name}: {list(here.shape)} {here.dtype} in {first.source}, "
                f"{list(there.shape)} {there.dtype} in {second.source}"
            )
    if faults:
        raise LayoutError(
            f"{first.source} and {second.source} do not hold the same tensors:\n"
            + "\n".join(f"  {fault}" for fault in faults),
            "task vectors can be combined when they come from models of one size",
        )
