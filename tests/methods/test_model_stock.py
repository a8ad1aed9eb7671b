import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.model_stock import ModelStock


def ratio(tau, smallest=0.0):
    """T of task vectors, shape [K, n]."""
    cosines = []
    for i in range(len(tau)):
        for j in range(i + 1, len(tau)):
            norm = max(np.linalg.norm(tau[i]) * np.linalg.norm(tau[j]), smallest)
            cosines.append(0.0 if norm == 0 else np.clip(tau[i] @ tau[j] / norm, -1, 1))
    mean, count = np.mean(cosines), len(tau)
    below = 1 + (count - 1) * mean
    return 0.0 if abs(below) < 1e-6 else count * mean / below


def test_worked_by_hand():
    # τ = (1, 0), (1, 1): cos = √½, t = 2 √½ / (1 + √½) = 0.828427, mean τ = (1, ½)
    models = np.array([[2.0, 1.0], [2.0, 2.0]])
    group = make_group((2,), 2, base=np.ones(2), models=models)
    assert merge(ModelStock(), group) == pytest.approx([0.8284271, 0.4142136])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
def test_one_ratio_for_the_tensor(shape, count, semantics):
    group = make_group(shape, count, seed=count)
    tau = group.task_vectors
    smallest = 1e-6 if semantics == "mergekit" else 0.0
    expected = ratio(tau.reshape(count, -1), smallest) * tau.mean(0)
    assert_merges_to(ModelStock(semantics=semantics), group, expected)


@pytest.mark.parametrize("shape", [(), (5,), (7, 3), (4, 3, 2)])
@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
def test_one_ratio_for_each_filter(shape, semantics):
    group = make_group(shape, 3, seed=9)
    tau = group.task_vectors
    if len(shape) < 2:
        filters = tau.reshape(3, 1, -1)
    else:
        filters = tau.reshape(3, -1, shape[-1]) if semantics == "mergekit" else tau
        filters = filters.reshape(3, filters.shape[1], -1)
    rows = [
        ratio(filters[:, i], 1e-6 if semantics == "mergekit" else 0.0) * filters[:, i].mean(0)
        for i in range(filters.shape[1])
    ]
    expected = np.stack(rows).reshape(shape)
    assert_merges_to(ModelStock(filter_wise=True, semantics=semantics), group, expected)


def test_short_task_vectors_are_drawn_to_the_base_only_by_mergekit():
    tau = 1e-4 * np.array([[1.0, 0.0], [1.0, 1.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=tau)
    assert merge(ModelStock(), group)[0] == pytest.approx(8.284271e-5)
    # ⟨τ₁, τ₂⟩ = 1e-8, over 1e-6 instead of 1.41e-8: c = 0.01, t = 0.02 / 1.01
    assert merge(ModelStock(semantics="mergekit"), group)[0] == pytest.approx(0.02 / 1.01 * 1e-4)


def test_opposite_task_vectors_keep_the_base():
    tau = np.array([[1.0, 2.0], [-2.0, -4.0]])
    group = make_group((2,), 2, base=np.zeros(2), models=tau)
    assert_merges_to(ModelStock(), group, [0.0, 0.0])


def test_filters_of_zeros_are_finite():
    group = make_group((3, 4), 3, equal=True)
    assert (merge(ModelStock(filter_wise=True), group) == 0).all()


def test_needs_whole_rows_for_filters_and_refuses_weights():
    assert ModelStock().granularity == "element"
    assert ModelStock(filter_wise=True).granularity == "row"
    with pytest.raises(RecipeError, match="model_stock has no weights"):
        ModelStock().check_weights([2.0, 1.0])
