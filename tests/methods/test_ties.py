import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced, merge_tensors
from sparse_oracles import elected, l1_factor, task_vectors, top

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.ties import Ties

SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def by_hand(**fields):
    group = make_group((5,), 3, weights=(1.0, 1.0, 1.0), **fields)
    taus = np.array([[4, -3, 1, 0.5, 0], [-1, -5, 2, 0, 0.1], [3, 1, 0, -4, 0.2]])
    return dataclasses.replace(group, base=np.zeros(5), models=taus)


@pytest.mark.parametrize("semantics", ["paper", "mergekit"])
def test_worked_by_hand(semantics):
    # 40 % of 5 are 2: τ̂₁ = (4, -3, 0, 0, 0), τ̂₂ = (0, -5, 2, 0, 0), τ̂₃ = (3, 0, 0, -4, 0)
    # signs of the sums (7, -8, 2, -4, 0): + - + - +; disjoint means (3.5, -4, 2, -4, 0)
    method = Ties(density=0.4, semantics=semantics)
    assert merge(method, by_hand()).tolist() == [3.5, -4.0, 2.0, -4.0, 0.0]
    summed = Ties(density=0.4, semantics=semantics, normalize=False)
    assert merge(summed, by_hand()).tolist() == [7.0, -8.0, 2.0, -4.0, 0.0]


def test_opposite_changes_that_cancel_count_as_positive():
    group = make_group((1,), 2, weights=(1.0, 1.0))
    group = dataclasses.replace(group, base=np.zeros(1), models=np.array([[2.0], [-2.0]]))
    assert merge(Ties(density=1), group).tolist() == [2.0]


def test_the_paper_trims_over_the_whole_vector_and_mergekit_each_tensor():
    base = make_group((4,), 1, weights=(1.0,))
    groups = {
        name: dataclasses.replace(base, name=name, base=np.zeros(4), models=np.array([values]))
        for name, values in {"a": [8.0, 7.0, 6.0, 5.0], "b": [4.0, 3.0, 2.0, 1.0]}.items()
    }
    whole = merge_tensors(Ties(density=0.5), groups)
    assert whole["a"].tolist() == [8.0, 7.0, 6.0, 5.0]
    assert whole["b"].tolist() == [0.0, 0.0, 0.0, 0.0]
    each = merge_tensors(Ties(density=0.5, semantics="mergekit"), groups)
    assert each["a"].tolist() == [8.0, 7.0, 0.0, 0.0]
    assert each["b"].tolist() == [4.0, 3.0, 0.0, 0.0]


def test_the_paper_keeps_all_that_equal_the_threshold_and_mergekit_the_first():
    group = make_group((4,), 1, weights=(1.0,))
    group = dataclasses.replace(group, base=np.zeros(4), models=np.array([[1.0, -2.0, 2.0, -2.0]]))
    assert merge(Ties(density=0.5), group).tolist() == [0.0, -2.0, 2.0, -2.0]
    kept = merge(Ties(density=0.5, semantics="mergekit"), group)
    assert kept.tolist() == [0.0, -2.0, 2.0, 0.0]


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_mergekit_semantics_equal_their_formula(count, shape, normalize, rescale, library):
    densities = [0.3, 0.6, 1.0, 0.0][:count]
    fields = {"parameters": tuple({"density": density} for density in densities)}
    group = make_group(shape, count, seed=count, **fields)
    taus = task_vectors(group)
    size = taus[0].size
    sparse = [
        top(tau, max(1, int(density * size)) if density else 0)
        for tau, density in zip(taus, densities, strict=True)
    ]
    if rescale:
        sparse = [s * l1_factor(tau, s) for tau, s in zip(taus, sparse, strict=True)]
    method = Ties(semantics="mergekit", normalize=normalize, rescale=rescale)
    expected = elected(sparse, group.weights, normalize)
    torch_or_numpy = make_group(shape, count, seed=count, library=library, **fields)
    assert np.allclose(merge(method, torch_or_numpy), expected, rtol=0, atol=1e-12)
    assert np.allclose(merge_sliced(method, group, 4), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("density", [0.2, 0.5, 1.0, 0.0])
def test_paper_semantics_equal_their_formula(density, library):
    shapes = {"a": (3, 4), "b": (7,), "c": (), "d": (2, 3, 4)}
    seeds = {name: i for i, name in enumerate(shapes)}
    weights = (1.0, 0.5, -0.7)
    groups = {n: make_group(s, 3, seeds[n], name=n, weights=weights) for n, s in shapes.items()}
    taus = {name: task_vectors(group) for name, group in groups.items()}
    size = sum(each[0].size for each in taus.values())
    sparse = {name: [] for name in shapes}
    for i in range(3):
        flat = np.concatenate([np.abs(taus[name][i]).reshape(-1) for name in shapes])
        kept = max(1, int(density * size)) if density else 0
        threshold = np.sort(flat)[::-1][kept - 1] if kept else np.inf
        for name in shapes:
            sparse[name].append(taus[name][i] * (np.abs(taus[name][i]) >= threshold))
    seen = {
        n: make_group(s, 3, seeds[n], name=n, weights=weights, library=library)
        for n, s in shapes.items()
    }
    for size_of_slices in (None, 5):
        got = merge_tensors(Ties(density=density), seen, size_of_slices)
        for name in shapes:
            expected = elected(sparse[name], weights, normalize=True)
            assert np.allclose(got[name], expected, rtol=0, atol=1e-13)


def test_different_densities_for_parts_of_a_model_are_refused_in_the_papers_way():
    groups = {
        name: make_group((6,), 2, name=name, parameters=({"density": density}, {}))
        for name, density in {"a": 0.2, "b": 0.4}.items()
    }
    with pytest.raises(RecipeError, match=r"same for all tensors; found 0.2, 0.4") as caught:
        merge_tensors(Ties(), groups)
    assert "semantics: mergekit" in caught.value.hint
    merge_tensors(Ties(semantics="mergekit"), groups)
