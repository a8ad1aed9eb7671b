"""Tests of differences: Holm's correction of a family, and exact sign flips over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.errors import InputError

NOT_POSSIBLE: Literal["not possible"] = "not possible"
MOST_SEEDS = 40
"""Half of the sign patterns of more would no longer fit into memory."""
ROUNDING = 1e-12


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for the size of their family.

    Of m values, the k-th smallest becomes ``max over j <= k of min(1, (m - j + 1) p_(j))``. Calling
    what stays below α significant errs anywhere in the family with a chance of at most α.

    Parameters
    ----------
    p_values
        Of all differences that are shown together.

    References
    ----------
    Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


def sign_flip_p_value(
    differences: Sequence[float], alpha: float = 0.05
) -> float | Literal["not possible"]:
    """Return the two-sided p-value of the mean of paired differences over seeds, by all sign flips.

    The share of the 2^n patterns of signs whose sum is at least as far from 0 as the one observed;
    exact if each difference is as likely to be of either sign. It can't be below ``2 / 2^n``: with
    5 seeds 0.0625, with 6 0.031. Where that is above α, no outcome could be significant, and the
    answer is the words ``not possible``.

    Parameters
    ----------
    differences
        One for each seed, at most 40.
    alpha
        The level that p would have to reach.

    Raises
    ------
    InputError
        More than 40 seeds.
    """
    count = len(differences)
    if count > MOST_SEEDS:
        raise InputError(
            f"{count} seeds have 2^{count} patterns of signs: too many to go through",
            f"give at most {MOST_SEEDS} seeds",
        )
    if 2.0 ** (1 - count) > alpha:
        return NOT_POSSIBLE
    values = np.abs(np.asarray(differences, dtype=np.float64))
    reach = abs(float(np.sum(differences))) - ROUNDING * float(values.sum())
    first, second = _signed_sums(values[: count // 2]), np.sort(_signed_sums(values[count // 2 :]))
    at_least = len(second) - np.searchsorted(second, reach - first, side="left")
    at_most = np.searchsorted(second, -reach - first, side="right")
    patterns = float(len(first) * len(second))
    return min(1.0, float(at_least.sum() + at_most.sum()) / patterns)


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sums of all patterns of signs, shape ``[2^n]``."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums - value, sums + value])
    return sums
