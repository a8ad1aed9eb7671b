import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge
from pydantic import ValidationError

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.nearswap import Nearswap


def test_worked_by_hand():
    # nearer than t: taken; farther: t of the way; equal: nothing
    models = np.array([[1.05, 1.4, 0.5, 1.0]])
    group = make_group((4,), 1, base=np.ones(4), models=models)
    assert merge(Nearswap(t=0.1), group) == pytest.approx([0.05, 0.1, -0.1, 0.0])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [0.0, 1e-7, 0.05, 10.0])
def test_agrees_with_the_formula(shape, t):
    group = make_group(shape, 1, seed=2)
    a, b = group.base, group.models[0]
    weight = np.minimum(t / np.maximum(abs(a - b), 1e-6), 1)
    assert_merges_to(Nearswap(t=t), group, weight * b + (1 - weight) * a - a)


def test_refuses_a_negative_distance_and_weights():
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Nearswap(t=-1)
    with pytest.raises(RecipeError, match="nearswap has no weights"):
        Nearswap(t=1).check_weights([0.5])
