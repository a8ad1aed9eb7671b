"""Features between those of some λ, and how far they are from computed ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import Features

INTERPOLATION_VERSION = 1
_ROWS = 256


def interpolated(nodes: Sequence[Features], weights: Sequence[float]) -> Features:
    """Return ``Σ_j w_j f_j`` of the nodes' features, summed in float64 in the nodes' order."""
    first = nodes[0]
    values = np.empty(first.values.shape, dtype=np.float32)
    for start in range(0, len(values), _ROWS):
        run = slice(start, start + _ROWS)
        total = np.zeros(values[run].shape)
        for node, weight in zip(nodes, weights, strict=True):
            total += weight * node.values[run].astype(np.float64)
        values[run] = total
    return Features(
        key=interpolated_key([node.key for node in nodes], weights),
        values=values,
        layers=first.layers,
        state_count=first.state_count,
        track_of_chunk=first.track_of_chunk,
        track_ids=first.track_ids,
        facts={**first.facts, "interpolated_from": len(nodes)},
    )


def held_out_error(found: Features, direct: Features, origin: Features) -> dict[str, float]:
    """Return the mean and the largest error of interpolated features, relative to their mean shift.

    ``‖f̂_i - f_i‖ / mean_j ‖f_j - f_j(0)‖`` over chunks and layers i: ``interpolation``'s
    ``relative_errors``, some chunks at a time. Where nothing is shifted, relative to the features.
    """
    total = largest = shift = size = 0.0
    for start in range(0, len(direct.values), _ROWS):
        run = slice(start, start + _ROWS)
        exact = direct.values[run].astype(np.float64)
        norms = _norms(found.values[run] - exact)
        total += float(norms.sum())
        largest = max(largest, float(norms.max()))
        shift += float(_norms(exact - origin.values[run]).sum())
        size += float(_norms(exact).sum())
    rows, unit = direct.values.shape[0] * direct.values.shape[1], shift or size or 1.0
    return {"mean": total / unit, "max": largest * rows / unit}


def interpolated_key(keys: Sequence[str], weights: Sequence[float]) -> str:
    """Return what interpolated features depend on, as one sha256."""
    described = {"interpolated": INTERPOLATION_VERSION, "nodes": list(keys), "weights": weights}
    return sha256_of_text(canonical_json(described))


def _norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.square(values).sum(axis=-1))
    return norms
