import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced
from pydantic import ValidationError
from sparse_oracles import elected, l1_factor, task_vectors, total

from mergekit_audio.methods.dare_linear import DareLinear
from mergekit_audio.methods.dare_ties import DareTies

METHODS = {"dare_linear": (DareLinear, total), "dare_ties": (DareTies, elected)}
SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def test_worked_by_hand(monkeypatch):
    # τ₁ = (1, -2, 4), τ₂ = (3, 1, -1), density 0.5: kept where u < 0.5, divided by 0.5
    group = make_group((3,), 2, weights=(1.0, 0.5))
    taus = np.array([[1.0, -2.0, 4.0], [3.0, 1.0, -1.0]])
    group = dataclasses.replace(group, base=np.zeros(3), models=taus)
    u = np.array([[0.1, 0.49, 0.5], [0.7, 0.2, 0.0]])
    monkeypatch.setattr(type(group), "uniform", lambda self, model: u[model])
    # τ̂₁ = (2, -4, 0), τ̂₂ = (0, 2, -2): sum 1·τ̂₁ + 0.5·τ̂₂
    assert merge(DareLinear(density=0.5), group).tolist() == [2.0, -3.0, -1.0]
    # elected: + from the first; - from the first; - from the second, -1 / 0.5
    assert merge(DareTies(density=0.5), group).tolist() == [2.0, -4.0, -2.0]
    # without rescaling half of it; in mergekit's way n1(τ)/n1(kept): 7/3 and 5/2
    assert merge(DareLinear(density=0.5, rescale=False), group).tolist() == [1.0, -1.5, -0.5]
    restored = merge(DareLinear(density=0.5, semantics="mergekit"), group)
    assert np.allclose(restored, [7 / 3, -14 / 3 + 5 / 4, -5 / 4])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_formula(shape, name, rescale, normalize, semantics, library):
    densities = [0.3, 0.7, 1.0, 0.0]
    fields = {"parameters": tuple({"density": density} for density in densities)}
    group = make_group(shape, 4, seed=2, **fields)
    kind, join = METHODS[name]
    sparse = []
    for i, (tau, density) in enumerate(zip(task_vectors(group), densities, strict=True)):
        kept = tau * (group.uniform(i) < density)
        if rescale and semantics == "paper" and density:
            kept = kept / density
        if rescale and semantics == "mergekit":
            kept = kept * l1_factor(tau, kept)
        sparse.append(kept)
    method = kind(normalize=normalize, rescale=rescale, semantics=semantics)
    expected = join(sparse, group.weights, normalize)
    got = merge(method, make_group(shape, 4, seed=2, library=library, **fields))
    assert np.allclose(got, expected, rtol=0, atol=1e-12)
    assert np.allclose(merge_sliced(method, group, 4), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
def test_keeps_the_share_and_the_mean(semantics):
    group = make_group((300, 500), 1, seed=5, weights=(1.0,))
    tau = task_vectors(group)[0]
    delta = merge(DareLinear(density=0.2, semantics=semantics), group)
    kept = delta != 0
    size = tau.size
    assert abs(kept.mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / size)
    factors = delta[kept] / tau[kept]
    assert np.allclose(factors, factors[0])
    assert factors[0] == pytest.approx(5.0, rel=0 if semantics == "paper" else 0.05)
    if semantics == "mergekit":
        assert np.abs(delta).sum() == pytest.approx(np.abs(tau).sum(), rel=1e-12)
    # the choice knows nothing of the magnitude
    large = np.abs(tau) > np.median(np.abs(tau))
    assert abs(kept[large].mean() - kept[~large].mean()) < 5 * np.sqrt(0.2 * 0.8 * 4 / size)


def test_models_draw_apart_and_seeds_differ():
    group = make_group((2000,), 2, seed=6, weights=(1.0, 1.0))
    twins = dataclasses.replace(group, models=np.stack([group.models[0]] * 2))
    alone = [
        merge(
            DareLinear(density=0.5),
            dataclasses.replace(
                twins,
                models=twins.models[i : i + 1],
                weights=(1.0,),
                parameters=({},),
                labels=twins.labels[i : i + 1],
                digests=twins.digests[i : i + 1],
            ),
        )
        != 0
        for i in range(2)
    ]
    both = (alone[0] & alone[1]).mean()
    assert abs(both - 0.25) < 0.06
    again = merge(DareLinear(), group)
    assert np.array_equal(again, merge(DareLinear(), group))
    other = merge(DareLinear(), dataclasses.replace(group, seed=1))
    assert not np.array_equal(again, other)


def test_defaults_are_the_papers():
    assert DareLinear().density == 0.1
    assert DareTies().normalize
    assert not DareLinear().normalize
    with pytest.raises(ValidationError):
        DareLinear(density=1.5)
