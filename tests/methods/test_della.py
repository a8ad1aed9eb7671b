import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced
from pydantic import ValidationError
from sparse_oracles import elected, l1_factor, task_vectors, total

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.della import Della
from mergekit_audio.methods.della_linear import DellaLinear

METHODS = {"della": (Della, elected), "della_linear": (DellaLinear, total)}
SHAPES = [(), (1,), (5,), (7, 3), (4, 3, 2), (6, 1), (1, 4), (3, 1, 2), (2, 3, 1)]


def probabilities(tau, density, epsilon, semantics):
    """Rank each row with loops; a row of one element keeps it with the density."""
    chance = np.full(tau.shape, density)
    if tau.ndim == 0:
        return chance
    if tau.ndim == 1:
        rows = [np.s_[:]]
    elif semantics == "paper":
        rows = [np.s_[i] for i in range(tau.shape[0])]
    else:
        others = (tau.shape[0], *tau.shape[2:])
        rows = [(index[0], np.s_[:], *index[1:]) for index in np.ndindex(others)]
    for row in rows:
        values = np.abs(tau[row]).astype(np.float32)
        ranked = np.empty(values.size)
        ranked[np.argsort(values.reshape(-1), kind="stable")] = np.arange(values.size)
        if values.size > 1:
            share = ranked.reshape(values.shape) / (values.size - 1)
            chance[row] = (density - epsilon) + 2 * epsilon * share
    return chance


def test_worked_by_hand(monkeypatch):
    # ranks in the rows (1, 0, 2) and (2, 1, 0): p = density + (rank - 1) · 0.2
    group = make_group((2, 3), 1, weights=(1.0,))
    tau = np.array([[2.0, -1.0, 3.0], [-9.0, 8.0, 7.0]])
    group = dataclasses.replace(group, base=np.zeros((2, 3)), models=tau[None])
    u = np.array([[0.49, 0.4, 0.6], [0.1, 0.5, 0.2]])
    monkeypatch.setattr(type(group), "uniform", lambda self, model: u)
    # p = (0.5, 0.3, 0.7; 0.7, 0.5, 0.3): kept 2/0.5, -, 3/0.7; -9/0.7, -, 7/0.3
    expected = [[4.0, 0.0, 3 / 0.7], [-9 / 0.7, 0.0, 7 / 0.3]]
    method = DellaLinear(density=0.5, epsilon=0.2)
    assert np.allclose(merge(method, group), expected)
    plain = DellaLinear(density=0.5, epsilon=0.2, rescale=False)
    assert merge(plain, group).tolist() == [[2.0, 0.0, 3.0], [-9.0, 0.0, 7.0]]
    restored = merge(DellaLinear(density=0.5, epsilon=0.2, semantics="mergekit"), group)
    assert np.allclose(restored, merge(plain, group) * 30 / 21)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_formula(shape, name, rescale, semantics, library):
    parameters = (
        {"density": 0.3, "epsilon": 0.2},
        {"density": 0.7},
        {"density": 1.0},
        {"density": 0.0},
    )
    group = make_group(shape, 4, seed=8, parameters=parameters)
    kind, join = METHODS[name]
    sparse = []
    for i, (tau, own) in enumerate(zip(task_vectors(group), parameters, strict=True)):
        density, epsilon = own["density"], own.get("epsilon", 0.07)
        chance = probabilities(tau, density, epsilon, semantics)
        if density in {0.0, 1.0}:
            kept = tau * density
        else:
            kept = tau * (group.uniform(i) < chance)
            if rescale and semantics == "paper":
                kept = kept / chance
        if rescale and semantics == "mergekit":
            kept = kept * l1_factor(tau, kept)
        sparse.append(kept)
    method = kind(rescale=rescale, semantics=semantics)
    expected = join(sparse, group.weights, method.normalize)
    got = merge(method, make_group(shape, 4, seed=8, parameters=parameters, library=library))
    assert np.allclose(got, expected, rtol=0, atol=1e-12)
    assert np.allclose(merge_sliced(method, group, 4), expected, rtol=0, atol=1e-12)


def test_equal_magnitudes_rank_in_order_and_zeros_break_nothing():
    group = make_group((3, 4), 2, equal=True)
    assert not merge(Della(), group).any()
    ones = dataclasses.replace(
        make_group((1, 4), 1, weights=(1.0,)), base=np.zeros((1, 4)), models=np.ones((1, 1, 4))
    )
    delta = merge(DellaLinear(density=0.5, epsilon=0.3), ones)
    kept = ones.uniform(0) < [[0.2, 0.4, 0.6, 0.8]]
    assert np.allclose(delta, kept / np.array([[0.2, 0.4, 0.6, 0.8]]))


def test_large_changes_are_kept_more_often_and_the_mean_is_kept():
    group = make_group((400, 500), 1, seed=9, weights=(1.0,))
    tau = task_vectors(group)[0]
    delta = merge(DellaLinear(density=0.5, epsilon=0.3), group)
    kept = delta != 0
    order = np.argsort(np.abs(tau), axis=1)
    by_rank = np.take_along_axis(kept, order, axis=1).mean(axis=0)
    expected = np.linspace(0.2, 0.8, 500)
    assert np.abs(by_rank - expected).max() < 5 * 0.5 / np.sqrt(400)
    assert abs(kept.mean() - 0.5) < 5 * 0.5 / np.sqrt(tau.size)
    # dividing by the probability keeps the expectation
    assert np.abs(delta).sum() == pytest.approx(np.abs(tau).sum(), rel=0.02)


def test_impossible_probabilities_are_refused():
    with pytest.raises(ValidationError, match="must lie within"):
        Della(density=0.1, epsilon=0.15)
    Della(density=1, epsilon=0.15)
    group = make_group((2, 3), 2, parameters=({}, {"density": 0.95}))
    with pytest.raises(RecipeError, match=r"models.1.parameters: .*density 0.95, epsilon 0.07"):
        merge(Della(), group)
