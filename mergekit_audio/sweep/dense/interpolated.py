"""Features between those of some λ, and how far they are from computed ones."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mergekit_audio.files import canonical_json, sha256_of_text
from mergekit_audio.probe.features import Features
from mergekit_audio.sweep.dense.interpolation import Box, Interpolant

INTERPOLATION_VERSION = 1
_ROWS = 256


Scales = tuple[float, ...]


@dataclass(frozen=True)
class Node:
    """A λ where features were extracted: its row's key, and its features by task.

    ``files`` are those of the cache, by task, also where ``features`` are of some of their rows.
    """

    digest: str
    key: str
    features: Mapping[str, Features]
    files: tuple[tuple[str, Path], ...] = ()

    def of_tracks(self, only: Mapping[str, NDArray[np.bool_] | None]) -> Node:
        """Return the features of some tracks of each task alone, shape ``[tracks]``."""
        found = {
            name: features if (mask := only[name]) is None else features.of_tracks(mask)
            for name, features in self.features.items()
        }
        return replace(self, features=found)


@dataclass(frozen=True)
class Interpolation:
    """What was found for one variant of the method.

    Parameters
    ----------
    variant
        Which.
    box
        Where λ were interpolated; smaller than the space's where merges diverge.
    nodes
        The λ where features were extracted, in their order, with their features.
    degree
        The polynomial's total degree.
    accepted
        Whether the last tests are below the tolerance.
    tests
        For each degree that was tried, at λ that it had not seen: ``scales``, ``degree``, its
        ``nodes``, ``tasks`` with the ``mean`` and ``max`` error of each over layers and the chunks
        of some ``tracks``, ``of_tracks``, in units of the largest mean shift from the base among
        these λ, and what of this unit is bfloat16's ``rounding``.
    notes
        What a reader must know.
    chosen
        ``scales`` and ``tasks`` of one more test on all tracks, at the chosen λ.
    """

    variant: int
    box: Box
    nodes: Mapping[Scales, Node]
    degree: int
    accepted: bool
    tests: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()
    chosen: Mapping[str, Any] | None = None

    def features(self, scales: Scales, task: str) -> Features:
        """Return the features of a task at λ: those of a node, or interpolated ones, float32."""
        if scales in self.nodes:
            return self.nodes[scales].features[task]
        return interpolated(
            [node.features[task] for node in self.nodes.values()], self._weights(scales)
        )

    def checked(self, scales: Scales, direct: Mapping[str, Features]) -> Interpolation:
        """Return this interpolation with its error at the chosen λ, on all tracks that it has."""
        errors = {}
        for task, features in direct.items():
            near = self.features(scales, task)
            own = features.of_tracks(np.isin(np.arange(len(near.track_ids)), near.track_of_chunk))
            nodes = [node.features[task] for node in self.nodes.values()]
            base = self.nodes[(0.0,) * len(scales)].features[task]
            unit = max(mean_shift(each, base)[0] for each in nodes) or 1.0
            errors[task] = held_out_error(near, own, unit)
        worst = max(each["mean"] for each in errors.values())
        note = (
            f"At the chosen λ, on all tracks of training and validation, interpolated features "
            f"were off by {worst:.2g} of the largest shift from the base."
        )
        chosen = {"scales": list(scales), "tasks": errors}
        return replace(self, notes=[*self.notes, note], chosen=chosen)

    def key(self, scales: Scales) -> str:
        """Return what interpolated features depend on: the nodes' keys and their weights."""
        keys = [node.key for node in self.nodes.values()]
        return interpolated_key(keys, self._weights(scales))

    def as_dict(self, tolerance: float) -> dict[str, Any]:
        """Return plain values for the summary."""
        return {
            "variant": self.variant,
            "low": list(self.box.low),
            "high": list(self.box.high),
            "nodes": [list(scales) for scales in self.nodes],
            "degree": self.degree,
            "tolerance": tolerance,
            "accepted": self.accepted,
            "tests": [dict(test) for test in self.tests],
            "chosen": self.chosen,
            "notes": list(self.notes),
        }

    def _weights(self, scales: Scales) -> list[float]:
        """Return each node's weight, rounded to 12 digits: what the key says is what is used."""
        weights = self._interpolant.weights(np.array([scales]))[0]
        return [float(f"{weight:.12g}") for weight in weights]

    @functools.cached_property
    def _interpolant(self) -> Interpolant:
        return Interpolant(self.box, np.array(list(self.nodes)), self.degree)


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


def mean_shift(features: Features, origin: Features) -> tuple[float, float]:
    """Return how far features lie from those of the base, and how long they are.

    ``mean_i ‖f_i - f_i(0)‖`` and ``mean_i ‖f_i‖`` over chunks and layers i.
    """
    shift = size = 0.0
    for start in range(0, len(features.values), _ROWS):
        run = slice(start, start + _ROWS)
        exact = features.values[run].astype(np.float64)
        shift += float(_norms(exact - origin.values[run]).sum())
        size += float(_norms(exact).sum())
    rows = features.values.shape[0] * features.values.shape[1]
    return shift / rows, size / rows


def held_out_error(found: Features, direct: Features, unit: float) -> dict[str, float]:
    """Return the mean and the largest error of interpolated features, ``‖f̂_i - f_i‖ / unit``.

    Parameters
    ----------
    found, direct
        Interpolated and computed features.
    unit
        A mean shift from the base.
    """
    total = largest = 0.0
    for start in range(0, len(direct.values), _ROWS):
        run = slice(start, start + _ROWS)
        norms = _norms(found.values[run].astype(np.float64) - direct.values[run])
        total += float(norms.sum())
        largest = max(largest, float(norms.max()))
    rows = direct.values.shape[0] * direct.values.shape[1]
    return {"mean": total / rows / unit, "max": largest / unit}


def interpolated_key(keys: Sequence[str], weights: Sequence[float]) -> str:
    """Return what interpolated features depend on, as one sha256."""
    described = {"interpolated": INTERPOLATION_VERSION, "nodes": list(keys), "weights": weights}
    return sha256_of_text(canonical_json(described))


def _norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    norms: NDArray[np.float64] = np.sqrt(np.square(values).sum(axis=-1))
    return norms
