import math

import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.karcher import Karcher


def karcher(models, weights, steps=10, tol=1e-5):
    shape = models.shape[1:]
    x = models.reshape(len(models), -1)
    alphas = np.asarray(weights) / np.sum(weights)
    norms = np.sqrt((x**2).sum(1))
    units = [(a, u / n) for a, u, n in zip(alphas, x, norms, strict=True) if n > tol]
    total = sum(a for a, _ in units)
    mean = sum(a / total * u for a, u in units)
    mean = mean / np.sqrt(mean @ mean)
    for _ in range(steps):
        step = np.zeros_like(mean)
        for a, u in units:
            cosine = min(max(float(mean @ u), -1.0), 1.0)
            angle = math.acos(cosine)
            if angle >= tol:
                step = step + a / total * angle / math.sin(angle) * (u - cosine * mean)
        length = math.sqrt(step @ step)
        if length < tol:
            break
        mean = math.cos(length) * mean + math.sin(length) * step / length
        mean = mean / math.sqrt(mean @ mean)
    return ((alphas * norms).sum() * mean).reshape(shape)


def test_worked_by_hand():
    # (4, 0) and (0, 2) with equal weights: 45 degrees, mean norm 3
    models = np.array([[4.0, 0.0], [0.0, 2.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=models, weights=(1.0, 1.0))
    assert merge(Karcher(), group) == pytest.approx([3 / math.sqrt(2)] * 2)


def test_weights_move_the_mean_along_the_arc():
    # weights 2 and 1 divide the right angle at 30 degrees
    models = np.array([[1.0, 0.0], [0.0, 1.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=models, weights=(2.0, 1.0))
    expected = [math.cos(math.pi / 6), math.sin(math.pi / 6)]
    assert merge(Karcher(max_iter=50, tol=1e-12), group) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(5,), (7, 3), (4, 3, 2)])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("equal_weights", [True, False])
def test_agrees_with_the_iteration(shape, count, equal_weights):
    random = np.random.default_rng(count)
    group = make_group(shape, count, models=random.standard_normal((count, *shape)) + 0.5)
    weights = (1.0,) * count if equal_weights else group.weights
    group = make_group(shape, count, base=group.base, models=group.models, weights=weights)
    assert_merges_to(Karcher(), group, karcher(group.models, weights) - group.base)


@pytest.mark.parametrize("shape", SHAPES)
def test_models_near_each_other_agree_too(shape):
    group = make_group(shape, 3, seed=8)
    positive = make_group(shape, 3, base=group.base, models=abs(group.models) + 0.1)
    expected = karcher(positive.models, positive.weights) - positive.base
    assert_merges_to(Karcher(), positive, expected)


def test_a_model_of_zeros_has_no_direction_but_counts_in_the_norm():
    models = np.array([[3.0, 0.0], [0.0, 0.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=models, weights=(1.0, 1.0))
    assert_merges_to(Karcher(), group, [1.5, 0.0])


def test_tiny_tensors_are_averaged_and_opposite_ones_follow_the_first():
    tiny = np.array([[2e-6, 0.0], [0.0, 4e-6]])
    group = make_group((2,), 2, base=np.zeros(2), models=tiny, weights=(1.0, 1.0))
    assert_merges_to(Karcher(), group, [1e-6, 2e-6], atol=1e-20)
    opposite = np.array([[1.0, 0.0], [-3.0, 0.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=opposite, weights=(1.0, 1.0))
    assert merge(Karcher(max_iter=0), group) == pytest.approx([2.0, 0.0])


def test_equal_models_leave_the_base_exactly():
    assert (merge(Karcher(), make_group((50,), 3, equal=True)) == 0).all()


def test_refuses_negative_weights():
    with pytest.raises(RecipeError, match=r"karcher needs weights >= 0, found -1"):
        Karcher().check_weights([1.0, -1.0])
    with pytest.raises(RecipeError, match="divides by the sum"):
        Karcher().check_weights([0.0, 0.0])
