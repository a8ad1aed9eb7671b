import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.methods.magmax import Magmax


def magmax(tau, weights):
    flat = tau.reshape(len(tau), -1)
    result = np.zeros(flat.shape[1])
    for place in range(flat.shape[1]):
        for each, weight in zip(flat, weights, strict=True):
            if abs(weight * each[place]) >= abs(result[place]):
                result[place] = weight * each[place]
    return result.reshape(tau.shape[1:])


def test_worked_by_hand():
    # largest: −3 of the second; 2 of the first; tie of 1 and −1: the later, −1
    tau = np.array([[1.0, 2.0, 1.0], [-3.0, 0.5, -1.0]])
    group = make_group((3,), 2, base=np.zeros(3), models=tau, weights=(1.0, 1.0))
    assert merge(Magmax(), group).tolist() == [-3.0, 2.0, -1.0]


def test_weights_scale_before_the_comparison():
    tau = np.array([[1.0, 2.0], [-3.0, 0.5]])
    group = make_group((2,), 2, base=np.zeros(2), models=tau, weights=(4.0, -1.0))
    assert merge(Magmax(), group).tolist() == [4.0, 8.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_agrees_with_the_formula(shape, count):
    group = make_group(shape, count, seed=count)
    assert_merges_to(Magmax(), group, magmax(group.task_vectors, group.weights))


def test_ties_go_to_the_later_model():
    random = np.random.default_rng(0)
    models = random.integers(-1, 2, (4, 30)).astype(float)
    group = make_group((30,), 4, base=np.zeros(30), models=models, weights=(1.0,) * 4)
    assert not Magmax().symmetric
    assert_merges_to(Magmax(), group, magmax(models, (1.0,) * 4))
