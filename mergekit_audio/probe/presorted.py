"""ROC-AUC and average precision of reweighted tracks from one sort, and without each track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


@dataclass(frozen=True)
class RankedLabel:
    """One label's tracks in groups of equal scores, from the highest down.

    Only groups with a positive add to either metric, so tracks are summed from one such group to
    the next: ``stretches`` has a row for each of them.

    Parameters
    ----------
    stretches
        Sums the weights of the tracks from below the last group with a positive to the end of this
        one, sparse float32, shape ``[groups, tracks]``.
    positives
        Sums the weights of the group's positives, same shape.
    tied_negatives
        Sums the weights of the group's negatives, same shape.
    targets
        Shape ``[tracks]``.
    stretch_of_track
        The row of ``stretches`` that holds the track; behind the last group, ``groups``. Shape
        ``[tracks]``.
    tied_row
        The row of the group that holds the track, or -1 (a negative that ties with no positive).
    """

    stretches: csr_array
    positives: csr_array
    tied_negatives: csr_array
    targets: NDArray[np.bool_]
    stretch_of_track: NDArray[np.int64]
    tied_row: NDArray[np.int64]

    def resampled(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return ROC-AUC and average precision of each column of weights.

        With weights w, and sums over groups g with a positive, from the highest score down:
        ``AP = Σ_g p_g P_g / (P_g + N_g) / P`` and
        ``ROC-AUC = Σ_g p_g (N - N_g + n_g / 2) / (P N)``, where p_g and n_g are the weights of the
        group's positives and negatives, P_g and N_g those down to its end, P and N those of all.
        Equal to scikit-learn on tracks that are repeated as often as they weigh.

        Parameters
        ----------
        weights
            Whole numbers, summing below 2^24, float32, shape ``[tracks, resamples]``.

        Returns
        -------
        ndarray
            Float64, shape ``[2, resamples]``; NaN where all positives or all negatives
            weigh nothing.
        """
        positives = self.positives @ weights
        down_to = np.cumsum(self.stretches @ weights, axis=0, dtype=np.float64)
        found = np.cumsum(positives, axis=0, dtype=np.float64)
        all_positives = found[-1]
        all_negatives = weights.sum(axis=0, dtype=np.float64) - all_positives
        above = down_to - found
        above *= -1.0
        above += all_negatives
        if self.tied_negatives.nnz:
            above += (self.tied_negatives @ weights) * 0.5
        with np.errstate(divide="ignore", invalid="ignore"):
            roc_auc = np.einsum("gb,gb->b", positives, above) / (all_positives * all_negatives)
            precision = found / np.maximum(down_to, 1.0)
            average = np.einsum("gb,gb->b", positives, precision) / all_positives
        average[all_negatives == 0] = np.nan
        roc_auc[(all_positives == 0) | (all_negatives == 0)] = np.nan
        return np.stack([roc_auc, average])

    def without_each(self) -> NDArray[np.float64]:
        """Return ROC-AUC and average precision without each track in turn.

        From prefix and suffix sums over groups, for all tracks in the time of one pass.

        Returns
        -------
        ndarray
            Float64, shape ``[2, tracks]``; NaN where the label loses its last positive or negative.
        """
        ones = np.ones(len(self.targets))
        p, tied = self.positives @ ones, self.tied_negatives @ ones
        down_to, found = np.cumsum(self.stretches @ ones), np.cumsum(self.positives @ ones)
        all_positives = found[-1]
        all_negatives = len(ones) - all_positives
        with np.errstate(divide="ignore", invalid="ignore"):
            roc_auc = self._roc_auc_without(p, tied, down_to, found, all_positives, all_negatives)
            average = self._average_without(p, down_to, found, all_positives)
        lost = np.where(self.targets, all_positives == 1, all_negatives == 1)
        return np.where(lost, np.nan, np.stack([roc_auc, average]))

    def _roc_auc_without(
        self,
        p: NDArray[np.float64],
        tied: NDArray[np.float64],
        down_to: NDArray[np.float64],
        found: NDArray[np.float64],
        all_positives: float,
        all_negatives: float,
    ) -> NDArray[np.float64]:
        beaten = all_negatives - (down_to - found) + tied / 2
        area = float(p @ beaten)
        above = np.concatenate([[0.0], found])[self.stretch_of_track]  # positives above a track
        share = above + np.where(self.tied_row >= 0, p[self.tied_row] / 2, 0.0)
        share[self.targets] = beaten[self.tied_row[self.targets]]
        pairs = np.where(
            self.targets,
            (all_positives - 1) * all_negatives,
            all_positives * (all_negatives - 1),
        )
        without: NDArray[np.float64] = (area - share) / pairs
        return without

    def _average_without(
        self,
        p: NDArray[np.float64],
        down_to: NDArray[np.float64],
        found: NDArray[np.float64],
        all_positives: float,
    ) -> NDArray[np.float64]:
        one_less = np.maximum(down_to - 1, 1.0)  # where it was 0, what it divides is 0 or unused
        before = np.concatenate([[0.0], np.cumsum(p * found / down_to)])
        after_negative = _suffix_sums(p * found / one_less)
        after_positive = _suffix_sums(p * (found - 1) / one_less)
        at = self.stretch_of_track
        own = np.concatenate([(p - 1) * (found - 1) / one_less, [0.0]])
        rest = np.concatenate([after_positive[1:], [0.0]])
        of_positive = (before[at] + own[at] + rest[at]) / (all_positives - 1)
        of_negative = (before[at] + after_negative[at]) / all_positives
        return np.where(self.targets, of_positive, of_negative)


def rank_label(scores: NDArray[np.float64], targets: NDArray[np.bool_]) -> RankedLabel:
    """Sort one label's tracks once.

    Parameters
    ----------
    scores
        Shape ``[tracks]``.
    targets
        With at least one positive, shape ``[tracks]``.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    group = np.cumsum(np.concatenate([[False], ranked[1:] != ranked[:-1]]))
    has_positive = np.zeros(group[-1] + 1, dtype=bool)
    has_positive[group[targets[order]]] = True
    # The row of a group is how many groups with a positive lie above it.
    row_of_group = np.cumsum(has_positive) - has_positive
    rows = int(has_positive.sum())
    stretch = np.empty(len(scores), dtype=np.int64)
    stretch[order] = row_of_group[group]
    tied_row = np.empty(len(scores), dtype=np.int64)
    tied_row[order] = np.where(has_positive[group], row_of_group[group], -1)
    return RankedLabel(
        stretches=_row_sums(stretch, stretch < rows, rows),
        positives=_row_sums(stretch, targets, rows),
        tied_negatives=_row_sums(tied_row, (tied_row >= 0) & ~targets, rows),
        targets=targets,
        stretch_of_track=stretch,
        tied_row=tied_row,
    )


def _row_sums(row_of_track: NDArray[np.int64], chosen: NDArray[np.bool_], rows: int) -> csr_array:
    """Return the matrix that sums the chosen tracks' weights by row, tracks in their order."""
    tracks = np.flatnonzero(chosen)
    tracks = tracks[np.argsort(row_of_track[tracks], kind="stable")]
    counts = np.bincount(row_of_track[tracks], minlength=rows)
    starts = np.concatenate([[0], np.cumsum(counts)])
    ones = np.ones(len(tracks), dtype=np.float32)
    return csr_array((ones, tracks, starts), shape=(rows, len(row_of_track)))


def _suffix_sums(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the sums from each place to the end, and a 0 behind the last."""
    return np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
