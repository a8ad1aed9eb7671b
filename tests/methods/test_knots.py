import numpy as np
import pytest
from groups import make_group, merge, merge_tensors
from pydantic import ValidationError
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    assert_reads_kernels_as_matrices,
    by_matrix,
    cases,
    libraries,
    low_rank,
    of_task_vectors,
    weighted,
)

from mergekit_audio.methods.knots import Knots


def elected(blocks):
    merged = np.zeros_like(blocks[0])
    for place in np.ndindex(*merged.shape):
        entries = [block[place] for block in blocks]
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [entry for entry in entries if entry * sign > 0]
        merged[place] = sum(agreeing) / len(agreeing) if agreeing else 0
    return merged


def blocks_of(matrices):
    left, values, right = np.linalg.svd(np.concatenate(matrices, axis=1), full_matrices=False)
    kept = values > 1e-5 * values[0]
    left, right = left[:, kept], (values[:, None] * right)[kept]
    return left, np.split(right, len(matrices), axis=1)


def oracle(matrices, density=0.2):
    left, blocks = blocks_of(matrices)
    for block in blocks:
        count = max(1, int(density * block.size))
        block[np.abs(block) < np.sort(np.abs(block), axis=None)[-count]] = 0
    return left @ elected(blocks)


@libraries
def test_elects_signs_and_averages_in_shared_directions(library):
    # the task matrices are diagonal, so that the shared directions are the axes
    group = of_task_vectors([[3, 0], [0, 1]], [[-1, 0], [0, 2]], library=library)
    np.testing.assert_allclose(merge(Knots(density=0.5), group), [[3, 0], [0, 1.5]], atol=1e-14)


@cases
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_is_the_formula(shape, density):
    for count, library in COUNTS_AND_LIBRARIES:
        group = make_group(shape, count, seed=count)
        expected = by_matrix(lambda matrices: oracle(matrices, density), group)
        delta = merge(Knots(density=density), make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-10)


@libraries
def test_the_share_is_counted_over_all_matrices(library):
    shapes = {"a": (6, 9), "b": (5,), "c": (12, 3), "d": (1, 1, 4)}
    groups = {
        name: make_group(shape, 3, seed, name=name, library=library)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    groups["c"].models[:] *= 1.5  # larger blocks: more of the share
    found = {name: blocks_of(weighted(groups[name])) for name in ("a", "c")}
    merged = merge_tensors(Knots(), groups)
    for i in range(3):
        flat = np.sort(np.abs(np.concatenate([found[name][1][i].ravel() for name in found])))
        for _, blocks in found.values():
            blocks[i][np.abs(blocks[i]) < flat[-int(0.2 * len(flat))]] = 0
    for name, (left, blocks) in found.items():
        np.testing.assert_allclose(merged[name], left @ elected(blocks), atol=1e-10)
    np.testing.assert_allclose(merged["b"], sum(weighted(groups["b"])) / 3, atol=1e-12)
    alone = merge_tensors(Knots(scope="tensor"), groups)
    for name in found:
        np.testing.assert_allclose(alone[name], oracle(weighted(groups[name])), atol=1e-10)
    assert not np.allclose(alone["a"], merged["a"])


@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_models_that_are_the_base_change_nothing(scope):
    assert not merge(Knots(scope=scope), make_group((5, 4), 3, equal=True)).any()


def test_one_model_whole_comes_back_as_it_is():
    group = make_group((6, 9), 1)
    own = group.weights[0] * (group.models[0] - group.base)
    np.testing.assert_allclose(merge(Knots(density=1), group), own, atol=1e-12)


def test_directions_without_singular_value_are_left_out():
    group = low_rank((20, 16), 2, rank=2)
    np.testing.assert_allclose(merge(Knots(), group), by_matrix(oracle, group), atol=1e-10)
    group = low_rank((40, 8), 2, rank=2)
    np.testing.assert_allclose(merge(Knots(), group), by_matrix(oracle, group), atol=1e-10)


@libraries
@pytest.mark.parametrize("shape", [(6, 8), (25, 4)])
def test_dare_drops_entries_of_the_blocks_and_rescales(library, shape):
    group = make_group(shape, 3)
    left, blocks = blocks_of(weighted(group))
    for i, block in enumerate(blocks):
        kept = group.uniform(i, "knots")[: len(block)] < 0.4
        block[:] = np.where(kept, block / 0.4, 0)
    delta = merge(Knots(inner="dare_ties", density=0.4), make_group(shape, 3, library=library))
    np.testing.assert_allclose(delta, left @ elected(blocks), atol=1e-10)


def test_reads_kernels_as_matrices_when_asked():
    assert_reads_kernels_as_matrices(Knots)


@pytest.mark.parametrize("inner", ["ties", "dare_ties"])
def test_the_order_of_the_models_does_not_matter(inner):
    assert_order_does_not_matter(Knots(inner=inner), make_group((9, 14), 3))


@pytest.mark.parametrize(
    "fields", [{"density": 0}, {"inner": "sum"}, {"inner": "dare_ties", "scope": "tensor"}]
)
def test_refuses_what_is_out_of_bounds(fields):
    with pytest.raises(ValidationError):
        Knots(**fields)
