"""Check before a merge that the models were trained from the base, from a sample of their weights.

Models that were trained from the base stay near it: continual pre-training moves weights by a few
percent. The difference of two unrelated models is as large as the weights themselves, and adding it
to a third one gives noise, without any error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

import numpy as np

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import TensorInfo
from mergekit_audio.weights.dtypes import is_floating, to_float64

LEAST_CORRELATION = 0.5
"""Trained from the base, a model's weights correlate with the base's at nearly 1; unrelated, at
0. Between two of one norm a correlation of ½ is a relative norm of 1."""
LARGEST_RELATIVE_NORM = 1.0
"""A task vector as large as the weights that it is to change."""
LEAST_VALUES = 2048
"""Fewer values of matrices, in models that small, prove nothing."""
_TENSORS = 32
_RUNS = 8
_RUN_ELEMENTS = 256


class Tensors(Protocol):
    """What the check reads of a checkpoint."""

    source: str

    @property
    def index(self) -> Mapping[str, TensorInfo]:
        """Shape and dtype of each tensor by canonical name."""
        ...

    def bits(self, name: str) -> np.ndarray:
        """Return a tensor's stored bits, mapped from its file."""
        ...

    def digest(self) -> str:
        """Return the digest of the content."""
        ...


def check_descent(
    base: Tensors, models: Sequence[Tensors], *, allow_unrelated: bool = False
) -> list[str]:
    """Return notes on models that are equal; refuse those that do not descend from the base.

    Compares the sample that :func:`sample` takes of the matrices which model and base share; less
    than 0.2 s for models of any size. Layouts may differ: other tensors are not looked at.

    Parameters
    ----------
    base, models
        Open checkpoints; a model that is the base's own object is passed over.
    allow_unrelated
        Return what would be an error as a note.

    Raises
    ------
    InputError
        A model's task vector is as large as the base's weights, or the two do not correlate; all
        such models are listed with their figures.
    """
    faults = []
    others = [model for model in models if model is not base]
    for model in others:
        found = descent(base, model)
        if found is not None and not found.is_plausible:
            faults.append(f"{model.source} was not trained from {base.source}: {found}")
    if faults and not allow_unrelated:
        raise InputError(
            "\n".join(faults),
            "merge models with the base that they were trained from; if this is meant all the "
            "same, set unrelated: note",
        )
    notes = [
        f"{model.source} is the same as the base {base.source}: it adds nothing"
        for model in others
        if _same(base, model)
    ]
    for place, second in enumerate(others):
        for first in others[:place]:
            if first is not second and _same(first, second):
                notes.append(f"{second.source} is the same as {first.source}: it counts twice")
    return faults + notes


@dataclass(frozen=True)
class Descent:
    """How near a sample of a model's matrices is to the base's: medians over the tensors.

    Parameters
    ----------
    relative_norm
        ‖θ_model − θ_base‖ / ‖θ_base‖; infinite where only the base is 0.
    correlation
        Pearson's, of θ_model and θ_base; None where no tensor varies.
    tensors, values
        Size of the sample.
    """

    relative_norm: float
    correlation: float | None
    tensors: int
    values: int

    @property
    def is_plausible(self) -> bool:
        """Whether the model may have been trained from the base; true of too small a sample."""
        if self.values < LEAST_VALUES:
            return True
        far = self.relative_norm > LARGEST_RELATIVE_NORM
        other = self.correlation is not None and self.correlation < LEAST_CORRELATION
        return not (far or other)

    def __str__(self) -> str:
        correlation = "-" if self.correlation is None else f"{self.correlation:.2f}"
        return (
            f"its task vector is {self.relative_norm:.2f} times as large as the base's weights "
            f"(expected less than {LARGEST_RELATIVE_NORM:g}), which correlate with its own at "
            f"{correlation} (expected {LEAST_CORRELATION:g} or more), by the medians of "
            f"{self.tensors} matrices, {self.values} values"
        )


def descent(base: Tensors, model: Tensors) -> Descent | None:
    """Return how near a model is to a base; None when they share no matrix with finite values."""
    norms, correlations, values = [], [], 0
    for name in sampled_names(base, model):
        ours, theirs = sample(base, name), sample(model, name)
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            continue  # refused elsewhere, or allowed
        values += ours.size
        norms.append(_relative_norm(ours, theirs))
        correlation = _correlation(ours, theirs)
        if correlation is not None:
            correlations.append(correlation)
    if not norms:
        return None
    pooled = median(correlations) if correlations else None
    return Descent(median(norms), pooled, len(norms), values)


def sampled_names(base: Tensors, model: Tensors) -> list[str]:
    """Return the largest floating-point tensors of two or more axes that both have, largest first.

    Vectors and scalars say little: the norms of layers start at 1 in every model.
    """
    shared = [
        name
        for name, info in base.index.items()
        if name in model.index
        and model.index[name].shape == info.shape
        and is_floating(info.dtype)
        and is_floating(model.index[name].dtype)
        and sum(size > 1 for size in info.shape) > 1
    ]
    shared.sort(key=lambda name: (-math.prod(base.index[name].shape), name))
    return shared[:_TENSORS]


def sample(checkpoint: Tensors, name: str) -> np.ndarray:
    """Return up to 2048 values of a tensor, float64: 8 runs of 256, evenly spread, all if fewer."""
    flat = checkpoint.bits(name).reshape(-1)
    dtype = checkpoint.index[name].dtype
    if flat.size <= _RUNS * _RUN_ELEMENTS:
        return to_float64(flat, dtype)
    starts = [(flat.size - _RUN_ELEMENTS) * run // (_RUNS - 1) for run in range(_RUNS)]
    return to_float64(
        np.concatenate([flat[start : start + _RUN_ELEMENTS] for start in starts]), dtype
    )


def _relative_norm(ours: np.ndarray, theirs: np.ndarray) -> float:
    norm, base_norm = (float(np.linalg.norm(each)) for each in (theirs - ours, ours))
    if not norm:
        return 0.0
    return norm / base_norm if base_norm else math.inf


def _correlation(ours: np.ndarray, theirs: np.ndarray) -> float | None:
    first, second = ours - ours.mean(), theirs - theirs.mean()
    scale = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return float(first @ second) / scale if scale else None


def _same(first: Tensors, second: Tensors) -> bool:
    """Say whether two checkpoints hold the same bits: a look at each tensor, then the digests."""
    if {name: (info.shape, info.dtype) for name, info in first.index.items()} != {
        name: (info.shape, info.dtype) for name, info in second.index.items()
    }:
        return False
    for name in first.index:
        ours, theirs = (each.bits(name).reshape(-1)[:_RUN_ELEMENTS] for each in (first, second))
        if not np.array_equal(ours, theirs):
            return False
    return first.digest() == second.digest()
