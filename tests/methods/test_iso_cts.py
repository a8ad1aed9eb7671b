import numpy as np
import pytest
from groups import make_group, merge
from pydantic import ValidationError
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

from mergekit_audio.methods.iso_c import IsoC
from mergekit_audio.methods.iso_cts import IsoCts, directions_per_model


def oracle(matrices, fraction=0.8):
    models, rank = len(matrices), min(matrices[0].shape)
    own = min(round((rank - int(fraction * rank)) / models), rank // models)
    left, values, right = svd(sum(matrices))
    common = rank - models * own
    lefts, all_values, rights = [left[:, :common]], [values[:common]], [right[:common]]
    for each in matrices:
        left, values, right = svd(each - lefts[0] @ lefts[0].T @ each)
        lefts.append(left[:, :own])
        all_values.append(values[:own])
        rights.append(right[:own])
    mean = np.mean(np.concatenate(all_values))
    return mean * isometry(np.concatenate(lefts, axis=1)) @ isometry(np.concatenate(rights))


@libraries
def test_puts_each_models_own_direction_beside_the_common_ones(library):
    first, second = np.diag([4, 3, 2, 0]), np.diag([4, 3, 0, 1])
    delta = merge(IsoCts(common_fraction=0.5), of_task_vectors(first, second, library=library))
    np.testing.assert_allclose(delta, np.eye(4) * (8 + 6 + 2 + 1) / 4, atol=1e-14)


@cases
@pytest.mark.parametrize("fraction", [0.8, 0.4])
def test_is_the_formula(shape, fraction):
    for count, library in COUNTS_AND_LIBRARIES:
        group = make_group(shape, count, seed=count)
        expected = by_matrix(lambda matrices: oracle(matrices, fraction), group)
        method = IsoCts(common_fraction=fraction)
        delta = merge(method, make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-10)


@pytest.mark.parametrize(
    ("rank", "models", "fraction", "own"),
    [(768, 4, 0.8, 38), (10, 4, 0.8, 0), (7, 4, 0.0, 1), (8, 2, 0.5, 2), (8, 2, 1.0, 0)],
)
def test_leaves_each_model_equally_many_directions(rank, models, fraction, own):
    assert directions_per_model(rank, models, fraction) == own


def test_all_directions_common_is_iso_c():
    group = make_group((9, 6), 3)
    np.testing.assert_allclose(
        merge(IsoCts(common_fraction=1.0), group), merge(IsoC(), group), atol=1e-12
    )


def test_what_a_projection_leaves_by_rounding_is_no_direction():
    group = low_rank((40, 32), 2, rank=3)
    delta = merge(IsoCts(), group)
    np.testing.assert_allclose(delta, merge(IsoC(), group), atol=1e-10)
    assert np.linalg.matrix_rank(delta) == 6


def test_reads_kernels_as_matrices_when_asked():
    assert_reads_kernels_as_matrices(IsoCts)


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(IsoCts(), make_group((20, 14), 3))


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_refuses_fractions_outside_0_and_1(fraction):
    with pytest.raises(ValidationError):
        IsoCts(common_fraction=fraction)
