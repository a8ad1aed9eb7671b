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

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.consensus import Consensus
from mergekit_audio.methods.ties import Ties


def oracle(group, minimum_count, mask_scale, total=None):
    vectors = weighted(group)
    total = sum(vectors) if total is None else total
    votes = sum((np.abs(own) > mask_scale * np.abs(total - own)).astype(int) for own in vectors)
    return total * (votes >= minimum_count)


@libraries
def test_keeps_the_sum_where_two_models_speak(library):
    group = of_task_vectors([1, 0.5, -1], [1, -0.5, 0.2], library=library)
    np.testing.assert_allclose(merge(Consensus(), group), [2, 0, 0])
    np.testing.assert_allclose(merge(Consensus(minimum_count=1), group), [2, 0, -0.8])


@cases
@pytest.mark.parametrize(("minimum_count", "mask_scale"), [(2, 0.4), (3, 0.2), (1, 0.6)])
def test_is_the_formula(shape, minimum_count, mask_scale):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = oracle(make_group(shape, count, seed=3), minimum_count, mask_scale)
        method = Consensus(minimum_count=minimum_count, mask_scale=mask_scale)
        delta = merge(method, make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-12)


@cases
def test_the_multi_task_vector_may_be_that_of_ties(shape):
    for count, library in COUNTS_AND_LIBRARIES:
        group = make_group(shape, count, seed=3)
        merged = merge(Ties(density=0.5, normalize=False), group)
        expected = oracle(group, 1, 0.4, merged)
        method = Consensus(inner="ties", density=0.5, minimum_count=1)
        delta = merge(method, make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-12)


def test_the_inner_ties_trims_over_the_whole_model():
    groups = {name: make_group((5, 3), 3, seed, name=name) for seed, name in enumerate("abc")}
    groups["b"].models[:] += 0.2
    merged = merge_tensors(Ties(normalize=False), groups)
    delta = merge_tensors(Consensus(inner="ties"), groups, 4)
    for name, group in groups.items():
        expected = oracle(group, 2, 0.4, merged[name])
        np.testing.assert_allclose(delta[name], expected, atol=1e-12)


def test_a_density_without_ties_is_refused():
    with pytest.raises(ValidationError, match="inner: ties"):
        Consensus(density=0.5)


def test_slices_give_the_same_bits():
    group = make_group((7, 5), 3)
    assert np.array_equal(merge_sliced(Consensus(), group, 4), merge(Consensus(), group))


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(Consensus(), make_group((9, 14), 3))


def test_more_models_asked_for_than_there_are_is_a_fault():
    Consensus(minimum_count=3).check_weights([1.0, 1.0, 1.0])
    with pytest.raises(RecipeError, match=r"method\.minimum_count: 3.*2 model"):
        Consensus(minimum_count=3).check_weights([1.0, 1.0])
