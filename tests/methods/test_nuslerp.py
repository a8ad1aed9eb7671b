import math

import numpy as np
import pytest
from agreement import SHAPES, assert_merges_to
from groups import make_group, merge

from mergekit_audio.methods.nuslerp import Nuslerp


def between(a, b, t):
    a_unit, b_unit = (x / max(float(np.sqrt(x @ x)), 1e-7) for x in (a, b))
    cosine = min(max(float(a_unit @ b_unit), -1), 1)
    if 1 - cosine**2 <= 1e-12:
        return (1 - t) * a + t * b
    angle = math.acos(cosine)
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


def nuslerp(a, b, t, vectors):
    if vectors == "tensor" or a.ndim < 2:
        return between(a.reshape(-1), b.reshape(-1), t).reshape(a.shape)
    axis = -1 if vectors == "last_axis" else 0
    a_rows, b_rows = (np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for x in (a, b))
    rows = np.stack([between(x, y, t) for x, y in zip(a_rows, b_rows, strict=True)])
    moved = np.moveaxis(a, axis, -1).shape
    return np.moveaxis(rows.reshape(moved), -1, axis)


def test_worked_by_hand():
    # τ = (3, 0) and (0, 1), t = 2 / (1 + 2): sin 30° · (3, 0) + sin 60° · (0, 1)
    group = make_group(
        (2,), 2, base=np.ones(2), models=np.array([[4.0, 1.0], [1.0, 2.0]]), weights=(1.0, 2.0)
    )
    assert merge(Nuslerp(), group) == pytest.approx([1.5, math.sqrt(0.75)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("vectors", ["tensor", "last_axis", "first_axis"])
@pytest.mark.parametrize("space", ["task_vectors", "weights"])
def test_agrees_with_the_formula(shape, vectors, space):
    group = make_group(shape, 2, seed=5, weights=(0.4, 1.1))
    x = group.task_vectors if space == "task_vectors" else group.models
    expected = nuslerp(x[0], x[1], 1.1 / 1.5, vectors)
    if space == "weights":
        expected = expected - group.base
    assert_merges_to(Nuslerp(vectors=vectors, space=space), group, expected)


@pytest.mark.parametrize("vectors", ["tensor", "last_axis", "first_axis"])
def test_collinear_vectors_zeros_and_weights_that_cancel(vectors):
    group = make_group((3, 4), 2, seed=6, weights=(1.0, -1.0))
    tau = group.task_vectors
    same = make_group(
        (3, 4), 2, base=group.base, weights=(1.0, -1.0), models=np.stack([tau[0], 2 * tau[0]])
    )
    same_on_zero = make_group(
        (3, 4), 2, base=np.zeros((3, 4)), models=same.models, weights=(1.0, -1.0)
    )
    assert_merges_to(Nuslerp(vectors=vectors), same_on_zero, 1.5 * tau[0])
    frozen = make_group(
        (3, 4), 2, base=np.zeros((3, 4)), models=np.stack([0 * tau[0], tau[0]]), weights=(1.0, 1.0)
    )
    assert_merges_to(Nuslerp(vectors=vectors), frozen, math.sqrt(0.5) * tau[0])


def test_options_change_what_the_engine_may_cut():
    assert Nuslerp.granularity == Nuslerp().granularity == "element"
    assert Nuslerp(vectors="first_axis").granularity == "row"
    assert Nuslerp().needs_base
    assert not Nuslerp(space="weights").needs_base
