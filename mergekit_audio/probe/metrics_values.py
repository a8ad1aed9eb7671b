"""Scores of numbers in float64: R² of each output, and tempo within 4 %."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.metrics import require_scores

TEMPO_TOLERANCE = 0.04
TEMPO_BINS = 300
LOWEST_TEMPO_BPM = 10
SMOOTHING_BINS = 11
NEIGHBOUR_BINS, NEIGHBOUR_TARGET = 2, 0.5
TEMPO_DECIMALS = 3


def r2_scores(
    estimates: NDArray[np.floating[Any]],
    values: NDArray[np.floating[Any]],
    *,
    what: str = "the estimates",
) -> NDArray[np.float64]:
    """Return ``R² = 1 - Σ (y - ŷ)² / Σ (y - mean(y))²`` of each output.

    Parameters
    ----------
    estimates
        Float32 or float64, shape ``[tracks, outputs]``.
    values
        The true values, same shape.
    what
        What the estimates are, for the message.

    Returns
    -------
    ndarray
        Float64, shape ``[outputs]``; NaN for an output whose true value never changes.

    Raises
    ------
    InputError
        Estimates of half precision, NaN or infinity, values that are not finite, or other shapes.
    """
    _require_values(estimates, values, what)
    truth = values.astype(np.float64)
    residual = ((truth - estimates.astype(np.float64)) ** 2).sum(axis=0)
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    changes = truth.min(axis=0, initial=np.inf) < truth.max(axis=0, initial=-np.inf)
    scores = np.full(truth.shape[1], np.nan)
    scores[changes] = 1.0 - residual[changes] / total[changes]
    return scores


def correct_tempi(
    estimates: NDArray[np.floating[Any]],
    tempi: NDArray[np.floating[Any]],
    *,
    what: str = "the estimates",
) -> NDArray[np.float64]:
    """Return 1 where ``|estimate - tempo| <= 0.04 tempo`` and 0 elsewhere; the mean is Accuracy 1.

    Parameters
    ----------
    estimates
        Float32 or float64: tempi in BPM, shape ``[tracks, 1]``, or activations of tempo bins,
        shape ``[tracks, 300]``, which ``decode_tempo`` reads.
    tempi
        The true tempi in BPM, above 0, shape ``[tracks]`` or ``[tracks, 1]``.

    Returns
    -------
    ndarray
        Float64, shape ``[tracks]``.

    Raises
    ------
    InputError
        A tempo that is not above 0, or estimates of half precision, NaN, infinity or other shapes.
    """
    truth = tempi.reshape(len(tempi), -1).astype(np.float64)
    if estimates.ndim != 2 or truth.shape[1] != 1 or len(truth) != len(estimates):
        raise InputError(
            f"estimates {list(estimates.shape)} and tempi {list(tempi.shape)} do not fit: expected "
            f"[tracks, 1] or [tracks, {TEMPO_BINS}], and [tracks]",
            "give one tempo for each track",
        )
    wrong = np.flatnonzero(~(np.isfinite(truth[:, 0]) & (truth[:, 0] > 0)))
    if len(wrong):
        raise InputError(
            f"{len(wrong)} of {len(truth)} tempi are not above 0 BPM, the first at row {wrong[0]}: "
            f"{truth[wrong[0], 0]}",
            "leave out tracks without a tempo",
        )
    require_scores(estimates, what=what)
    found = estimates[:, 0].astype(np.float64)
    if estimates.shape[1] != 1:
        found = decode_tempo(estimates)
    near: NDArray[np.bool_] = np.abs(found - truth[:, 0]) <= TEMPO_TOLERANCE * truth[:, 0]
    return near.astype(np.float64)


def tempo_targets(tempi: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return targets of tempo bins: 1 at the rounded tempo, 0.5 up to two bins beside it.

    Bin ``b`` stands for ``b`` BPM; tempi outside the bins count at the nearest one.

    Parameters
    ----------
    tempi
        In BPM, shape ``[tracks]``.

    Returns
    -------
    ndarray
        Float32, shape ``[tracks, 300]``.
    """
    centres = np.clip(np.rint(tempi.astype(np.float64)), 0, TEMPO_BINS - 1)
    distance = np.abs(np.arange(TEMPO_BINS)[None, :] - centres[:, None])
    targets = np.where(distance <= NEIGHBOUR_BINS, NEIGHBOUR_TARGET, 0.0)
    targets[distance == 0] = 1.0
    return targets.astype(np.float32)


def decode_tempo(activations: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the tempo in BPM of each track's bins: the highest peak of the smoothed activations.

    Bins below 10 BPM do not count. The others are smoothed by a Hamming window of 11 bins; a
    parabola through the highest bin and its two neighbours gives the peak, rounded to 0.001 BPM.
    Of equal peaks the slowest counts.

    Parameters
    ----------
    activations
        Probabilities, float32 or float64, shape ``[tracks, bins]``; bin ``b`` stands for ``b`` BPM.

    Returns
    -------
    ndarray
        Float64, shape ``[tracks]``.
    """
    window = np.hamming(SMOOTHING_BINS)
    used = activations[:, LOWEST_TEMPO_BPM:].astype(np.float64)
    smooth = np.array([np.convolve(row, window / window.sum(), mode="same") for row in used])
    peaks = np.argmax(smooth, axis=1)
    inner = np.clip(peaks, 1, smooth.shape[1] - 2)
    rows = np.arange(len(smooth))
    left, middle, right = (smooth[rows, inner + step] for step in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    is_peak = (inner == peaks) & (bend < 0)
    shift = np.where(is_peak, 0.5 * (left - right) / np.where(is_peak, bend, 1.0), 0.0)
    tempi: NDArray[np.float64] = np.round(peaks + shift + LOWEST_TEMPO_BPM, TEMPO_DECIMALS)
    return tempi


def _require_values(estimates: NDArray[Any], values: NDArray[Any], what: str) -> None:
    if estimates.ndim != 2 or estimates.shape != values.shape:
        raise InputError(
            f"estimates {list(estimates.shape)} and values {list(values.shape)} do not fit: "
            "expected [tracks, outputs] of both",
            "give one value of each output for each track",
        )
    require_scores(estimates, what=what)
    if not np.isfinite(values).all():
        raise InputError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} true values are not finite",
            "leave out tracks without a value",
        )
