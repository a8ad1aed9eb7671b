"""Metrics of a task as functions of its tracks' weights: for the bootstrap and the jackknife."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.probe.metrics_classes import correct_classes, key_scores
from mergekit_audio.probe.metrics_values import correct_tempi
from mergekit_audio.probe.presorted import rank_label
from mergekit_audio.recipe.evaluate import TaskKind

BLOCK = 64
"""Resamples at a time: their weights stay in the cache."""


class Statistic(Protocol):
    """Metrics of one model on one task's tracks."""

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ``[metrics, resamples]`` for weights ``[tracks, resamples]``."""

    def without_each(self) -> NDArray[np.float64]:
        """Return ``[metrics, tracks]``: the metrics without each track in turn."""


def statistic(
    kind: TaskKind,
    scores: NDArray[np.floating[Any]],
    targets: NDArray[Any],
    labels: tuple[str, ...],
) -> Statistic:
    """Return the metrics of ``METRICS_OF_KIND`` as a function of the tracks' weights.

    Parameters
    ----------
    kind, scores, targets, labels
        As ``task_metrics.score_task`` takes them.
    """
    if kind == "tagging":
        return TaggingStatistic(scores.astype(np.float64), targets.astype(bool))
    if kind == "regression":
        return R2Statistic(scores.astype(np.float64), targets.astype(np.float64))
    if kind == "tempo":
        return MeanStatistic(correct_tempi(scores, targets))
    if kind == "key":
        return MeanStatistic(key_scores(scores, targets, labels))
    return MeanStatistic(correct_classes(scores, targets))


def resampling_weights(
    tracks: int, resamples: int, *, seed: int, name: str
) -> Iterator[NDArray[np.float32]]:
    """Yield how often each track was drawn, in blocks of shape ``[tracks, up to 64]``.

    A resample draws as many tracks as there are, with replacement, each with the same chance. Every
    task has a stream of its own, so that adding a task changes no other one's intervals.

    Parameters
    ----------
    tracks, resamples
        How many.
    seed, name
        The recipe's seed and the task's name name the stream.
    """
    generator = np.random.default_rng([seed, *hashlib.sha256(name.encode()).digest()])
    for first in range(0, resamples, BLOCK):
        columns = min(BLOCK, resamples - first)
        weights = np.empty((columns, tracks), dtype=np.float32)
        for column in range(columns):
            drawn = generator.integers(tracks, size=tracks)
            weights[column] = np.bincount(drawn, minlength=tracks)
        yield np.ascontiguousarray(weights.T)


class TaggingStatistic:
    """Macro ROC-AUC and average precision over the labels that have both classes.

    In a resample that has no positive or no negative track of a label, the means leave that label
    out; the weights of a resample decide that, so they do it for every model alike. The same holds
    without a track that is a label's only positive or negative one.

    Parameters
    ----------
    scores
        Float64, shape ``[tracks, labels]``.
    targets
        Shape ``[tracks, labels]``.
    """

    def __init__(self, scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> None:
        counts = targets.sum(axis=0)
        scored = np.flatnonzero((counts > 0) & (counts < len(targets)))
        self._labels = [rank_label(scores[:, label], targets[:, label]) for label in scored]

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ``[2, resamples]``; NaN where no label can be scored."""
        return _mean_of_known([label.resampled(weights) for label in self._labels])

    def without_each(self) -> NDArray[np.float64]:
        """Return ``[2, tracks]``."""
        return _mean_of_known([label.without_each() for label in self._labels])


class MeanStatistic:
    """The mean of one score a track: accuracy, weighted key score, Accuracy 1.

    Parameters
    ----------
    of_tracks
        Float64, shape ``[tracks]``.
    """

    def __init__(self, of_tracks: NDArray[np.float64]) -> None:
        self._of_tracks = of_tracks

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ``[1, resamples]``."""
        sums = np.einsum("t,tb->b", self._of_tracks, weights)
        means: NDArray[np.float64] = (sums / weights.sum(axis=0, dtype=np.float64))[None]
        return means

    def without_each(self) -> NDArray[np.float64]:
        """Return ``[1, tracks]``; NaN for the only track."""
        others = len(self._of_tracks) - 1
        if others == 0:
            return np.full((1, 1), np.nan)
        without: NDArray[np.float64] = (self._of_tracks.sum() - self._of_tracks)[None] / others
        return without


class R2Statistic:
    """The mean R² of the outputs that change.

    An output whose true value is the same in all tracks of a resample is left out of its mean, for
    every model alike.

    Parameters
    ----------
    estimates, values
        Float64, shape ``[tracks, outputs]``.
    """

    def __init__(self, estimates: NDArray[np.float64], values: NDArray[np.float64]) -> None:
        changes = values.min(axis=0) < values.max(axis=0)
        truth = values[:, changes]
        self._value_index = [np.unique(column, return_inverse=True)[1] for column in truth.T]
        self._centred = truth - truth.mean(axis=0)
        self._residual = (truth - estimates[:, changes]) ** 2

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ``[1, resamples]``; NaN where no output changes."""
        count = weights.sum(axis=0, dtype=np.float64)
        scores = []
        for centred, residual, index in zip(
            self._centred.T, self._residual.T, self._value_index, strict=True
        ):
            sums = np.einsum("t,tb->b", centred, weights)
            squares = np.einsum("t,tb->b", centred**2, weights)
            drawn = np.where(weights > 0, index[:, None], -1)
            first = drawn.max(axis=0)
            constant = np.all((drawn == first) | (drawn < 0), axis=0)
            total = np.where(constant, np.nan, squares - sums**2 / count)
            scores.append((1.0 - np.einsum("t,tb->b", residual, weights) / total)[None])
        return _mean_of_known(scores)

    def without_each(self) -> NDArray[np.float64]:
        """Return ``[1, tracks]``."""
        others = len(self._centred) - 1
        scores = []
        for centred, residual, index in zip(
            self._centred.T, self._residual.T, self._value_index, strict=True
        ):
            counts = np.bincount(index)
            kinds = len(counts) - (counts[index] == 1)
            squares = (centred**2).sum() - centred**2
            total = squares - (centred.sum() - centred) ** 2 / max(others, 1)
            total = np.where(kinds > 1, total, np.nan)
            scores.append((1.0 - (residual.sum() - residual) / total)[None])
        return _mean_of_known(scores)


def _mean_of_known(scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over the list, without NaN; NaN where all are."""
    sums, counts = np.zeros(scores[0].shape), np.zeros(scores[0].shape)
    for score in scores:
        known = ~np.isnan(score)
        counts += known
        sums += np.where(known, score, 0.0)
    means = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
