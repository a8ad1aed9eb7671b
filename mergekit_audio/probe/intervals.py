"""Intervals of a difference from its bootstrap resamples: percentile, and BCa with a jackknife."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


def percentile_interval(
    resampled: NDArray[np.float64], confidence: float = 0.95
) -> tuple[float, float]:
    """Return the quantiles ``(1 - c) / 2`` and ``(1 + c) / 2`` of the resampled values.

    Parameters
    ----------
    resampled
        Without NaN, shape ``[resamples]``.
    confidence
        c, between 0 and 1.
    """
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bca_interval(
    value: float,
    resampled: NDArray[np.float64],
    without_each: Sequence[NDArray[np.float64]],
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the bias-corrected and accelerated interval.

    With z₀ the normal quantile of the share of resamples below the value (those equal to it count
    half; the share is kept half a resample away from 0 and 1), the acceleration a, and z the normal
    quantiles of ``(1 ± c) / 2``, the ends are the resamples' quantiles at
    ``Φ(z₀ + (z₀ + z) / (1 - a (z₀ + z)))``. From the influences ``l = (n - 1) (mean(θ₋ᵢ) - θ₋ᵢ)``
    of the tracks of each independent sample, ``a = Σ_s Σ_i l³ / n³ / (6 (Σ_s Σ_i l² / n²)^1.5)``.

    Parameters
    ----------
    value
        The difference itself.
    resampled
        Without NaN, shape ``[resamples]``.
    without_each
        For each independent sample (a data set), the difference without each of its tracks, shape
        ``[tracks]``; NaN where there is none.
    confidence
        c, between 0 and 1.

    References
    ----------
    Efron (1987), Better bootstrap confidence intervals; Davison and Hinkley (1997), section 5.3
    for several samples.
    """
    count = len(resampled)
    below = (resampled < value).sum() + 0.5 * (resampled == value).sum()
    share = min(max(float(below) / count, 0.5 / count), 1.0 - 0.5 / count)
    normal = NormalDist()
    bias = normal.inv_cdf(share)
    bend = acceleration(without_each)
    levels = []
    for level in ((1 - confidence) / 2, (1 + confidence) / 2):
        shifted = bias + normal.inv_cdf(level)
        room = 1.0 - bend * shifted
        # Where the correction has no room left, the quantile is that of the end it runs to.
        end = 0.0 if shifted < 0 else 1.0
        levels.append(normal.cdf(bias + shifted / room) if room > 0 else end)
    low, high = np.quantile(resampled, levels)
    return float(low), float(high)


def acceleration(without_each: Sequence[NDArray[np.float64]]) -> float:
    """Return BCa's acceleration from jackknife values of independent samples; 0 without spread."""
    cubes, squares = 0.0, 0.0
    for values in without_each:
        known = values[~np.isnan(values)]
        if len(known) > 1:
            size = len(known)
            influence = (size - 1) * (known.mean() - known) / size
            cubes += float((influence**3).sum())
            squares += float((influence**2).sum())
    return cubes / (6.0 * squares**1.5) if squares > 0 else 0.0


def bootstrap_p_value(resampled: NDArray[np.float64]) -> float:
    """Return ``min(1, 2 min(1 + #(d* <= 0), 1 + #(d* >= 0)) / (B + 1))``, two-sided.

    It is below 1 - c about where the percentile interval of confidence c leaves 0 out, and can't be
    below ``2 / (B + 1)``.

    Parameters
    ----------
    resampled
        B resampled differences, without NaN.
    """
    rarer = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    return min(1.0, 2.0 * (1 + rarer) / (len(resampled) + 1))
