"""The merge of a greedy soup: the weighted mean of the accepted models."""

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.greedy_soup import GreedySoup


def test_by_hand():
    group = make_group(
        (2,), 3, base=np.array([1.0, 1.0]), weights=(1.0, 3.0, 1.0),
        models=np.array([[2.0, 3.0], [6.0, 1.0], [100.0, np.inf]]),
    )  # fmt: skip
    delta = merge(GreedySoup(accepted=["m0", "m1"]), group)
    assert delta.tolist() == [(1 * 1 + 3 * 5) / 4, (1 * 2 + 3 * 0) / 4]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("accepted", [["m0"], ["m2", "m0"], ["m0", "m1", "m2"]])
@pytest.mark.parametrize("shape", [(), (5,), (7, 3), (4, 3, 2)])
def test_the_mean(shape, accepted, library):
    group = make_group(shape, 3, library=library)
    plain = make_group(shape, 3)
    places = sorted(int(name[1]) for name in accepted)
    weights = [plain.weights[i] for i in places]
    expected = np.average(plain.models[places], axis=0, weights=weights) - plain.base
    method = GreedySoup(accepted=accepted)
    assert np.allclose(merge(method, group), expected, atol=1e-14)
    assert (merge_sliced(method, group, 4) == merge(method, group)).all()


def test_an_undecided_soup_says_what_decides():
    with pytest.raises(RecipeError, match="decided by probing"):
        merge(GreedySoup(), make_group((3,), 2))


@pytest.mark.parametrize(
    ("accepted", "labels", "problem"),
    [
        (["lyr"], ["makam", "lyra"], "lyr: no such model; there are makam, lyra"),
        (["lyra", "lyra"], ["makam", "lyra"], "accepted once"),
        (None, ["lyra", "lyra"], "names must differ"),
    ],
)
def test_names_are_checked(accepted, labels, problem):
    with pytest.raises(RecipeError, match=problem):
        GreedySoup(accepted=accepted).check_labels(labels)


def test_weights_are_above_zero():
    with pytest.raises(RecipeError, match="above 0"):
        GreedySoup().check_weights([1.0, 0.0])
    GreedySoup(accepted=["a"]).check_weights([1.0, 2.0])
