"""Fisher merging: by hand, against a plain formula, in slices, in both libraries."""

import numpy as np
import pytest
from groups import in_library, make_group, merge, merge_sliced, merge_tensors

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.fisher import Fisher

SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def with_fisher(shape, count, seed=0, **fields):
    random = np.random.default_rng(seed + 100)
    fisher = random.standard_normal((count, *shape)) ** 4 * 1e-4
    fisher[random.random((count, *shape)) < 0.2] = 0.0
    return make_group(shape, count, seed, statistics={"fisher": fisher}, **fields)


def oracle(groups, *, normalize, floor):
    """The formula over whole tensors, tensor after tensor."""
    count = len(next(iter(groups.values())).weights)
    rms = np.ones(count)
    if normalize:
        flat = [
            np.concatenate([group.statistics["fisher"][i].ravel() for group in groups.values()])
            for i in range(count)
        ]
        rms = np.array([np.sqrt(np.mean(each**2)) for each in flat])
    results = {}
    for name, group in groups.items():
        shares = [
            weight * np.maximum(group.statistics["fisher"][i] / rms[i], floor)
            for i, weight in enumerate(group.weights)
        ]
        theta = sum(share * group.models[i] for i, share in enumerate(shares)) / sum(shares)
        results[name] = theta - group.base
    return results


def test_by_hand():
    group = make_group(
        (3,), 2, base=np.zeros(3), models=np.array([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]]),
        weights=(1.0, 2.0), statistics={"fisher": np.array([[3.0, 0.0, 8.0], [0.5, 0.0, 2.0]])},
    )  # fmt: skip
    # (3·1 + 2·0.5·4) / (3 + 1), (1 + 2·4) / 3 where both have the floor, (8 + 16) / (8 + 4)
    delta = merge(Fisher(normalize=False, floor=1e-3), group)
    assert np.allclose(delta, [7 / 4, 3.0, 2.0], rtol=1e-15)
    # normalised by √((9 + 64) / 3) and √((0.25 + 4) / 3)
    first, second = 3 / np.sqrt(73 / 3), 2 * 0.5 / np.sqrt(4.25 / 3)
    assert merge(Fisher(), group)[0] == pytest.approx((first + 4 * second) / (first + second))


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_formula(shape, count, normalize, library):
    groups = {"a": with_fisher(shape, count, 1, name="a"), "b": with_fisher((6, 2), count, 2)}
    groups = {name: in_library(group, "numpy") for name, group in groups.items()}
    expected = oracle(groups, normalize=normalize, floor=1e-5)
    given = {name: in_library(group, library) for name, group in groups.items()}
    found = merge_tensors(Fisher(normalize=normalize, floor=1e-5), given)
    for name, delta in expected.items():
        assert np.abs(found[name] - delta).max() < 1e-12


@pytest.mark.parametrize("size", [1, 7, 50])
def test_slices_give_the_same(size):
    group = with_fisher((13, 9), 3)
    assert np.allclose(merge_sliced(Fisher(), group, size), merge(Fisher(), group), atol=1e-14)


def test_the_size_of_a_models_fisher_cancels():
    group = with_fisher((20, 4), 2)
    fisher = group.statistics["fisher"] * np.array([1e6, 1e-6])[:, None, None]
    scaled = make_group((20, 4), 2, statistics={"fisher": fisher})
    assert np.allclose(merge(Fisher(), scaled), merge(Fisher(), group), rtol=1e-9)


def test_a_tensor_without_a_fisher_is_averaged():
    group = make_group((4, 3), 3)
    mean = np.average(group.models, axis=0, weights=group.weights) - group.base
    assert np.allclose(merge(Fisher(), group), mean, atol=1e-15)


def test_a_fisher_of_zeros_is_averaged():
    group = make_group((4, 3), 2, statistics={"fisher": np.zeros((2, 4, 3))})
    mean = np.average(group.models, axis=0, weights=group.weights) - group.base
    assert np.allclose(merge(Fisher(), group), mean, atol=1e-15)


@pytest.mark.parametrize("weights", [(1.0, -0.5), (0.0, 0.0)])
def test_weights_are_shares(weights):
    with pytest.raises(RecipeError, match="fisher"):
        Fisher().check_weights(weights)
