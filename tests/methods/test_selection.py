import dataclasses

import numpy as np
import pytest
from groups import in_library, make_group, merge_tensors

from mergekit_audio.methods import _radix, _selection
from mergekit_audio.methods._arrays import kth_largest
from mergekit_audio.methods._selection import Cut, largest_of_model, largest_of_tensor
from mergekit_audio.methods.base import MergeMethod

VALUES = {
    "random": lambda random, size: random.standard_normal(size),
    "equal": lambda random, size: np.ones(size),
    "few values": lambda random, size: random.integers(-2, 3, size) * 0.25,
    "mostly zero": lambda random, size: random.standard_normal(size) * (random.random(size) < 0.1),
    "periodic": lambda random, size: (
        np.where(np.arange(size) % 16 == 0, 100.0, 1.0) + random.random(size)
    ),
    "tiny": lambda random, size: random.standard_normal(size) * 1e-42,
}


class OfTensor(MergeMethod):
    """Marks what is chosen in each tensor."""

    name: str = "of_tensor"
    granularity = "element"
    counts: tuple[int, ...]

    def survey(self, slices, model_survey):
        return largest_of_tensor(
            slices, _selection.magnitudes, lambda group: [self.counts] * len(group.weights)
        )

    def merge_tensor(self, group):
        marks = group.base.reshape(-1) * 0
        for keys, cuts in zip(_selection.magnitudes(group), group.survey, strict=True):
            for cut in cuts:
                marks = marks + cut.contains(keys, group.start) * 1.0
        return marks.reshape(group.base.shape)


class OfModel(OfTensor):
    """Marks what is chosen in the whole model."""

    def survey_model(self, tensors):
        return largest_of_model(
            tensors,
            _selection.magnitudes,
            lambda group: len(group.weights),
            lambda notes, size: [self.counts] * notes[0],
        )

    def survey(self, slices, model_survey):
        return model_survey


def group_of(values, library):
    group = make_group(values.shape, 1)
    group = dataclasses.replace(group, base=np.zeros(values.shape), models=values[None].copy())
    return in_library(group, library)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("held", [2**24, 0])
@pytest.mark.parametrize("kind", VALUES)
def test_chooses_as_many_of_a_tensor_as_asked_the_first_among_equals(
    kind, held, library, monkeypatch
):
    monkeypatch.setattr(_selection, "_HELD_VALUES", held)
    monkeypatch.setattr(_radix, "_SAMPLE_SHARE", 2)
    monkeypatch.setattr(_radix, "_HELD_CODES", 50)
    values = VALUES[kind](np.random.default_rng(3), 500)
    keys = np.abs(values).astype(np.float32)
    order = np.argsort(-keys, kind="stable")
    for size in (None, 64, 499):
        counts = (0, 1, 7, 100, 499, 500)
        marks = merge_tensors(OfTensor(counts=counts), {"a": group_of(values, library)}, size)["a"]
        expected = np.zeros(500)
        for count in counts:
            expected[order[:count]] += 1
        assert np.array_equal(marks, expected)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("kind", VALUES)
def test_chooses_of_a_whole_model_with_all_equals(kind, library, monkeypatch):
    monkeypatch.setattr(_radix, "_SAMPLE_SHARE", 2)
    random = np.random.default_rng(4)
    values = {
        name: VALUES[kind](random, size) for name, size in zip("abc", (300, 7, 90), strict=True)
    }
    groups = {name: group_of(each, library) for name, each in values.items()}
    everything = np.sort(np.abs(np.concatenate(list(values.values()))).astype(np.float32))[::-1]
    for count in (0, 1, 40, 396, 397):
        marks = merge_tensors(OfModel(counts=(count,)), groups, 64)
        for name, each in values.items():
            threshold = everything[count - 1] if count else np.inf
            expected = np.abs(each).astype(np.float32) >= threshold
            assert np.array_equal(marks[name], expected * 1.0)


def test_a_cut_ends_among_equals():
    keys = np.array([2, 1, 1, 3, 1], dtype=np.float32)
    cut = Cut(1.0, 12)
    assert cut.contains(keys, 10).tolist() == [True, True, True, True, False]
    assert cut.contains(keys, 13).tolist() == [True, False, False, True, False]
    assert cut.contains(keys, 5).tolist() == [True] * 5


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("margin", [-1e9, 0.0, 1e9])
@pytest.mark.parametrize("kind", VALUES)
def test_is_exact_however_wrong_the_sample_is(kind, margin, library, monkeypatch):
    monkeypatch.setattr(_selection, "_HELD_VALUES", 0)
    monkeypatch.setattr(_radix, "_SAMPLE_SHARE", 2)
    monkeypatch.setattr(_radix, "_supposed", misled(margin))
    values = VALUES[kind](np.random.default_rng(5), 500)
    counts = (1, 7, 250, 499)
    marks = merge_tensors(OfTensor(counts=counts), {"a": group_of(values, library)}, 64)["a"]
    order = np.argsort(-np.abs(values).astype(np.float32), kind="stable")
    expected = np.zeros(500)
    for count in counts:
        expected[order[:count]] += 1
    assert np.array_equal(marks, expected)


def misled(shift):
    """Return the guess of a bracket, moved."""
    guess = _radix._supposed

    def supposed(sample, key, n, size):
        found = guess(sample, key, n, size)
        low = int(np.clip(found.low + shift, -1, 2**31 - 2))
        return found._replace(low=low, high=int(np.clip(found.high + shift, low + 1, 2**31 - 1)))

    return supposed


@pytest.mark.parametrize("kind", [*VALUES, "undefined"])
def test_the_kth_largest_of_many(kind):
    random = np.random.default_rng(6)
    make = VALUES.get(kind, lambda random, size: np.where(random.random(size) < 0.1, np.nan, 1.0))
    values = make(random, 100_000)
    ordered = np.sort(values)  # undefined values last, as the largest
    for count in (1, 2, 5_000, 50_000, 99_999, 100_000):
        assert np.array_equal(kth_largest(values, count), ordered[-count], equal_nan=True)
