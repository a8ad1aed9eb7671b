"""Accuracy of classes, and the weighted score of musical keys, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError
from mergekit_audio.probe.metrics import require_scores

SEMITONES = {
    "c": 0, "c#": 1, "db": 1, "d": 2, "d#": 3, "eb": 3, "e": 4, "f": 5, "f#": 6, "gb": 6, "g": 7,
    "g#": 8, "ab": 8, "a": 9, "a#": 10, "bb": 10, "b": 11,
}  # fmt: skip
MODES = ("major", "minor")
FIFTH_ABOVE, RELATIVE_MINOR, RELATIVE_MAJOR = 7, 9, 3
FIFTH_SCORE, RELATIVE_SCORE, PARALLEL_SCORE = 0.5, 0.3, 0.2


def estimated_classes(
    scores: NDArray[np.floating[Any]], *, what: str = "the scores"
) -> NDArray[np.int64]:
    """Return the class of the highest score; of equal ones the lowest index.

    Parameters
    ----------
    scores
        Probabilities or logits, float32 or float64, shape ``[tracks, classes]``.
    what
        What they are, for the message.

    Returns
    -------
    ndarray
        Shape ``[tracks]``.

    Raises
    ------
    InputError
        Scores of half precision, NaN or infinity.
    """
    require_scores(scores, what=what)
    classes: NDArray[np.int64] = np.argmax(scores, axis=1)
    return classes


def correct_classes(
    scores: NDArray[np.floating[Any]], targets: NDArray[np.int64], *, what: str = "the scores"
) -> NDArray[np.float64]:
    """Return 1 where the estimated class is the target and 0 elsewhere; their mean is accuracy.

    Parameters
    ----------
    scores
        Shape ``[tracks, classes]``.
    targets
        Class indices, shape ``[tracks]``.

    Returns
    -------
    ndarray
        Float64, shape ``[tracks]``.

    Raises
    ------
    InputError
        Scores of half precision, NaN or infinity, or targets outside the classes.
    """
    _require_classes(scores, targets)
    correct: NDArray[np.bool_] = estimated_classes(scores, what=what) == targets
    return correct.astype(np.float64)


def key_scores(
    scores: NDArray[np.floating[Any]],
    targets: NDArray[np.int64],
    labels: Sequence[str],
    *,
    what: str = "the scores",
) -> NDArray[np.float64]:
    """Return each track's score of its estimated key; their mean is the weighted key score.

    1 for the same key; 0.5 for the same mode a fifth above the reference (not below); 0.3 for the
    relative major or minor; 0.2 for the other mode of the same tonic; else 0.

    Parameters
    ----------
    scores
        Shape ``[tracks, keys]``.
    targets
        Indices of keys, shape ``[tracks]``.
    labels
        The keys' names in the columns' order: ``key--C# minor`` or ``C# minor``.

    Returns
    -------
    ndarray
        Float64, shape ``[tracks]``.

    Raises
    ------
    InputError
        A label is no key, or what ``correct_classes`` raises.

    References
    ----------
    MIREX audio key detection, as ``mir_eval.key.weighted_score`` of mir_eval 0.8.2 has it.
    """
    _require_classes(scores, targets)
    chosen: NDArray[np.float64] = key_score_matrix(labels)[
        targets, estimated_classes(scores, what=what)
    ]
    return chosen


def key_score_matrix(labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the score of every estimated key (column) for every reference key (row)."""
    keys = [parse_key(label) for label in labels]
    return np.array([[_key_score(one, other) for other in keys] for one in keys], dtype=np.float64)


def parse_key(label: str) -> tuple[int, str]:
    """Return tonic (semitones above C) and mode of ``key--C# minor`` or ``C# minor``.

    Raises
    ------
    InputError
        It is not a key.
    """
    parts = label.rpartition("--")[2].split()
    if len(parts) != 2 or parts[0].lower() not in SEMITONES or parts[1] not in MODES:
        raise InputError(
            f"{label!r} is not a key: expected a tonic and a mode, such as `key--C# minor`",
            "spell tonics C, C#, D, D#, E, F, F#, G, G#, A, A#, B, and modes major and minor",
        )
    return SEMITONES[parts[0].lower()], parts[1]


def _key_score(reference: tuple[int, str], estimate: tuple[int, str]) -> float:
    interval = (estimate[0] - reference[0]) % 12
    if estimate[1] == reference[1]:
        return {0: 1.0, FIFTH_ABOVE: FIFTH_SCORE}.get(interval, 0.0)
    if interval == 0:
        return PARALLEL_SCORE
    relative = RELATIVE_MINOR if reference[1] == "major" else RELATIVE_MAJOR
    return RELATIVE_SCORE if interval == relative else 0.0


def _require_classes(scores: NDArray[Any], targets: NDArray[np.int64]) -> None:
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise InputError(
            f"scores {list(scores.shape)} and targets {list(targets.shape)} do not fit: expected "
            "[tracks, classes] and [tracks]",
            "give one class index for each track",
        )
    if targets.size and not (targets.min() >= 0 and targets.max() < scores.shape[1]):
        raise InputError(
            f"targets reach from {targets.min()} to {targets.max()}, but there are "
            f"{scores.shape[1]} classes (0 to {scores.shape[1] - 1})",
            "count classes from 0",
        )
