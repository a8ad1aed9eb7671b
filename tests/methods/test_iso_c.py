import numpy as np
from groups import make_group, merge
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    assert_reads_kernels_as_matrices,
    by_matrix,
    cases,
    libraries,
    low_rank,
    of_task_vectors,
    svd,
)

from mergekit_audio.methods.iso_c import IsoC


def oracle(matrices):
    left, values, right = svd(sum(matrices))
    return np.mean(values) * left @ right


@libraries
def test_makes_the_singular_values_of_the_sum_equal(library):
    group = of_task_vectors([[1, 0], [0, 3]], [[0, 0], [0, 2]], library=library)
    np.testing.assert_allclose(merge(IsoC(), group), [[3, 0], [0, 3]], atol=1e-14)


@cases
def test_is_the_formula(shape):
    for count, library in COUNTS_AND_LIBRARIES:
        group = make_group(shape, count, seed=count)
        expected = by_matrix(oracle, group)
        delta = merge(IsoC(), make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-10)


def test_directions_without_singular_value_bring_nothing():
    group = low_rank((20, 16), 3, rank=2)
    delta = merge(IsoC(), group)
    np.testing.assert_allclose(delta, by_matrix(oracle, group), atol=1e-10)
    assert np.linalg.matrix_rank(delta) == 6


def test_task_vectors_that_cancel_give_nothing():
    own = np.arange(12.0).reshape(3, 4)
    assert not merge(IsoC(), of_task_vectors(own, -own)).any()


def test_reads_kernels_as_matrices_when_asked():
    assert_reads_kernels_as_matrices(IsoC)


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(IsoC(), make_group((9, 14), 3))
