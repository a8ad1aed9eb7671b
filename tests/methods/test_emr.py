import math

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced, merge_tensors
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    cases,
    libraries,
    of_task_vectors,
    weighted,
)

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.emr import Emr


def unified(vectors):
    sign = np.sign(sum(vectors))
    return sign * np.max([np.where(own * sign > 0, np.abs(own), 0) for own in vectors], axis=0)


def oracle(groups, task):
    flat = [
        np.concatenate([weighted(group)[i].reshape(-1) for group in groups])
        for i in range(len(groups[0].weights))
    ]
    merged = unified(flat)
    if task is None:
        return merged
    mask = flat[task] * np.sign(sum(flat)) > 0
    return np.abs(flat[task]).sum() / np.abs(merged * mask).sum() * mask * merged


@libraries
def test_elects_masks_and_rescales(library):
    group = of_task_vectors([1, -2, 3], [2, 1, -1], library=library)
    np.testing.assert_allclose(merge(Emr(), group), [2, -2, 3])
    np.testing.assert_allclose(merge(Emr(task="m0"), group), np.array([2, -2, 3]) * 6 / 7)
    np.testing.assert_allclose(merge(Emr(task="m1"), group), [4, 0, 0])


@cases
@pytest.mark.parametrize("task", [None, 0])
def test_is_the_formula(shape, task):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = oracle([make_group(shape, count, seed=3)], task)
        method = Emr(task=None if task is None else f"m{task}")
        delta = merge(method, make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta.reshape(-1), expected, atol=1e-12)


def test_rescales_by_the_sums_over_all_tensors():
    groups = {name: make_group((5, 3), 3, seed, name=name) for seed, name in enumerate("abc")}
    merged = merge_tensors(Emr(task="m1"), groups, 4)
    expected = oracle(list(groups.values()), 1)
    flat = np.concatenate([merged[name].reshape(-1) for name in groups])
    np.testing.assert_allclose(flat, expected, atol=1e-12)


def test_slices_give_the_same():
    group = make_group((7, 5), 3)
    for method in (Emr(), Emr(task="m2")):
        np.testing.assert_allclose(
            merge_sliced(method, group, 4), merge(method, group), rtol=0, atol=1e-14
        )


def test_places_whose_sum_is_zero_and_models_without_a_say_give_nothing():
    group = of_task_vectors([1.0, 0.0], [-1.0, 0.0])
    assert not merge(Emr(), group).any()
    assert not merge(Emr(task="m0"), group).any()
    group = of_task_vectors([1.0, 2.0], [0.0, 0.0])
    assert not merge(Emr(task="m1"), group).any()


def test_one_model_comes_back_as_it_is():
    group = make_group((4, 3), 1)
    np.testing.assert_allclose(merge(Emr(task="m0"), group), weighted(group)[0], atol=1e-15)
    assert math.isclose(np.abs(merge(Emr(), group)).sum(), np.abs(weighted(group)[0]).sum())


@pytest.mark.parametrize("task", [None, "m2"])
def test_the_order_of_the_models_does_not_matter(task):
    assert_order_does_not_matter(Emr(task=task), make_group((9, 14), 3))


def test_a_task_that_is_no_model_is_a_fault():
    Emr().check_labels(["makam"])
    with pytest.raises(RecipeError, match=r"method\.task.*'makan'") as raised:
        Emr(task="makan").check_labels(["makam", "lyra"])
    assert raised.value.hint == "did you mean 'makam'?"
