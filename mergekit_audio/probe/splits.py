"""A task's features and targets in memory, split by split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.features import SPLITS, Features
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.protocols import Protocol


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
        Tags ``[tracks, labels]``, class indices ``[tracks]`` or values ``[tracks, outputs]``.
    """

    features: torch.Tensor
    first_chunks: NDArray[np.int64]
    targets: NDArray[Any]

    def chunk_targets(self) -> NDArray[Any]:
        """Return each chunk's targets, those of its track, shape ``[chunks, ...]``."""
        repeated: NDArray[Any] = np.repeat(self.targets, self.chunk_counts(), axis=0)
        return repeated

    def chunk_counts(self) -> NDArray[np.int64]:
        """Return how many chunks each track has, shape ``[tracks]``."""
        return np.diff(np.append(self.first_chunks, len(self.features)))


def load_splits(
    features: Features, task: PreparedTask, protocol: Protocol | None = None
) -> dict[str, SplitData]:
    """Read the features of the protocol's layer (or layers) into memory, split by split.

    Parameters
    ----------
    features
        Of the whole corpus.
    task
        Splits and targets.
    protocol
        Another protocol than the task's: a layer that is tried.

    Raises
    ------
    InputError
        The protocol's layer is not one of the encoder's.
    """
    protocol = task.task.protocol if protocol is None else protocol
    require_layer(task, protocol, features.state_count)
    rows = {
        split: np.flatnonzero(task.splits[features.track_of_chunk] == split) for split in SPLITS
    }
    values = {split: _of_layers(features, chosen, protocol) for split, chosen in rows.items()}
    if protocol.standardize:
        values = _standardized(values)
    return {
        split: SplitData(
            features=torch.from_numpy(np.array(values[split], dtype=np.float32)),
            first_chunks=np.flatnonzero(np.diff(features.track_of_chunk[rows[split]], prepend=-1)),
            targets=task.targets[task.splits == split],
        )
        for split in SPLITS
    }


def tracks_of(task: PreparedTask, splits: Sequence[str]) -> NDArray[np.bool_] | None:
    """Return the tracks that a probe is trained, chosen and scored on; ``None`` where it is all."""
    select = task.task.protocol.select
    needed = {"train", "valid", *splits, *(() if select is None else (select.split,))}
    found = np.isin(task.splits, sorted(needed))
    return None if found.all() else found


def require_layer(task: PreparedTask, protocol: Protocol, layers: int) -> None:
    """Check that the protocol's layer is one of the encoder's hidden states.

    Raises
    ------
    InputError
        It is not.
    """
    if isinstance(protocol.layer, int) and protocol.layer >= layers:
        raise InputError(
            f"task {task.task.name!r}: protocol.layer is {protocol.layer}, but the encoder has "
            f"hidden states 0 to {layers - 1}",
            "choose one of them, or `weighted`",
        )


def _of_layers(
    features: Features, rows: NDArray[np.int64], protocol: Protocol
) -> NDArray[np.floating[Any]]:
    taken: NDArray[np.floating[Any]]
    if isinstance(protocol.layer, int):
        taken = features.values[rows, features.column(protocol.layer)]
        return taken
    assert len(features.layers) == features.state_count
    if protocol.weighted_over == "transformer":
        taken = features.values[rows, 1:]
    else:
        taken = features.values[rows]
    return taken


def _standardized(
    values: dict[str, NDArray[np.floating[Any]]],
) -> dict[str, NDArray[np.floating[Any]]]:
    """Return ``(x - mean) / std`` with mean and std of each feature over the training chunks.

    A feature that never changes there is only centred.
    """
    train = values["train"].astype(np.float64)
    mean, std = train.mean(axis=0), train.std(axis=0)
    std = np.where(std > 0, std, 1.0)
    return {split: ((part - mean) / std).astype(np.float32) for split, part in values.items()}
