"""Probe one model on one task with one seed: train on chunks, score whole tracks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.features import SPLITS, Features
from mergekit_audio.probe.heads import ProbeHead, train_probe
from mergekit_audio.probe.metrics import LabelScores, score_labels
from mergekit_audio.probe.tasks import PreparedTask


@dataclass(frozen=True)
class SplitData:
    """One split in memory.

    Parameters
    ----------
    features
        Float32, shape ``[chunks, D]`` or ``[chunks, L, D]``.
    first_chunks
        Where each track's chunks begin, shape ``[tracks]``.
    targets
        Shape ``[tracks, labels]``.
    """

    features: torch.Tensor
    first_chunks: NDArray[np.int64]
    targets: NDArray[np.bool_]

    def chunk_targets(self) -> torch.Tensor:
        """Return each chunk's targets, those of its track, float32, shape ``[chunks, labels]``."""
        counts = np.diff(np.append(self.first_chunks, len(self.features)))
        return torch.from_numpy(np.repeat(self.targets, counts, axis=0).astype(np.float32))


@dataclass(frozen=True)
class ProbeResult:
    """The scores of one probe.

    Parameters
    ----------
    valid, test
        Scores of tracks.
    best_epoch
        The 1-based epoch whose weights were kept.
    epochs
        The epochs trained.
    layer_weights
        The softmax weights of the layers, or ``None`` for a probe of one layer.
    """

    valid: LabelScores
    test: LabelScores
    best_epoch: int
    epochs: int
    layer_weights: list[float] | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the results file."""
        return {
            "valid": self.valid.as_dict(),
            "test": self.test.as_dict(),
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "layer_weights": self.layer_weights,
        }


def probe(data: dict[str, SplitData], task: PreparedTask, seed: int) -> ProbeResult:
    """Train a probe on the training chunks and score the tracks of validation and test.

    Parameters
    ----------
    data
        The splits, from ``load_splits``.
    task
        Labels and protocol.
    seed
        The probe's seed.
    """
    protocol = task.task.protocol

    def scores(head: ProbeHead, split: str) -> LabelScores:
        predictions = track_predictions(head, data[split], protocol.aggregate)
        return score_labels(predictions, data[split].targets, task.labels, split=split)

    train = data["train"]
    trained = train_probe(
        train.features,
        train.chunk_targets(),
        lambda head: scores(head, "valid").macro(protocol.monitor),
        protocol,
        seed,
    )
    return ProbeResult(
        valid=scores(trained.head, "valid"),
        test=scores(trained.head, "test"),
        best_epoch=trained.best_epoch,
        epochs=len(trained.history),
        layer_weights=trained.head.layer_weights(),
    )


def load_splits(features: Features, task: PreparedTask) -> dict[str, SplitData]:
    """Read the features of the protocol's layer (or all layers) into memory, split by split.

    Raises
    ------
    InputError
        The protocol's layer is not one of the encoder's.
    """
    layer, layers = task.task.protocol.layer, features.values.shape[1]
    if isinstance(layer, int) and not 0 <= layer < layers:
        raise InputError(
            f"task {task.task.name!r}: protocol.layer is {layer}, but the encoder has hidden "
            f"states 0 to {layers - 1}",
            "choose one of them, or `weighted`",
        )
    rows = {
        split: np.flatnonzero(task.splits[features.track_of_chunk] == split) for split in SPLITS
    }
    values = {
        split: features.values[chosen] if layer == "weighted" else features.values[chosen, layer]
        for split, chosen in rows.items()
    }
    if task.task.protocol.standardize:
        values = _standardized(values)
    return {
        split: SplitData(
            features=torch.from_numpy(np.array(values[split], dtype=np.float32)),
            first_chunks=np.flatnonzero(np.diff(features.track_of_chunk[rows[split]], prepend=-1)),
            targets=task.targets[task.splits == split],
        )
        for split in SPLITS
    }


def track_predictions(head: ProbeHead, data: SplitData, aggregate: str) -> NDArray[np.float64]:
    """Return each track's mean probability or mean logit, float64, shape ``[tracks, labels]``."""
    with torch.inference_mode():
        logits = head(data.features).double()
        values = logits.sigmoid() if aggregate == "mean_probability" else logits
    chunk_values: NDArray[np.float64] = values.numpy()
    sums = np.add.reduceat(chunk_values, data.first_chunks, axis=0)
    counts = np.diff(np.append(data.first_chunks, len(chunk_values)))
    means: NDArray[np.float64] = sums / counts[:, None]
    return means


def _standardized(values: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return ``(x - mean) / std`` with mean and std of each feature over the training chunks.

    A feature that never changes there is only centred.
    """
    train = values["train"].astype(np.float64)
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    return {split: ((part - mean) / std).astype(np.float32) for split, part in values.items()}
