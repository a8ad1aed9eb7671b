import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.passthrough import Passthrough


def test_worked_by_hand():
    # ½ · (4, 2) − (1, 1)
    group = make_group((2,), 1, base=np.ones(2), models=np.array([[4.0, 2.0]]))
    assert merge(Passthrough(factor=0.5), group).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("factor", [None, 0.0, 1.0, -0.7])
def test_gives_the_model_times_the_factor(shape, factor):
    group = make_group(shape, 1)
    times = 1.0 if factor is None else factor
    assert_merges_to(Passthrough(factor=factor), group, times * group.models[0] - group.base)


def test_a_models_own_factor_counts_before_the_methods():
    group = make_group((3,), 1, parameters=({"factor": 2.0},))
    assert_merges_to(Passthrough(factor=5.0), group, 2 * group.models[0] - group.base)


def test_says_when_an_equal_model_may_move_the_base_and_refuses_weights():
    assert Passthrough().anchored
    assert Passthrough(factor=1).anchored
    assert not Passthrough(factor=0.5).anchored
    with pytest.raises(RecipeError, match="passthrough has no weights"):
        Passthrough().check_weights([0.5])
