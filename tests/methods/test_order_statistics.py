import math

import numpy as np
import pytest

from mergekit_audio.methods._order_statistics import order_statistics
from mergekit_audio.methods.base import TensorGroup


class Pieces:
    """The values of one tensor for each model, read in slices; counts the readings."""

    def __init__(self, values, size):
        self.values, self.size, self.readings = values, size, 0
        self.name, self.shape, self.layer = "t", values.shape[1:], None

    def __iter__(self):
        self.readings += 1
        for start in range(0, self.values.shape[1], self.size):
            models = self.values[:, start : start + self.size]
            yield TensorGroup("t", models[0], models, (1.0,) * len(models), start=start)


class Pile:
    def __init__(self, *pieces):
        self.pieces = pieces
        self.size = sum(each.shape[0] for each in pieces)

    def map(self, function):
        return [function(each) for each in self.pieces]


def statistics(values, ranks, *, sample, size=17):
    pieces = [Pieces(each, size) for each in np.array_split(values, 3, axis=1)]
    tensors = Pile(*pieces)

    def asked(models, count):
        assert (models, count) == values.shape
        return ranks

    found = order_statistics(tensors, lambda group: group.models, asked, sample)
    return found, pieces[0].readings


@pytest.mark.parametrize("sample", [1, 10, 100, 10_000])
@pytest.mark.parametrize("kind", ["random", "equal", "rounded", "sorted", "periodic", "zeros"])
def test_is_what_a_sort_gives(kind, sample):
    random = np.random.default_rng(len(kind))
    values = random.standard_normal((2, 1000))
    values = {
        "random": values,
        "equal": np.ones_like(values),
        "rounded": np.round(values),
        "sorted": np.sort(values, axis=1),
        "periodic": np.where(np.arange(1000) % 101 == 0, values, -100 - values**2),
        "zeros": np.where(random.random((2, 1000)) < 0.9, 0, values),
    }[kind]
    ranks = [[0, 1, 500, 998, 999], [0, 250, 900]]
    found, _ = statistics(values, ranks, sample=sample)
    ordered = np.sort(values, axis=1)
    assert found == [[ordered[i, rank] for rank in each] for i, each in enumerate(ranks)]


def test_one_element():
    assert statistics(np.array([[3.0]]), [[0, 0]], sample=5)[0] == [[3.0, 3.0]]


def test_values_may_be_fewer_than_elements():
    pieces = [Pieces(np.arange(20.0).reshape(2, 10), 4), Pieces(np.ones((2, 6)), 4)]

    def scores(group):
        return group.models[:, group.models[0] > 2]  # none of the second piece

    found = order_statistics(Pile(*pieces), scores, lambda models, count: [[0], [count - 1]])
    assert found == [[3.0], [19.0]]
    assert order_statistics(Pile(pieces[1]), scores, lambda models, count: [[0], [0]]) == []


def test_reads_the_model_twice_and_holds_little():
    values = np.random.default_rng(0).standard_normal((1, 200_000))
    ranks = [[20, 180_000, 199_979]]
    found, readings = statistics(values, ranks, sample=10_000, size=4096)
    assert found == [list(np.sort(values[0])[ranks[0]])]
    assert readings == 2
    assert math.isfinite(found[0][0])
