import dataclasses

import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge, merge_sliced

from mergekit_audio.errors import RecipeError
from mergekit_audio.methods import _importance
from mergekit_audio.methods.arcee_fusion import ArceeFusion


def softmax(x):
    powers = np.exp(x - x.max())
    return powers / powers.sum()


def importance(base, model):
    rows = [(base, model)]
    if base.ndim > 1:
        rows = zip(rows_of(base), rows_of(model), strict=True)
    values = []
    for q_row, p_row in rows:
        p, q = softmax(p_row) + 1e-8, softmax(q_row) + 1e-8
        values.append(abs(p_row - q_row) * (p * np.log(p / q)).sum())
    return np.stack(values).reshape(base.shape)


def rows_of(x):
    return x.reshape(-1, x.shape[-1])


def fused(base, model):
    values = importance(base, model)
    ordered = np.sort(values.reshape(-1))
    q1, median, q3 = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    return np.where(values >= median + 1.5 * (q3 - q1), model - base, 0)


def test_worked_by_hand():
    # one row, so that I is proportional to |τ| = 1, 2, 3, 4, 20; the quartiles are its 2nd, 3rd
    # and 4th: threshold 3 + 1.5 · (4 − 2) = 6, which only the last exceeds
    tau = np.array([[1.0, -2.0, 3.0, -4.0, 20.0]])
    group = make_group((5,), 1, base=np.zeros(5), models=tau)
    assert merge(ArceeFusion(), group).tolist() == [0, 0, 0, 0, 20]


@pytest.mark.parametrize("shape", [*SHAPES, (60,), (20, 15), (9, 1), (1, 9), (6, 5, 4)])
def test_agrees_with_the_formula(shape):
    group = make_group(shape, 1, seed=7)
    expected = fused(group.base, group.models[0])
    assert_merges_to(ArceeFusion(), group, expected, sizes=(3, 10))


def test_a_scalar_is_the_models():
    group = make_group((), 1, seed=2)
    assert merge(ArceeFusion(), group) == group.models[0] - group.base


def test_large_values_do_not_overflow():
    group = make_group((4, 6), 1, seed=3)
    large = dataclasses.replace(group, base=group.base * 1e3, models=group.models * 1e3)
    assert np.isfinite(merge(ArceeFusion(), large)).all()
    flat = dataclasses.replace(
        large, base=large.base.reshape(-1), models=large.models.reshape(1, -1), shape=None
    )
    assert_merges_to(ArceeFusion(), flat, fused(flat.base, flat.models[0]))


@pytest.mark.parametrize("shape", [(200,), (20, 10)])
def test_above_the_sample_size_evenly_spaced_elements_decide(monkeypatch, shape):
    monkeypatch.setattr(_importance, "_SAMPLE_SIZE", 30)
    group = make_group(shape, 1, seed=4)
    values = importance(group.base, group.models[0])
    places = [(place * 200) // 30 for place in range(30)]
    ordered = np.sort(values.reshape(-1)[places])
    threshold = ordered[14] + 1.5 * (ordered[21] - ordered[7])
    expected = np.where(values >= threshold, group.models[0] - group.base, 0)
    for delta in (merge(ArceeFusion(), group), merge_sliced(ArceeFusion(), group, 25)):
        np.testing.assert_allclose(delta, expected, rtol=1e-12)


def test_an_equal_model_leaves_the_base_and_weights_are_refused():
    assert (merge(ArceeFusion(), make_group((5, 4), 1, equal=True)) == 0).all()
    with pytest.raises(RecipeError, match="arcee_fusion has no weights"):
        ArceeFusion().check_weights([0.5])
