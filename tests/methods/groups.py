"""Tensor groups for tests of merge methods, in one library or the other, whole or in slices."""

import dataclasses
import math

import numpy as np
import torch

from mergekit_audio.methods._arrays import to_numpy
from mergekit_audio.methods.base import TensorGroup


def make_group(shape, count, seed=0, *, equal=False, library="numpy", **fields):
    """Return a random group: base N(0, 1), task vectors N(0, 0.1²), weights in [0.5, 1.5)."""
    random = np.random.default_rng(seed)
    base = random.standard_normal(shape)
    noise = 0.1 * random.standard_normal((count, *shape))
    models = np.broadcast_to(base, (count, *shape)).copy() if equal else base + noise
    values = {
        "name": "encoder.layers.0.weight",
        "base": np.asarray(base),
        "models": models,
        "weights": tuple((random.random(count) + 0.5).tolist()),
        "parameters": tuple({} for _ in range(count)),
        "labels": tuple(f"m{i}" for i in range(count)),
        "digests": tuple(f"{i:064x}" for i in range(count)),
        "layer": (0, 12),
        **fields,
    }
    group = TensorGroup(**values)
    return in_library(group, library)


def in_library(group, library):
    """Return the group with arrays of numpy or torch."""
    convert = to_numpy if library == "numpy" else lambda array: torch.from_numpy(to_numpy(array))
    return dataclasses.replace(
        group,
        base=convert(group.base),
        models=convert(group.models),
        statistics={kind: convert(each) for kind, each in group.statistics.items()},
    )


def merge(method, group):
    """Return Δ of a whole tensor, as numpy, after the method's surveys."""
    return merge_tensors(method, {group.name: group})[group.name]


def merge_sliced(method, group, size):
    """Return Δ of a tensor that is cut into slices of about ``size`` elements."""
    return merge_tensors(method, {group.name: group}, size)[group.name]


def merge_tensors(method, groups, size=None):
    """Return Δ of several tensors by name, as numpy, after surveys over all of them."""
    slices = {name: _Slices(group, method.granularity, size) for name, group in groups.items()}
    model_survey = method.survey_model(_Tensors([slices[name] for name in sorted(slices)]))
    return {name: _merged(method, slices[name], model_survey) for name in sorted(slices)}


def _merged(method, slices, model_survey):
    survey = method.survey(slices, model_survey)
    parts = []
    for group in slices:
        seen = dataclasses.replace(group, survey=survey, model_survey=model_survey)
        delta = to_numpy(method.merge_tensor(seen))
        assert delta.shape == tuple(group.base.shape)
        assert delta.dtype == np.float64
        parts.append(delta.reshape(-1))
    return np.concatenate(parts).reshape(slices.shape)


class _Slices:
    def __init__(self, group, granularity, size):
        self.group = group
        self.name, self.layer = group.name, group.layer
        self.shape = tuple(group.base.shape)
        self.granularity, self.size = granularity, size

    def __iter__(self):
        group, count = self.group, len(self.group.weights)
        if self.size is None or self.granularity == "tensor" or not self.shape:
            yield group
            return
        if self.granularity == "row":
            per_row = math.prod(self.shape[1:])
            rows = max(1, self.size // max(per_row, 1))
            for start in range(0, self.shape[0], rows):
                yield self._cut(
                    group.base[start : start + rows],
                    group.models[:, start : start + rows],
                    start * per_row,
                )
            return
        flat, models = group.base.reshape(-1), group.models.reshape(count, -1)
        for start in range(0, math.prod(self.shape), self.size):
            yield self._cut(
                flat[start : start + self.size], models[:, start : start + self.size], start
            )

    def sampled(self, step):
        group, count = self.group, len(self.group.weights)
        models = group.models.reshape(count, -1)[:, ::step]
        yield dataclasses.replace(
            group, base=group.base.reshape(-1)[::step], models=models, shape=self.shape
        )

    def _cut(self, base, models, start):
        group = self.group
        statistics = {
            kind: _cut_statistic(each, self.shape, base, start)
            for kind, each in group.statistics.items()
        }
        return dataclasses.replace(
            group, base=base, models=models, start=start, shape=self.shape, statistics=statistics
        )


def _cut_statistic(array, shape, base, start):
    if tuple(array.shape[1:]) != shape:
        return array
    size = math.prod(base.shape)
    flat = array.reshape(array.shape[0], -1)[:, start : start + size]
    return flat.reshape(array.shape[0], *base.shape)


class _Tensors:
    def __init__(self, slices):
        self.slices = slices
        self.size = sum(math.prod(each.shape) for each in slices)

    def map(self, function):
        return [function(each) for each in self.slices]
