import numpy as np

from mergekit_audio.methods.base import TensorGroup
from mergekit_audio.methods.task_arithmetic import TaskArithmetic


def group(base, models, weights):
    return TensorGroup(
        name="layer.weight",
        base=np.asarray(base, dtype=np.float64),
        models=np.asarray(models, dtype=np.float64),
        weights=tuple(float(weight) for weight in weights),
    )


def test_worked_by_hand():
    # τ₁ = (1, -2), τ₂ = (-3, 0.5): 1·τ₁ + 2·τ₂ = (-5, -1)
    delta = TaskArithmetic().merge_tensor(group([1, 2], [[2, 0], [-2, 2.5]], [1, 2]))
    assert delta.tolist() == [-5.0, -1.0]


def test_negative_weight_takes_a_task_away():
    learnt = group([1.0, 2.0], [[1.5, 2.25]], [1.0])
    forgotten = group([1.0, 2.0], [[1.5, 2.25]], [-1.0])
    method = TaskArithmetic()
    assert (method.merge_tensor(forgotten) == -method.merge_tensor(learnt)).all()


def test_analogy_adds_and_takes_away():
    # τ_C + τ_B - τ_A (Ilharco et al., section 5)
    delta = TaskArithmetic().merge_tensor(group([0, 0], [[1, 2], [10, 20], [100, 200]], [-1, 1, 1]))
    assert delta.tolist() == [109.0, 218.0]


def test_sums_in_the_order_of_the_models():
    # (1e16 + 1) - 1e16 = 0 in float64, whereas (1e16 - 1e16) + 1 = 1
    method = TaskArithmetic()
    assert method.merge_tensor(group([0], [[1e16], [1], [-1e16]], [1, 1, 1])).item() == 0.0
    assert method.merge_tensor(group([0], [[1e16], [-1e16], [1]], [1, 1, 1])).item() == 1.0
