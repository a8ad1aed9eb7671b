import numpy as np
import pytest

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.base import TensorGroup
from mergekit_audio.methods.task_arithmetic import TaskArithmetic
from mergekit_audio.methods.weighted_average import WeightedAverage


def group(base, models, weights):
    return TensorGroup(
        name="layer.weight",
        base=np.asarray(base, dtype=np.float64),
        models=np.asarray(models, dtype=np.float64),
        weights=tuple(float(weight) for weight in weights),
    )


def test_worked_by_hand():
    # (1·θ₁ + 3·θ₂) / 4 = ((2 - 6) / 4, (0 + 9) / 4) = (-1, 2.25); minus the base (1, 2)
    delta = WeightedAverage().merge_tensor(group([1, 2], [[2, 0], [-2, 3]], [1, 3]))
    assert delta.tolist() == [-2.0, 0.25]


def test_does_not_depend_on_the_sum_of_the_weights():
    models = np.random.default_rng(1).standard_normal((3, 50))
    small = WeightedAverage().merge_tensor(group(np.zeros(50), models, [1, 2, 5]))
    large = WeightedAverage().merge_tensor(group(np.zeros(50), models, [10, 20, 50]))
    np.testing.assert_allclose(small, large, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_is_task_arithmetic_at_one_over_n_bit_for_bit(count):
    random = np.random.default_rng(count)
    base = random.standard_normal(1000)
    models = base + random.standard_normal((count, 1000))
    average = WeightedAverage().merge_tensor(group(base, models, [1.0] * count))
    task = TaskArithmetic().merge_tensor(group(base, models, [1.0] * count))
    assert (average == task * (1 / count)).all()


@pytest.mark.parametrize("weights", [[1.0, -1.0], [0.0], [0.1, 0.2, -0.3], [1e30, -1e30]])
def test_weights_that_sum_to_zero_are_refused(weights):
    with pytest.raises(RecipeError, match=r"models: weighted_average divides by the sum") as caught:
        WeightedAverage().check_weights(weights)
    assert "task_arithmetic" in caught.value.hint


def test_small_and_negative_weights_are_fine():
    WeightedAverage().check_weights([1e-9])
    WeightedAverage().check_weights([-1.0, -2.0])
    WeightedAverage().check_weights([1.0, -0.999])
