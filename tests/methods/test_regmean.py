"""RegMean: by hand, against numpy's least squares, where inputs are missing, in both libraries."""

import numpy as np
import pytest
from groups import in_library, make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.regmean import Regmean


def with_inputs(out, into, count, seed=0, rows=60, scale=1.0):
    """Return a group of linear weights with Grams, and the inputs they were made of."""
    random = np.random.default_rng(seed + 50)
    mix = random.standard_normal((count, into, into))
    inputs = [scale * random.standard_normal((rows, into)) @ mix[i] for i in range(count)]
    grams = np.stack([each.T @ each / rows for each in inputs])
    return make_group((out, into), count, seed, statistics={"gram": grams}), inputs


def least_squares(group, inputs, alpha):
    """Return the W that numpy's solver finds nearest to all models' outputs on their inputs.

    Shrinking the off-diagonal by α is the same as adding, for each input feature j, one more row
    that is √((1 − α) n G_jj) at j and zero elsewhere to α-weighted rows.
    """
    rows, targets = [], []
    for i, weight in enumerate(group.weights):
        x, w = inputs[i], group.models[i].T
        diagonal = np.diag(np.sqrt(np.mean(x**2, axis=0) * (1 - alpha)))
        extended = np.concatenate([np.sqrt(alpha / len(x)) * x, diagonal]) * np.sqrt(weight)
        rows.append(extended)
        targets.append(extended @ w)
    return np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0].T


def test_by_hand():
    # one output, two inputs; G̃ = [[2, .5], [.5, 1]] and [[1, -.5], [-.5, 3]] with α = 1/2
    grams = np.array([[[2.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [-1.0, 3.0]]])
    group = make_group(
        (1, 2), 2, base=np.array([[1.0, 1.0]]), models=np.array([[[2.0, 1.0]], [[1.0, 5.0]]]),
        weights=(1.0, 1.0), statistics={"gram": grams},
    )  # fmt: skip
    # S = [[3, 0], [0, 4]]; Σ G̃ τᵀ = [2, .5] + 4·[-.5, 3] = [0, 12.5]
    assert np.allclose(merge(Regmean(alpha=0.5), group), [[0.0, 12.5 / 4]], atol=1e-15)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_least_squares(count, alpha, library):
    group, inputs = with_inputs(6, 5, count, seed=count)
    expected = least_squares(group, inputs, alpha) - group.base
    found = merge(Regmean(alpha=alpha), in_library(group, library))
    assert np.abs(found - expected).max() < 1e-10


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("alpha", [0.95, 1.0])
def test_inputs_that_no_model_has_leave_the_mean(alpha, library):
    group, inputs = with_inputs(4, 6, 2)
    for each in inputs:
        each[:, 2] = 0.0
    grams = np.stack([each.T @ each / len(each) for each in inputs])
    given = make_group((4, 6), 2, statistics={"gram": grams})
    found = merge(Regmean(alpha=alpha), in_library(given, library))
    expected = least_squares(group, inputs, alpha) - group.base
    mean = np.average(group.models, axis=0, weights=group.weights) - group.base
    assert np.allclose(found[:, 2], mean[:, 2], atol=1e-12)
    kept = [0, 1, 3, 4, 5]
    assert np.abs(found[:, kept] - expected[:, kept]).max() < 1e-9


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_size_of_inputs_changes_nothing(scale):
    small, _ = with_inputs(4, 6, 3, scale=scale)
    usual, _ = with_inputs(4, 6, 3)
    assert np.allclose(merge(Regmean(), small), merge(Regmean(), usual), rtol=1e-7)


def test_few_inputs_with_plain_least_squares_stay_near_the_models():
    """Fewer rows than inputs: the Gram is singular, and its float32 rounding is not inverted."""
    group, _ = with_inputs(4, 30, 2, rows=6)
    grams = group.statistics["gram"].astype(np.float32).astype(np.float64)
    rounded = make_group((4, 30), 2, statistics={"gram": grams})
    delta = merge(Regmean(alpha=1.0), rounded)
    assert np.isfinite(delta).all()
    assert np.abs(delta).max() < 10 * np.abs(group.task_vectors).max()


@pytest.mark.parametrize("shape", [(), (5,), (4, 3, 2), (7, 3)])
def test_other_tensors_are_averaged(shape):
    group = make_group(shape, 3)
    mean = np.average(group.models, axis=0, weights=group.weights) - group.base
    assert np.allclose(merge(Regmean(), group), mean, atol=1e-15)


def test_equal_models_change_nothing():
    group, _ = with_inputs(4, 6, 3)
    equal = make_group((4, 6), 3, equal=True, statistics=group.statistics)
    assert np.abs(merge(Regmean(), equal)).max() == 0


@pytest.mark.parametrize("weights", [(1.0, -0.5), (0.0, 0.0)])
def test_weights_are_shares(weights):
    with pytest.raises(RecipeError, match="regmean"):
        Regmean().check_weights(weights)
