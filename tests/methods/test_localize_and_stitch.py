import numpy as np
import pytest
from groups import make_group, merge, merge_sliced, merge_tensors
from pydantic import ValidationError
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    cases,
    libraries,
    of_task_vectors,
    weighted,
)

from mergekit_audio.methods.localize_and_stitch import LocalizeAndStitch


def oracle(groups, densities):
    total, count = 0, 0
    for i, density in enumerate(densities):
        own = np.concatenate([weighted(group)[i].reshape(-1) for group in groups])
        smallest = np.sort(np.abs(own))[-max(1, int(density * len(own)))]
        region = (np.abs(own) >= smallest) & (own != 0)
        total, count = total + region * own, count + region
    return total / np.maximum(count, 1)


@libraries
def test_averages_where_regions_overlap(library):
    group = of_task_vectors([4, 1, 0, -3], [2, -5, 0, 0.5], library=library)
    delta = merge(LocalizeAndStitch(density=0.5), group)
    np.testing.assert_allclose(delta, [3, -5, 0, -3])


@cases
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_is_the_formula(shape, density):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = oracle([make_group(shape, count, seed=3)], [density] * count)
        method = LocalizeAndStitch(density=density)
        delta = merge(method, make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta.reshape(-1), expected, atol=1e-12)


def test_regions_are_of_all_tensors_together():
    groups = {name: make_group((5, 3), 3, seed, name=name) for seed, name in enumerate("abc")}
    groups["b"].models[:] += 0.2  # larger task vectors: their share of the regions is larger
    merged = merge_tensors(LocalizeAndStitch(density=0.3), groups, 4)
    flat = np.concatenate([merged[name].reshape(-1) for name in groups])
    np.testing.assert_allclose(flat, oracle(list(groups.values()), [0.3] * 3), atol=1e-12)


def test_each_model_may_have_a_density_of_its_own():
    group = make_group((5, 8), 3, parameters=({"density": 0.5}, {}, {"density": 1.0}))
    delta = merge(LocalizeAndStitch(density=0.2), group)
    np.testing.assert_allclose(delta.reshape(-1), oracle([group], [0.5, 0.2, 1.0]), atol=1e-12)


def test_zeros_are_in_no_region():
    group = of_task_vectors([2.0, 0.0, 0.0, 0.0], [4.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(merge(LocalizeAndStitch(density=1), group), [3, 1, 1, 1])


def test_slices_give_the_same_bits():
    group, method = make_group((7, 5), 3), LocalizeAndStitch()
    assert np.array_equal(merge_sliced(method, group, 4), merge(method, group))


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(LocalizeAndStitch(), make_group((9, 14), 3))


@pytest.mark.parametrize("density", [0, 1.5])
def test_refuses_densities_outside_0_and_1(density):
    with pytest.raises(ValidationError):
        LocalizeAndStitch(density=density)
