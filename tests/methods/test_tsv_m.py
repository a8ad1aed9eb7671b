import numpy as np
import pytest
from groups import make_group, merge
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    assert_reads_kernels_as_matrices,
    by_matrix,
    cases,
    isometry,
    libraries,
    low_rank,
    of_task_vectors,
    svd,
)

from mergekit_audio.methods.tsv_m import TsvM


def oracle(matrices):
    count = max(1, min(matrices[0].shape) // len(matrices))
    lefts, values, rights = zip(*[svd(each) for each in matrices], strict=True)
    left = np.concatenate([each[:, :count] for each in lefts], axis=1)
    right = np.concatenate([each[:count] for each in rights], axis=0)
    diagonal = np.diag(np.concatenate([each[:count] for each in values]))
    return isometry(left) @ diagonal @ isometry(right)


@libraries
def test_keeps_the_leading_direction_of_each_of_two_models(library):
    group = of_task_vectors([[3, 0], [0, 1]], [[0, 0], [0, 5]], library=library)
    np.testing.assert_allclose(merge(TsvM(), group), [[3, 0], [0, 5]], atol=1e-14)


def test_shares_a_direction_that_both_models_have():
    # U = V = [e1 e1]; their isometries have columns e1/sqrt(2), so 3/2 + 2/2
    group = of_task_vectors([[3, 0], [0, 1]], [[2, 0], [0, 1]])
    np.testing.assert_allclose(merge(TsvM(), group), [[2.5, 0], [0, 0]], atol=1e-14)


@cases
def test_is_the_formula(shape):
    for count, library in COUNTS_AND_LIBRARIES:
        group = make_group(shape, count, seed=count)
        expected = by_matrix(oracle, group)
        delta = merge(TsvM(), make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-10)


@pytest.mark.parametrize("shape", [(40, 40), (96, 24), (24, 96)])
def test_the_fast_way_equals_full_decompositions(shape):
    group = make_group(shape, 4)
    np.testing.assert_allclose(merge(TsvM(), group), by_matrix(oracle, group), atol=1e-10)


def test_directions_without_singular_value_bring_nothing():
    group = low_rank((20, 16), 3, rank=2)
    np.testing.assert_allclose(merge(TsvM(), group), by_matrix(oracle, group), atol=1e-10)
    assert np.linalg.matrix_rank(merge(TsvM(), group)) == 6


def test_a_steep_spectrum_keeps_its_digits():
    random = np.random.default_rng(0)
    steep = [
        np.linalg.qr(random.standard_normal((30, 12)))[0]
        @ np.diag(10.0 ** -np.arange(12))
        @ np.linalg.qr(random.standard_normal((12, 12)))[0]
        for _ in range(2)
    ]
    group = of_task_vectors(*steep)
    np.testing.assert_allclose(merge(TsvM(), group), by_matrix(oracle, group), atol=1e-10)


def test_a_zero_model_takes_its_share_and_adds_nothing():
    random = np.random.default_rng(1)
    own = random.standard_normal((6, 4))
    left, values, right = svd(own)
    delta = merge(TsvM(), of_task_vectors(own, np.zeros((6, 4))))
    np.testing.assert_allclose(delta, left[:, :2] * values[:2] @ right[:2], atol=1e-12)


def test_reads_kernels_as_matrices_when_asked():
    assert_reads_kernels_as_matrices(TsvM)


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(TsvM(), make_group((9, 14), 3))
