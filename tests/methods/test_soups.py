"""The methods that are one line of arithmetic: uniform soup, WiSE-FT, ExPO."""

import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge
from pydantic import ValidationError

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.expo import Expo
from mergekit_audio.methods.uniform_soup import UniformSoup
from mergekit_audio.methods.wise_ft import WiseFt


def test_uniform_soup_worked_by_hand():
    # ((3, 1) + (1, 4) + (2, 1)) / 3 = (2, 2), minus (1, 2)
    models = np.array([[3.0, 1.0], [1.0, 4.0], [2.0, 1.0]])
    group = make_group((2,), 3, base=np.array([1.0, 2.0]), models=models)
    assert merge(UniformSoup(), group) == pytest.approx([1.0, 0.0])


def test_wise_ft_worked_by_hand():
    # ¾ · (1, 2) + ¼ · (5, 0) = (2, 1.5), minus (1, 2)
    group = make_group((2,), 1, base=np.array([1.0, 2.0]), models=np.array([[5.0, 0.0]]))
    assert merge(WiseFt(alpha=0.25), group).tolist() == [1.0, -0.5]


def test_expo_worked_by_hand():
    # (5, 0) + ½ · (4, −2) = (7, −1), minus (1, 2)
    group = make_group((2,), 1, base=np.array([1.0, 2.0]), models=np.array([[5.0, 0.0]]))
    assert merge(Expo(alpha=0.5), group).tolist() == [6.0, -3.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_uniform_soup_is_the_mean_whatever_the_base(shape, count):
    group = make_group(shape, count, seed=count)
    assert_merges_to(UniformSoup(), group, group.models.mean(0) - group.base)


@pytest.mark.parametrize("shape", SHAPES)
def test_wise_ft_and_expo_agree_with_their_formulas(shape):
    group = make_group(shape, 1, seed=3)
    base, model = group.base, group.models[0]
    for alpha in (0.0, 0.3, 1.0):
        assert_merges_to(WiseFt(alpha=alpha), group, (1 - alpha) * base + alpha * model - base)
        assert_merges_to(Expo(alpha=alpha), group, model + alpha * (model - base) - base)


@pytest.mark.parametrize("method", [UniformSoup(), WiseFt(), Expo()])
def test_refuse_weights_that_would_have_no_effect(method):
    method.check_weights([1.0])
    with pytest.raises(RecipeError, match=rf"models\[0\]\.weight: {method.name} has no weights"):
        method.check_weights([0.5])


def test_alpha_is_bounded():
    with pytest.raises(ValidationError):
        WiseFt(alpha=1.5)
    with pytest.raises(ValidationError):
        Expo(alpha=-0.1)
