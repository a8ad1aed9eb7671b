import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.multislerp import Multislerp


def multislerp(x, weights, eps=1e-8):
    shape = x.shape[1:]
    x = x.reshape(len(x), -1)
    weights = np.asarray(weights)
    norms = np.array([np.sqrt((each**2).sum()) for each in x])
    units = x / (norms + eps)[:, None]
    mean = (weights[:, None] * units).sum(0)
    mean = mean / np.sqrt((mean**2).sum())
    tangents = units - (units @ mean)[:, None] * mean
    step = (weights[:, None] * tangents).sum(0)
    length = np.sqrt((step**2).sum()) + eps
    result = mean * np.cos(length) + step * np.sin(length) / length
    return (result * (weights * norms).sum()).reshape(shape)


def test_worked_by_hand():
    # τ = (3, 0), (0, 1), equal weights ½: direction (1, 1)/√2, norm ½ · 3 + ½ · 1 = 2
    models = np.array([[4.0, 1.0], [1.0, 2.0]])
    group = make_group((2,), 2, base=np.ones(2), models=models, weights=(1.0, 1.0))
    assert merge(Multislerp(), group) == pytest.approx([np.sqrt(2), np.sqrt(2)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("space", ["task_vectors", "weights"])
@pytest.mark.parametrize("normalize", [True, False])
def test_agrees_with_the_published_form(shape, count, space, normalize):
    group = make_group(shape, count, seed=count + 2)
    weights = np.array(group.weights)
    if normalize:
        weights = weights / weights.sum()
    x = group.task_vectors if space == "task_vectors" else group.models
    expected = multislerp(x, weights) - (group.base if space == "weights" else 0)
    assert_merges_to(
        Multislerp(space=space, normalize_weights=normalize), group, expected, atol=1e-9
    )


@pytest.mark.parametrize("space", ["task_vectors", "weights"])
def test_one_model_stays_itself(space):
    group = make_group((3, 2), 1, weights=(0.3,))
    method = Multislerp(space=space, normalize_weights=False)
    assert_merges_to(method, group, group.models[0] - group.base)


def test_directions_that_cancel_give_the_linear_combination():
    tau = np.array([[1.0, 2.0], [-2.0, -4.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=tau, weights=(1.0, 1.0))
    assert_merges_to(Multislerp(eps=1e-6), group, tau.mean(0))
    frozen = make_group((4,), 3, equal=True)
    assert (merge(Multislerp(), frozen) == 0).all()
    assert (merge(Multislerp(space="weights"), frozen) == 0).all()


def test_directions_that_nearly_cancel_keep_their_digits():
    tau = np.array([[1.0, 2.0], [-1.0, -2.0 + 3e-7]])
    group = make_group((2,), 2, base=np.zeros(2), models=tau, weights=(1.0, 1.0))
    assert_merges_to(Multislerp(), group, multislerp(tau, [0.5, 0.5]), atol=1e-7)


def test_refuses_weights_that_sum_to_zero_only_where_it_divides_by_the_sum():
    with pytest.raises(RecipeError, match="multislerp divides by the sum of the weights"):
        Multislerp().check_weights([1.0, -1.0])
    Multislerp(normalize_weights=False).check_weights([1.0, -1.0])


def test_says_when_equal_models_may_move_the_base():
    assert Multislerp().anchored
    assert Multislerp(space="weights").anchored
    assert not Multislerp(space="weights", normalize_weights=False).anchored
