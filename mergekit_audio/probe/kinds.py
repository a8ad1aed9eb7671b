"""What a kind of task changes in a probe: its outputs, its loss, and how chunks become a track."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mergekit_audio.probe.metrics_values import TEMPO_BINS, tempo_targets
from mergekit_audio.probe.probe_step import Loss
from mergekit_audio.recipe.evaluate import TaskKind

ONE_CLASS = ("multiclass", "key")


@dataclass(frozen=True)
class ValueScale:
    """The values that a regression trains on: ``(value - shift) / scale``, shapes ``[outputs]``."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64], *, standardize: bool) -> ValueScale:
        """Return the scale that gives training values ``[tracks, outputs]`` mean 0 and variance 1.

        A value that never changes is only shifted; without ``standardize`` nothing changes.
        """
        count = values.shape[1]
        if not standardize:
            return cls(np.zeros(count), np.ones(count))
        spread = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(spread > 0, spread, 1.0))


def output_count(kind: TaskKind, labels: int) -> int:
    """Return the probe's outputs: a bin for each BPM of a tempo, else one for each label."""
    return TEMPO_BINS if kind == "tempo" else labels


def loss_of(kind: TaskKind) -> Loss:
    """Return binary cross-entropy for tags and tempo bins, cross-entropy, or squared error."""
    if kind in ONE_CLASS:
        return nn.functional.cross_entropy
    if kind == "regression":
        return nn.functional.mse_loss
    return nn.functional.binary_cross_entropy_with_logits


def loss_targets(
    kind: TaskKind, targets: NDArray[np.generic], scale: ValueScale | None = None
) -> torch.Tensor:
    """Return what ``loss_of`` takes for each row of a task's targets.

    Tags ``[rows, labels]`` as 0 and 1, class indices ``[rows]``, tempo bins ``[rows, 300]`` (1 at
    the tempo, 0.5 up to two bins beside it), values ``[rows, outputs]`` on the given scale.
    """
    if kind in ONE_CLASS:
        return torch.from_numpy(targets.astype(np.int64))
    if kind == "tempo":
        return torch.from_numpy(tempo_targets(targets[:, 0].astype(np.float64)))
    values = targets.astype(np.float64)
    if scale is not None:
        values = (values - scale.shift) / scale.scale
    return torch.from_numpy(values.astype(np.float32))


def ridge_targets(
    kind: TaskKind, targets: NDArray[np.generic], labels: int, scale: ValueScale | None = None
) -> torch.Tensor:
    """Return what ridge regression fits: ``loss_targets``, with one column for each class."""
    found = loss_targets(kind, targets, scale)
    return nn.functional.one_hot(found, labels).double() if kind in ONE_CLASS else found.double()


def activation(kind: TaskKind, logits: torch.Tensor) -> torch.Tensor:
    """Return probabilities ``[rows, outputs]`` of logits; a regression's outputs as they are."""
    if kind == "regression":
        return logits
    return logits.softmax(dim=1) if kind in ONE_CLASS else logits.sigmoid()
