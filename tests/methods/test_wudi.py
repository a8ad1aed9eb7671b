import numpy as np
import pytest
import torch
from groups import make_group, merge
from pydantic import ValidationError
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    assert_reads_kernels_as_matrices,
    by_matrix,
    cases,
    libraries,
    of_task_vectors,
    weighted,
)

from mergekit_audio.methods.wudi import Wudi


def loss(merged, matrices):
    terms = [((merged - own) @ own.T) ** 2 / (own**2).sum() for own in matrices]
    return sum(term.sum() for term in terms)


def oracle(matrices, steps=15, learning_rate=1e-3):
    """Run torch's Adam on the loss as the paper writes it."""
    models = [torch.from_numpy(each) for each in matrices]
    merged = sum(models).clone().requires_grad_()
    optimizer = torch.optim.Adam([merged], lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(merged, models).backward()
        optimizer.step()
    return merged.detach().numpy()


def least_squares(matrices):
    """Return the minimum nearest to the sum: each ‖(T − t) tᵀ‖/‖t‖ is a least-squares term."""
    design = np.concatenate([own.T / np.linalg.norm(own) for own in matrices], axis=1)
    target = np.concatenate([own @ own.T / np.linalg.norm(own) for own in matrices], axis=1)
    start = sum(matrices)
    step = np.linalg.lstsq(design.T, (target - start @ design).T, rcond=1e-9)[0]
    return start + step.T


@libraries
def test_opposite_task_vectors_meet_between_them(library):
    # A = diag(2, 0), B = diag(2 - 1, 0): T = 1/2 in the one place, from the start 2 - 1 = 1
    group = of_task_vectors([[2, 0], [0, 0]], [[-1, 0], [0, 0]], library=library)
    delta = merge(Wudi(solver="exact"), group)
    np.testing.assert_allclose(delta, [[0.5, 0], [0, 0]], atol=1e-14)
    one_step = merge(Wudi(steps=1, learning_rate=0.01), group)
    np.testing.assert_allclose(one_step, [[0.99, 0], [0, 0]], atol=1e-9)


@cases
def test_is_adam_on_the_papers_loss(shape):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = by_matrix(oracle, make_group(shape, count, seed=count))
        method = Wudi(steps=15, learning_rate=1e-3)
        delta = merge(method, make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-9)


@cases
def test_the_exact_solver_is_least_squares(shape):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = by_matrix(least_squares, make_group(shape, count, seed=count))
        delta = merge(Wudi(solver="exact"), make_group(shape, count, seed=count, library=library))
        np.testing.assert_allclose(delta, expected, atol=1e-8)


def test_many_steps_of_adam_approach_the_exact_minimum():
    group = make_group((5, 4), 3)
    exact = merge(Wudi(solver="exact"), group)
    near = merge(Wudi(steps=6000, learning_rate=1e-3), group)
    np.testing.assert_allclose(near, exact, atol=1e-4)
    start = merge(Wudi(steps=1, learning_rate=1e-12), group)
    assert loss(exact, weighted(group)) < 0.9 * loss(start, weighted(group))


def test_the_papers_steps_lower_the_loss_and_move_no_element_far():
    group = make_group((12, 8), 4)
    matrices = weighted(group)
    delta = merge(Wudi(), group)
    assert loss(delta, matrices) < loss(sum(matrices), matrices)
    assert np.abs(delta - sum(matrices)).max() < 3.1e-3


@pytest.mark.parametrize("solver", ["adam", "exact"])
def test_a_model_that_is_the_base_has_no_part(solver):
    own = np.random.default_rng(0).standard_normal((4, 6))
    group = of_task_vectors(own, np.zeros((4, 6)))
    np.testing.assert_allclose(merge(Wudi(solver=solver), group), own, atol=1e-12)
    assert not merge(Wudi(solver=solver), of_task_vectors(np.zeros((4, 6)))).any()


def test_reads_kernels_as_matrices_when_asked():
    assert_reads_kernels_as_matrices(Wudi)


@pytest.mark.parametrize("solver", ["adam", "exact"])
def test_the_order_of_the_models_does_not_matter(solver):
    assert_order_does_not_matter(Wudi(solver=solver), make_group((9, 6), 3))


@pytest.mark.parametrize(
    "fields",
    [{"steps": 0}, {"learning_rate": 0}, {"solver": "sgd"}, {"solver": "exact", "steps": 3}],
)
def test_refuses_what_is_out_of_bounds(fields):
    with pytest.raises(ValidationError):
        Wudi(**fields)
