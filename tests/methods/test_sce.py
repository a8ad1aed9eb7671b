import dataclasses

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced
from sparse_oracles import task_vectors

from mergekit_audio.methods.sce import Sce

SHAPES = [(), (5,), (7, 3), (4, 3, 2)]


def sce(group, share):
    """Select, calculate, erase: element by element."""
    deltas = np.stack(
        [w * tau.reshape(-1) for w, tau in zip(group.weights, task_vectors(group), strict=True)]
    )
    if share < 1:
        variance = deltas.var(axis=0).astype(np.float32)
        kept = int((deltas != deltas[0]).any(axis=0).sum() * share)
        mask = np.zeros(variance.size)
        mask[np.argsort(-variance, kind="stable")[:kept]] = 1
        deltas = deltas * mask
    energy = (deltas**2).mean(axis=1)
    count = len(energy)
    eta = energy / energy.sum() if energy.sum() >= 1e-6 else np.full(count, 1 / count)
    result = np.zeros(deltas.shape[1])
    for j, values in enumerate(deltas.T):
        sign = 1 if values.sum() >= 0 else -1
        agreeing = [i for i in range(count) if values[i] * sign > 0]
        divisor = sum(eta[i] for i in agreeing)
        result[j] = sum(eta[i] * values[i] for i in agreeing) / max(divisor, 1e-6)
    return result.reshape(group.base.shape)


def test_worked_by_hand():
    # variances (4, 1, 0, 9): of the three above 0 two thirds are (4, -) and (-, 9)
    group = make_group((4,), 2, weights=(1.0, 1.0))
    taus = np.array([[4.0, 1.0, 2.0, -3.0], [0.0, -1.0, 2.0, 3.0]])
    group = dataclasses.replace(group, base=np.zeros(4), models=taus)
    # selected (4, 0, 0, -3) and (0, 0, 0, 3): energies 25 : 9; signs + + + +
    assert merge(Sce(select_topk=0.67), group).tolist() == [4.0, 0.0, 0.0, 3.0]
    # all: energies 30 : 14; the third agrees, both give 2; the second keeps +1
    assert np.allclose(merge(Sce(select_topk=1), group), [4.0, 1.0, 2.0, 3.0])


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_equals_its_formula(count, shape, share, library):
    group = make_group(shape, count, seed=count)
    method = Sce(select_topk=share)
    got = merge(method, make_group(shape, count, seed=count, library=library))
    assert np.allclose(got, sce(group, share), rtol=0, atol=1e-12)
    assert np.allclose(merge_sliced(method, group, 4), sce(group, share), rtol=0, atol=1e-12)


def test_ties_and_zeros():
    random = np.random.default_rng(3)
    group = make_group((40,), 3, weights=(1.0, 1.0, 1.0))
    taus = random.integers(-1, 2, (3, 40)) * 0.5 * (random.random(40) < 0.6)
    group = dataclasses.replace(group, base=np.zeros(40), models=taus)
    for share in (0.3, 1.0):
        assert np.allclose(merge(Sce(select_topk=share), group), sce(group, share), atol=1e-12)


def test_where_all_models_agree_nothing_is_selected():
    # 0.1 + 0.1 + 0.1 is not 3 · 0.1 in floating point, yet the three do not differ
    group = make_group((4,), 3, weights=(1.0, 1.0, 1.0))
    taus = np.array([[0.1, 0.1, 0.1, 1.0], [0.1, 0.1, 0.1, 2.0], [0.1, 0.1, 0.1, 3.0]])
    group = dataclasses.replace(group, base=np.zeros(4), models=taus)
    assert np.flatnonzero(merge(Sce(select_topk=0.99), group)).tolist() == []
    assert np.flatnonzero(merge(Sce(select_topk=1), group)).tolist() == [0, 1, 2, 3]


def test_a_model_without_weight_has_no_say():
    group = make_group((30,), 3, seed=4, weights=(1.0, 0.0, 0.5))
    others = dataclasses.replace(
        group,
        models=group.models[[0, 2]],
        weights=(1.0, 0.5),
        parameters=({}, {}),
        labels=("a", "b"),
        digests=group.digests[:2],
    )
    method = Sce(select_topk=1)
    assert np.allclose(merge(method, group), merge(method, others), atol=1e-14)
