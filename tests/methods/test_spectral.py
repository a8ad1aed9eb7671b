import numpy as np
import pytest

from mergekit_audio.methods._spectral import as_matrix, orthogonalised, singular_vectors


@pytest.mark.parametrize(
    ("shape", "averaged", "flattened"),
    [
        ((), None, None),
        ((768,), None, None),
        ((1, 1, 128), None, None),  # the g of a weight norm
        ((1, 768), None, None),
        ((3072, 768), (3072, 768), (3072, 768)),
        ((512, 1, 10), (512, 10), (512, 10)),  # the first convolution: one channel of input
        ((512, 256, 1), (512, 256), (512, 256)),
        ((768, 48, 128), None, (768, 48 * 128)),  # the v of a weight norm
        ((0, 5), None, None),
    ],
)
def test_which_tensors_are_matrices(shape, averaged, flattened):
    assert as_matrix(shape, "average") == averaged
    assert as_matrix(shape, "flatten") == flattened


@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (16, 16)])
@pytest.mark.parametrize("steep", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("count", [1, 5, None])
def test_leading_vectors_are_orthonormal_and_rebuild_the_matrix(shape, steep, count):
    random = np.random.default_rng(0)
    rank = min(shape)
    left = np.linalg.qr(random.standard_normal((shape[0], rank)))[0]
    right = np.linalg.qr(random.standard_normal((shape[1], rank)))[0]
    values = 10.0 ** (-steep * np.arange(rank) / 2) * np.linspace(2, 1, rank)
    matrix = left * values @ right.T
    u, s, vt = singular_vectors(matrix, np, count)
    kept = len(s)
    assert kept == (count or rank)
    np.testing.assert_allclose(s, values[:kept], rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(u.T @ u, np.eye(kept), atol=1e-10)
    np.testing.assert_allclose(vt @ vt.T, np.eye(kept), atol=1e-10)
    expected = left[:, :kept] * values[:kept] @ right[:, :kept].T
    np.testing.assert_allclose(u * s @ vt, expected, atol=1e-10)


def test_zero_singular_values_and_those_up_to_the_floor_are_left_out():
    matrix = np.diag([4.0, 2.0, 1.0, 0.0])
    assert len(singular_vectors(matrix, np)[1]) == 3
    assert len(singular_vectors(matrix, np, 2, floor=2.0)[1]) == 1
    assert len(singular_vectors(np.zeros((4, 3)), np, 2)[1]) == 0


@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-7, 0.0])
@pytest.mark.parametrize("shape", [(20, 6), (6, 20)])
def test_the_nearest_isometry_has_singular_values_of_one_or_none(shape, smallest):
    random = np.random.default_rng(1)
    left = np.linalg.qr(random.standard_normal((shape[0], 6)))[0]
    right = np.linalg.qr(random.standard_normal((shape[1], 6)))[0]
    values = np.array([3.0, 2.0, 1.5, 1.2, 1.0, smallest])
    found = orthogonalised(left * values @ right.T, np)
    kept = 6 if smallest else 5
    np.testing.assert_allclose(found, left[:, :kept] @ right[:, :kept].T, atol=1e-8)
    assert np.linalg.matrix_rank(found, tol=1e-6) == kept


def test_nothing_stays_nothing():
    assert orthogonalised(np.empty((5, 0)), np).shape == (5, 0)
    assert orthogonalised(np.empty((0, 5)), np).shape == (0, 5)
