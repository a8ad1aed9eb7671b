import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods.ram import Ram
from mergekit_audio.methods.ramplus_tl import RamplusTl


def sparse_group(shape, count, seed):
    group = make_group(shape, count, seed)
    random = np.random.default_rng(seed + 100)
    keep = random.random((count, *shape)) < 0.5
    tiny = 1e-6 * random.standard_normal((count, *shape))
    models = group.base + np.where(keep, group.task_vectors, tiny)
    return make_group(shape, count, seed, base=group.base, models=models)


def merged(tau, epsilon, factors):
    flat = tau.reshape(len(tau), -1)
    result = np.zeros(flat.shape[1])
    for place in range(flat.shape[1]):
        active = [i for i in range(len(flat)) if abs(flat[i, place]) > epsilon]
        if len(active) == 1:
            result[place] = factors[active[0]] * flat[active[0], place]
        elif active:
            result[place] = sum(flat[i, place] for i in active) / len(active)
    return result.reshape(tau.shape[1:])


def factors_of(tau, epsilon, r, alpha):
    active = abs(tau.reshape(len(tau), -1)) > epsilon
    counts = active.sum(0)
    factors = []
    for each in active:
        unique, shared = (each & (counts == 1)).sum(), (each & (counts > 1)).sum()
        factors.append(1 + r * min(shared / unique, alpha) if unique else 1.0)
    return factors


TAU = np.array([[1.0, 0.0, 4.0, 1e-6], [0.0, 0.0, 2.0, 3.0]])


def test_ram_worked_by_hand():
    # alone; unchanged; shared: (4 + 2) / 2; 1e-6 is no change
    group = make_group((4,), 2, base=np.zeros(4), models=TAU)
    assert merge(Ram(), group).tolist() == [1.0, 0.0, 3.0, 3.0]


def test_ramplus_worked_by_hand():
    # each model shares one element and has one alone: ρ = 1, above α: factor 1 + 0.1 · 0.2
    group = make_group((4,), 2, base=np.zeros(4), models=TAU)
    assert merge(RamplusTl(), group) == pytest.approx([1.02, 0.0, 3.0, 3.06])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_agree_with_the_formulas(shape, count):
    group = sparse_group(shape, count, seed=count)
    tau = group.task_vectors
    assert_merges_to(Ram(), group, merged(tau, 1e-5, [1.0] * count))
    for epsilon, r, alpha in ((1e-5, 0.1, 0.2), (0.05, 0.7, 5.0)):
        expected = merged(tau, epsilon, factors_of(tau, epsilon, r, alpha))
        method = RamplusTl(epsilon=epsilon, r=r, alpha=alpha)
        assert_merges_to(method, group, expected)


@pytest.mark.parametrize("method", [Ram(), RamplusTl(), Ram(epsilon=0), RamplusTl(epsilon=0)])
def test_no_change_at_all(method):
    assert (merge(method, make_group((5, 2), 3, equal=True)) == 0).all()


@pytest.mark.parametrize("method", [Ram(), RamplusTl()])
def test_refuse_weights(method):
    with pytest.raises(RecipeError, match=f"{method.name} has no weights"):
        method.check_weights([0.2])
