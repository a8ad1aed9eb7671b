"""Macro ROC-AUC and average precision of multi-label scores, exact with ties, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError

METRICS = ("roc_auc", "average_precision")


@dataclass(frozen=True)
class LabelScores:
    """The scores of one split, a value for each label and their macro means.

    Parameters
    ----------
    labels
        The scored labels: those with at least one positive and one negative track.
    roc_auc, average_precision
        Float64, shape ``[labels]``, from 0 to 1.
    without_positives, without_negatives
        Labels that can't be scored in this split; the macro means leave them out.
    """

    labels: tuple[str, ...]
    roc_auc: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    without_positives: tuple[str, ...]
    without_negatives: tuple[str, ...]

    def macro(self, metric: str) -> float:
        """Return the mean over the scored labels of ``roc_auc`` or ``average_precision``."""
        values = {"roc_auc": self.roc_auc, "average_precision": self.average_precision}[metric]
        return float(values.mean())

    def as_dict(self) -> dict[str, Any]:
        """Return plain values: the macro scores, then each label's."""
        return {
            **{metric: self.macro(metric) for metric in METRICS},
            "labels": {
                label: {"roc_auc": float(roc_auc), "average_precision": float(precision)}
                for label, roc_auc, precision in zip(
                    self.labels, self.roc_auc, self.average_precision, strict=True
                )
            },
        }


def score_labels(
    scores: NDArray[np.floating[Any]],
    targets: NDArray[np.bool_],
    labels: Sequence[str],
    *,
    split: str,
) -> LabelScores:
    """Return ROC-AUC and average precision of every label that has both classes.

    Both come from one sort of each column. With the groups g of equal scores from the highest down,
    ``AP = Σ_g (R_g - R_{g-1}) P_g`` and ROC-AUC is the trapezoid rule over the same groups, so that
    ties count as scikit-learn counts them.

    Parameters
    ----------
    scores
        Probabilities or logits, finite, float32 or float64, shape ``[tracks, labels]``.
    targets
        Shape ``[tracks, labels]``.
    labels
        The labels' names.
    split
        The split's name, for the message.

    Raises
    ------
    InputError
        No label has both a positive and a negative track, or the scores are of half precision or
        not finite.
    """
    require_scores(scores, what=f"the scores of the {split} split")
    counts = targets.sum(axis=0)
    has_positive, has_negative = counts > 0, counts < len(targets)
    scored = has_positive & has_negative
    if not scored.any():
        raise InputError(
            f"the {split} split: none of its {len(labels)} tags has both a positive and a negative "
            f"track ({len(targets)} tracks), so there is nothing to score",
            f"give the {split} split tracks with and without some of these tags",
        )
    roc_auc, average_precision = _from_one_sort(
        scores[:, scored].astype(np.float64), targets[:, scored].astype(bool)
    )
    return LabelScores(
        labels=_names(labels, scored),
        roc_auc=roc_auc,
        average_precision=average_precision,
        without_positives=_names(labels, ~has_positive),
        without_negatives=_names(labels, ~has_negative),
    )


def macro_roc_auc(scores: NDArray[np.floating[Any]], targets: NDArray[np.bool_]) -> float:
    """Return ``score_labels(...).macro("roc_auc")``, the same bits, all labels in one go.

    With the ranks r of a label's P positives among n scores (from 1, the mean rank of equals),
    ``(Σ r - P (P + 1) / 2) / (P (n - P))``. It is for scores that are wanted after every epoch.

    Parameters
    ----------
    scores
        Float32 or float64, shape ``[tracks, labels]``.
    targets
        Shape ``[tracks, labels]``; a label at least has both classes.

    Raises
    ------
    InputError
        Scores are of half precision or not finite.
    """
    require_scores(scores, what="the scores of the validation split")
    positives = targets.sum(axis=0)
    scored = (positives > 0) & (positives < len(targets))
    columns = scores[:, scored].astype(np.float64).T
    order = np.argsort(columns, axis=1, kind="stable")
    rising = np.take_along_axis(columns, order, axis=1)
    is_positive = np.take_along_axis(targets[:, scored].T, order, axis=1)
    count, places = positives[scored], np.arange(len(targets))
    rises = np.ones((len(columns), len(targets) + 1), dtype=bool)
    rises[:, 1:-1] = rising[:, 1:] > rising[:, :-1]
    first = np.maximum.accumulate(np.where(rises[:, :-1], places, 0), axis=1)
    last = np.where(rises[:, 1:], places, len(targets))[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    beaten = ((first + last + 1) * is_positive).sum(axis=1) - count**2
    found: NDArray[np.float64] = beaten / (2 * count * (len(targets) - count))
    return float(found.mean())


def require_scores(scores: NDArray[Any], *, what: str) -> None:
    """Check that scores are float32 or float64 and finite.

    Rounded scores tie: bf16 moves a mean average precision by 0.003, as much as models
    differ by.

    Parameters
    ----------
    scores
        Any shape.
    what
        What they are, for the message.

    Raises
    ------
    InputError
        They have another type, or hold NaN or infinity.
    """
    if scores.dtype not in (np.float32, np.float64):
        raise InputError(
            f"{what} are {scores.dtype}; metrics need float32 or float64, because rounded scores "
            "tie and ties change the ranking",
            "compute the logits in float32",
        )
    finite = np.isfinite(scores)
    if not finite.all():
        raise InputError(
            f"{what}: {int((~finite).sum())} of {scores.size} values are NaN or infinite",
            "look at the features and the learning rate: a probe that diverges can't be scored",
        )


def _from_one_sort(
    scores: NDArray[np.float64], targets: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both metrics of each column from its sorted scores and those of its positives.

    Only positives add to either metric, and what each adds depends on how many scores, and how many
    of positives, are at least as high (its tie group's end) and higher (its beginning).
    """
    columns = np.ascontiguousarray(scores.T)
    ranked = np.sort(columns, axis=1)
    roc_auc, average = np.empty(len(columns)), np.empty(len(columns))
    for label, (column, rising) in enumerate(zip(columns, ranked, strict=True)):
        positives = np.sort(column[targets[:, label]])
        count = len(positives)
        below = np.searchsorted(rising, positives, side="left")
        up_to = np.searchsorted(rising, positives, side="right")
        positives_below = np.searchsorted(positives, positives, side="left")
        positives_up_to = np.searchsorted(positives, positives, side="right")
        # Negatives with a lower score, and half of those with the same one, twice.
        beaten = (below - positives_below) + (up_to - positives_up_to)
        roc_auc[label] = beaten.sum() / (2 * count * (len(column) - count))
        precision = (count - positives_below) / (len(column) - below)
        average[label] = precision.sum() / count
    return roc_auc, average


def _names(labels: Sequence[str], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(label for label, kept in zip(labels, chosen, strict=True) if kept)
