import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.linear import Linear

SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def test_worked_by_hand():
    # (1·θ₁ + 3·θ₂) / 4 = (-1, 2.25), minus the base (1, 2)
    group = make_group((2,), 2, weights=(1.0, 3.0))
    group = dataclasses.replace(
        group, base=np.array([1.0, 2.0]), models=np.array([[2.0, 0.0], [-2.0, 3.0]])
    )
    assert merge(Linear(), group).tolist() == [-2.0, 0.25]
    # 1·θ₁ + 3·θ₂ = (-4, 9), minus the base
    assert merge(Linear(normalize=False), group).tolist() == [-5.0, 7.0]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_equals_its_formula(count, shape, normalize, library):
    group = make_group(shape, count, seed=count)
    mean = sum(w * theta for w, theta in zip(group.weights, group.models, strict=True))
    expected = mean / (sum(group.weights) if normalize else 1.0) - group.base
    method = Linear(normalize=normalize)
    got = merge(method, make_group(shape, count, seed=count, library=library))
    assert np.allclose(got, expected, rtol=0, atol=1e-13)
    assert np.array_equal(merge_sliced(method, group, 4), merge(method, group))


def test_weights_that_sum_to_zero_are_refused_where_it_divides():
    with pytest.raises(RecipeError, match="linear divides by the sum") as caught:
        Linear().check_weights([1.0, -1.0])
    assert "normalize: false" in caught.value.hint
    Linear(normalize=False).check_weights([1.0, -1.0])
