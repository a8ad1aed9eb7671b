import math

import numpy as np
import pytest
from groups import make_group, merge, merge_sliced, merge_tensors
from pydantic import ValidationError
from spectral_oracles import (
    COUNTS_AND_LIBRARIES,
    assert_order_does_not_matter,
    cases,
    libraries,
    of_task_vectors,
    weighted,
)

from mergekit_audio.methods.pcb import Pcb


def minmax(values):
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.zeros_like(values)


def oracle(groups, ratio=0.1):
    """Merge the flat vector of all tensors, with sorts."""
    models = len(groups[0].weights)
    vectors = [
        np.concatenate([weighted(group)[i].reshape(-1) for group in groups]) for i in range(models)
    ]
    size, total = len(vectors[0]), sum(vectors)
    tail = math.floor(size * 1e-4)
    numerator, denominator = np.zeros(size), np.zeros(size)
    for own in vectors:
        ordered = np.sort(np.abs(own))
        magnitude = np.clip(np.abs(own), ordered[tail], ordered[size - 1 - tail])
        balance = np.exp(models * minmax(magnitude) ** 2) * np.tanh(own * total)
        lowest = np.sort(balance)[min(math.floor(size * (1 - ratio)), size - 1)]
        cut = np.maximum(balance, lowest)
        score = minmax(cut) if cut.max() > lowest else (balance >= lowest).astype(float)
        numerator += score * np.sign(own) * magnitude
        denominator += score
    return numerator / np.maximum(denominator, 1e-12)


@libraries
def test_what_cancels_scores_nothing(library):
    # total (2, 0): both models' balances are (exp(0) tanh 2, exp(2) tanh 0), their scores (1, 0)
    group = of_task_vectors([1, 3], [1, -3], library=library)
    np.testing.assert_allclose(merge(Pcb(ratio=1), group), [1, 0], atol=1e-14)


def test_scores_weigh_the_models():
    # one model outweighs the other where it is large beside its own elements
    group = of_task_vectors([1, 2, 3], [3, 2, 1])
    balances = np.array(
        [
            [math.tanh(4), math.exp(0.5) * math.tanh(8), math.exp(2) * math.tanh(12)],
            [math.exp(2) * math.tanh(12), math.exp(0.5) * math.tanh(8), math.tanh(4)],
        ]
    )
    low, high = math.tanh(4), math.exp(2) * math.tanh(12)
    scores = (balances - low) / (high - low)
    expected = (scores * [[1, 2, 3], [3, 2, 1]]).sum(0) / scores.sum(0)
    np.testing.assert_allclose(merge(Pcb(ratio=1), group), expected, atol=1e-14)
    assert expected[0] == 3


@cases
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_is_the_formula(shape, ratio):
    for count, library in COUNTS_AND_LIBRARIES:
        expected = oracle([make_group(shape, count, seed=3)], ratio)
        delta = merge(Pcb(ratio=ratio), make_group(shape, count, seed=3, library=library))
        np.testing.assert_allclose(delta.reshape(-1), expected, atol=1e-12)


@libraries
def test_ranges_are_of_all_tensors_and_tails_are_clipped(library):
    shapes = {"a": (90, 100), "b": (7,), "c": (50, 300)}
    groups = {
        name: make_group(shape, 3, seed, name=name, library=library)
        for seed, (name, shape) in enumerate(shapes.items())
    }
    merged = merge_tensors(Pcb(), groups, 1000)
    flat = np.concatenate([merged[name].reshape(-1) for name in groups])
    np.testing.assert_allclose(flat, oracle(list(groups.values())), atol=1e-12)


def test_slices_give_the_same_bits():
    group = make_group((7, 5), 3)
    assert np.array_equal(merge_sliced(Pcb(), group, 4), merge(Pcb(), group))


def test_equal_elements_and_a_model_that_is_the_base_are_no_harm():
    group = of_task_vectors([2.0, 2.0, 2.0], [0.0, 0.0, 0.0])
    np.testing.assert_allclose(merge(Pcb(), group).max(), 1.0)
    assert np.isfinite(merge(Pcb(), of_task_vectors([0.0, 0.0]))).all()


def test_the_order_of_the_models_does_not_matter():
    assert_order_does_not_matter(Pcb(), make_group((9, 14), 3))


@pytest.mark.parametrize("ratio", [0, 1.5])
def test_refuses_ratios_outside_0_and_1(ratio):
    with pytest.raises(ValidationError):
        Pcb(ratio=ratio)
