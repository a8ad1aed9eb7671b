"""Probe one model on one task with one seed: train on chunks, score whole tracks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mergekit_audio.probe.heads import train_probe
from mergekit_audio.probe.kinds import (
    ValueScale,
    activation,
    loss_of,
    loss_targets,
    output_count,
    ridge_targets,
)
from mergekit_audio.probe.metrics import LabelScores, macro_roc_auc
from mergekit_audio.probe.probe_head import ProbeHead
from mergekit_audio.probe.ridge import RidgeHead, fit_ridge
from mergekit_audio.probe.splits import SplitData
from mergekit_audio.probe.task_metrics import KindScores, score_task
from mergekit_audio.probe.tasks import PreparedTask
from mergekit_audio.recipe.evaluate import TaskKind
from mergekit_audio.recipe.protocols import Protocol

SCORED_SPLITS = ("valid", "test")
FEW_TRACKS = 512
"""With more tracks than this, sorting label by label is as fast as all labels at once."""


@dataclass(frozen=True)
class ProbeResult:
    """The scores of one probe.

    Parameters
    ----------
    scores
        Of the tracks of each split.
    predictions
        What they were computed from: float64, shape ``[tracks, outputs]``, of each split.
    best_epoch
        The 1-based epoch whose weights were kept; ``None`` for ridge regression.
    epochs
        The epochs trained; ``None`` for ridge regression.
    layer_weights
        The softmax weights of the layers, or ``None`` for a probe of one layer.
    penalty
        The one that ridge regression chose on validation; ``None`` for a trained probe.
    """

    scores: dict[str, LabelScores | KindScores]
    predictions: dict[str, NDArray[np.float64]]
    best_epoch: int | None
    epochs: int | None
    layer_weights: list[float] | None
    penalty: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for the results file."""
        return {
            **{split: scores.as_dict() for split, scores in self.scores.items()},
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "layer_weights": self.layer_weights,
            "penalty": self.penalty,
        }


def probe(
    data: dict[str, SplitData],
    task: PreparedTask,
    seed: int,
    protocol: Protocol | None = None,
    splits: Sequence[str] = SCORED_SPLITS,
) -> ProbeResult:
    """Train a probe on the training chunks and score the tracks of validation and test.

    Parameters
    ----------
    data
        The splits, from ``load_splits``.
    task
        Labels and protocol.
    seed
        The probe's seed.
    protocol
        Another protocol than the task's: a layer or learning rate that was chosen or is tried.
    splits
        What is scored.
    """
    protocol = task.task.protocol if protocol is None else protocol
    kind, monitor = task.task.kind, task.monitor()
    scale = None
    if kind == "regression":
        scale = ValueScale.of(data["train"].targets, standardize=protocol.standardize_values)

    def predictions(head: ProbeHead | RidgeHead, split: str) -> NDArray[np.float64]:
        return track_predictions(head, data[split], protocol.aggregate, kind, scale)

    def scores(predicted: NDArray[np.float64], split: str) -> LabelScores | KindScores:
        return score_task(kind, predicted, data[split].targets, task.labels, split=split)

    known = data["valid"].targets

    def validate(head: ProbeHead | RidgeHead) -> float:
        predicted = predictions(head, "valid")
        if kind == "tagging" and monitor == "roc_auc" and len(known) <= FEW_TRACKS:
            return macro_roc_auc(predicted, known)
        return scores(predicted, "valid").macro(monitor)

    head: ProbeHead | RidgeHead
    best_epoch = epochs = penalty = None
    if protocol.estimator == "ridge":
        head = _best_ridge(data["train"], task, protocol, scale, validate)
        penalty = head.penalty
    else:
        train = data["train"]
        trained = train_probe(
            train.features,
            loss_targets(kind, train.chunk_targets(), scale),
            validate,
            protocol,
            seed,
            outputs=output_count(kind, len(task.labels)),
            loss=loss_of(kind),
        )
        head, best_epoch, epochs = trained.head, trained.best_epoch, len(trained.history)
    predicted = {split: predictions(head, split) for split in splits}
    return ProbeResult(
        scores={split: scores(values, split) for split, values in predicted.items()},
        predictions=predicted,
        best_epoch=best_epoch,
        epochs=epochs,
        layer_weights=head.layer_weights(),
        penalty=penalty,
    )


def track_predictions(
    head: Callable[[torch.Tensor], torch.Tensor],
    data: SplitData,
    aggregate: str,
    kind: TaskKind = "tagging",
    scale: ValueScale | None = None,
) -> NDArray[np.float64]:
    """Return each track's prediction, the mean over its chunks, float64, ``[tracks, outputs]``.

    The mean is one of probabilities or of logits; a tempo's mean logits become probabilities, for
    its peak is looked for among them. Ridge regression's scores are averaged as they are. Values
    of a regression are brought back to the scale of the corpus.
    """
    with torch.inference_mode():
        values = head(data.features).double()
        gives_logits = not isinstance(head, RidgeHead)
        if gives_logits and aggregate == "mean_probability":
            values = activation(kind, values)
    chunk_values: NDArray[np.float64] = values.numpy()
    sums = np.add.reduceat(chunk_values, data.first_chunks, axis=0)
    means: NDArray[np.float64] = sums / data.chunk_counts()[:, None]
    if kind == "tempo" and gives_logits and aggregate == "mean_logit":
        means = activation(kind, torch.from_numpy(means)).numpy()
    return means if scale is None else means * scale.scale + scale.shift


def _best_ridge(
    train: SplitData,
    task: PreparedTask,
    protocol: Protocol,
    scale: ValueScale | None,
    validate: Callable[[RidgeHead], float],
) -> RidgeHead:
    """Return the map whose penalty validates best, of equals the first one."""
    targets = ridge_targets(task.task.kind, train.chunk_targets(), len(task.labels), scale)
    heads = fit_ridge(train.features, targets, protocol.penalties)
    return max(heads, key=validate)
