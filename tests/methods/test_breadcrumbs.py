import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced
from sparse_oracles import elected, l1_factor, task_vectors, top, total

from mergekit_audio.methods.breadcrumbs import Breadcrumbs
from mergekit_audio.methods.breadcrumbs_ties import BreadcrumbsTies

METHODS = {"breadcrumbs": (Breadcrumbs, total), "breadcrumbs_ties": (BreadcrumbsTies, elected)}
SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def test_worked_by_hand():
    # of 10 magnitudes the largest 2 are outliers, the 5 below them stay
    group = make_group((10,), 2, weights=(1.0, -1.0))
    first = [10.0, -9, 8, -7, 6, -5, 4, -3, 2, -1]
    second = [1.0, -2, 3, -4, 5, -6, 7, -8, 9, -10]
    group = dataclasses.replace(group, base=np.zeros(10), models=np.array([first, second]))
    # τ̂₁ = (0, 0, 8, -7, 6, -5, 4, 0, 0, 0), τ̂₂ = (0, 0, 0, -4, 5, -6, 7, -8, 0, 0)
    added = merge(Breadcrumbs(density=0.5, gamma=0.2), group)
    assert added.tolist() == [0, 0, 8, -3, 1, 1, -3, 8, 0, 0]
    # of τ̂₁ and -τ̂₂ what has the sum's sign
    joined = merge(BreadcrumbsTies(density=0.5, gamma=0.2), group)
    assert joined.tolist() == [0, 0, 8, -7, 6, 6, -7, 8, 0, 0]


def band(tau, density, gamma):
    """Drop the largest, then the smallest until exactly the density's share is left."""
    if density >= 1:
        return tau
    kept, above = int(density * tau.size), int(gamma * tau.size)
    above = min(above, tau.size - kept)
    return top(tau, above + kept) - top(tau, above)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_its_formula(shape, name, rescale, normalize, library):
    parameters = (
        {"density": 0.4, "gamma": 0.1},
        {"density": 0.8, "gamma": 0.5},
        {"density": 1.0, "gamma": 0.1},
        {"density": 0.0},
    )
    group = make_group(shape, 4, seed=7, parameters=parameters)
    kind, join = METHODS[name]
    sparse = []
    for tau, own in zip(task_vectors(group), parameters, strict=True):
        kept = band(tau, own["density"], own.get("gamma", 0.006))
        sparse.append(kept * l1_factor(tau, kept) if rescale else kept)
    method = kind(normalize=normalize, rescale=rescale)
    expected = join(sparse, group.weights, normalize)
    got = merge(method, make_group(shape, 4, seed=7, parameters=parameters, library=library))
    assert np.allclose(got, expected, rtol=0, atol=1e-12)
    assert np.allclose(merge_sliced(method, group, 4), expected, rtol=0, atol=1e-12)


def test_keeps_exactly_the_share_among_equals():
    group = make_group((100,), 1, weights=(1.0,))
    group = dataclasses.replace(group, base=np.zeros(100), models=np.ones((1, 100)))
    delta = merge(Breadcrumbs(density=0.3, gamma=0.1), group)
    # equals stay in order: the first 10 are the outliers, the next 30 the band
    assert np.flatnonzero(delta).tolist() == list(range(10, 40))
    assert np.array_equal(merge_sliced(Breadcrumbs(density=0.3, gamma=0.1), group, 7), delta)
