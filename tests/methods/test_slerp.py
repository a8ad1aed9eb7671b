import math

import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.slerp import Slerp


def slerp(a, b, t):
    norms = [np.linalg.norm(x) if np.linalg.norm(x) > 1e-8 else 1.0 for x in (a, b)]
    cosine = float(np.clip((a / norms[0] * (b / norms[1])).sum(), -1, 1))
    if abs(cosine) > 0.9995:
        return (1 - t) * a + t * b
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def test_worked_by_hand():
    # a = (1, 0), b = (0, 2): 90 degrees; halfway sin 45° = √½ of each: (0.7071, 1.4142) minus a
    group = make_group((2,), 1, base=np.array([1.0, 0.0]), models=np.array([[0.0, 2.0]]))
    assert merge(Slerp(t=0.5), group) == pytest.approx([math.sqrt(0.5) - 1, math.sqrt(2)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("t", [-0.2, 0.0, 0.3, 1.0])
def test_from_the_base_to_a_model(shape, t):
    group = make_group(shape, 1, seed=3)
    group = make_group(shape, 1, base=group.base, models=group.models * 3 - 2 * group.base[None])
    expected = slerp(group.base, group.models[0], t) - group.base
    assert_merges_to(Slerp(t=t), group, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_from_the_first_to_the_second_of_two_models(shape):
    random = np.random.default_rng(4)
    group = make_group(shape, 2, models=random.standard_normal((2, *shape)))
    expected = slerp(*group.models, 0.3) - group.base
    assert_merges_to(Slerp(t=0.3), group, expected)


def test_nearly_collinear_tensors_are_joined_linearly():
    group = make_group((6, 5), 1, seed=1)
    near = make_group((6, 5), 1, base=group.base, models=group.base[None] * 1.5)
    assert_merges_to(Slerp(t=0.3), near, 0.15 * near.base)
    opposite = make_group((6, 5), 1, base=group.base, models=-2 * group.base[None])
    assert_merges_to(Slerp(t=0.3), opposite, -0.9 * group.base)


def test_a_model_of_zeros_is_perpendicular():
    group = make_group((4,), 1, models=np.zeros((1, 4)))
    assert_merges_to(Slerp(t=0.5), group, (math.sqrt(0.5) - 1) * group.base)


def test_keeps_the_order_of_the_recipe_and_refuses_weights():
    assert not Slerp(t=0.5).symmetric
    Slerp(t=0.5).check_weights([1.0, 1.0])
    with pytest.raises(RecipeError, match=r"models\[1\]\.weight: slerp has no weights, found 0\.5"):
        Slerp(t=0.5).check_weights([1.0, 0.5])
