"""The metrics of each kind of task, and one function that scores a split of any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.metrics import LabelScores, score_labels
from mergekit_audio.probe.metrics_classes import correct_classes, key_scores
from mergekit_audio.probe.metrics_values import correct_tempi, r2_scores
from mergekit_audio.recipe.evaluate import TaskKind

METRICS_OF_KIND: Mapping[TaskKind, tuple[str, ...]] = {
    "tagging": ("roc_auc", "average_precision"),
    "multiclass": ("accuracy",),
    "key": ("weighted_score",),
    "tempo": ("accuracy_1",),
    "regression": ("r2",),
}
"""What a table shows of each kind; averages over tasks take all of them."""


@dataclass(frozen=True)
class KindScores:
    """The scores of one split of a task that is not tagging.

    Parameters
    ----------
    metric
        Its name.
    value
        The split's score.
    labels
        The score of each class (the mean over its tracks) or output.
    left_out
        Classes or outputs that can't be scored in this split, by reason: ``without_tracks``,
        ``constant``.
    """

    metric: str
    value: float
    labels: Mapping[str, float]
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def macro(self, metric: str) -> float:
        """Return the split's score; ``metric`` must be the one that it holds."""
        return {self.metric: self.value}[metric]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: the score, then each class's or output's."""
        return {
            self.metric: self.value,
            "labels": {label: {self.metric: value} for label, value in self.labels.items()},
        }


def score_task(
    kind: TaskKind,
    scores: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    labels: Sequence[str],
    *,
    split: str,
) -> LabelScores | KindScores:
    """Return the scores of one split.

    Parameters
    ----------
    kind
        Of the task.
    scores
        Float32 or float64, shape ``[tracks, labels]``: probabilities or logits of tags or classes,
        estimates of outputs; of a tempo task ``[tracks, 1]`` in BPM or ``[tracks, 300]`` bins.
    targets
        Tags ``[tracks, labels]``, class indices ``[tracks]``, or values ``[tracks, outputs]``.
    labels
        Tags, classes (``key--C# minor``) or outputs in the columns' order.
    split
        The split's name, for messages.

    Raises
    ------
    InputError
        Nothing can be scored, scores are of half precision or not finite, or shapes do not fit.
    """
    what = f"the scores of the {split} split"
    if len(scores) == 0:
        raise InputError(f"the {split} split has no tracks", "give it some")
    if kind == "tagging":
        return score_labels(scores, targets, labels, split=split)
    metric = METRICS_OF_KIND[kind][0]
    if kind == "regression":
        return _regression(metric, scores, targets, labels, split)
    if kind == "tempo":
        return KindScores(metric, float(correct_tempi(scores, targets, what=what).mean()), {})
    of_tracks = (
        key_scores(scores, targets, labels, what=what)
        if kind == "key"
        else correct_classes(scores, targets, what=what)
    )
    held = np.bincount(targets, minlength=len(labels))
    sums = np.bincount(targets, weights=of_tracks, minlength=len(labels))
    return KindScores(
        metric,
        float(of_tracks.mean()),
        {
            label: float(total / count)
            for label, total, count in zip(labels, sums, held, strict=True)
            if count
        },
        _reasons("without_tracks", labels, held == 0),
    )


def _regression(
    metric: str,
    scores: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    labels: Sequence[str],
    split: str,
) -> KindScores:
    found = r2_scores(scores, targets, what=f"the estimates of the {split} split")
    constant = np.isnan(found)
    if constant.all():
        raise InputError(
            f"the {split} split: none of its outputs ({', '.join(labels)}) changes over its "
            f"{len(targets)} tracks, so R² says nothing",
            "give the split tracks with different values",
        )
    values = {
        label: float(value) for label, value in zip(labels, found, strict=True) if value == value
    }
    mean = float(found[~constant].mean())
    return KindScores(metric, mean, values, _reasons("constant", labels, constant))


def _reasons(
    reason: str, labels: Sequence[str], chosen: NDArray[np.bool_]
) -> dict[str, tuple[str, ...]]:
    return {reason: tuple(label for label, named in zip(labels, chosen, strict=True) if named)}
