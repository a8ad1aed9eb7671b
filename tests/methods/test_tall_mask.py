import numpy as np
import pytest
from groups import make_group, merge, merge_sliced
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    cases,
    libraries,
    of_task_vectors,
)

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.tall_mask import TallMask


def oracle(group, model, mask_scale):
    base, total = np.asarray(group.base), sum(w * t for w, t in zip_task_vectors(group))
    weight, own = list(zip_task_vectors(group))[model]
    tuned, multi = base + weight * own, base + total
    kept = np.abs(base - tuned) > mask_scale * np.abs(multi - tuned)
    return np.where(kept, total, 0)


def zip_task_vectors(group):
    return zip(group.weights, np.asarray(group.models) - np.asarray(group.base), strict=True)


@libraries
def test_keeps_the_sum_where_the_model_speaks(library):
    group = of_task_vectors([1, 0.5, -1], [1, -0.5, 0.2], library=library)
    np.testing.assert_allclose(merge(TallMask(task="m0"), group), [2, 0, -0.8])
    np.testing.assert_allclose(merge(TallMask(task="m1"), group), [2, 0, 0])


@cases
@pytest.mark.parametrize("mask_scale", [0.2, 0.6])
def test_is_the_formula(shape, mask_scale):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = oracle(make_group(shape, count, seed=3), count - 1, mask_scale)
        method = TallMask(task=f"m{count - 1}", mask_scale=mask_scale)
        delta = merge(method, make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-12)


@libraries
def test_the_multi_task_vector_may_be_that_of_ties(library):
    # the larger half of each: (4, 0, -3, 0) and (-1, 0, 0, 2); agreeing with the sign of the sum
    # (3, 0, -3, 2): t = (4, 0, -3, 2); the first model speaks in the first three places
    group = of_task_vectors([4, 1, -3, 0.1], [-1, 0.5, -0.5, 2], library=library)
    delta = merge(TallMask(task="m0", inner="ties", density=0.5), group)
    np.testing.assert_allclose(delta, [4, 0, -3, 0])


def test_slices_give_the_same_bits():
    group, method = make_group((7, 5), 3), TallMask(task="m1")
    assert np.array_equal(merge_sliced(method, group, 4), merge(method, group))


def test_a_model_that_is_the_base_keeps_nothing():
    assert not merge(TallMask(task="m1"), of_task_vectors([1.0, 2.0], [0.0, 0.0])).any()


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(TallMask(task="m2"), make_group((9, 14), 3))


def test_a_task_that_is_no_model_is_a_fault():
    TallMask(task="makam").check_labels(["makam", "lyra"])
    with pytest.raises(RecipeError, match=r"method\.task.*'makan'.*makam, lyra") as raised:
        TallMask(task="makan").check_labels(["makam", "lyra"])
    assert raised.value.hint == "did you mean 'makam'?"
    with pytest.raises(RecipeError) as raised:
        TallMask(task="jazz").check_labels(["makam", "lyra"])
    assert "name one of the models" in raised.value.hint
