"""Descent on λ: gradients against finite differences and autograd, optima that are known."""

import numpy as np
import pytest
import torch
from torch import nn

from mergekit_audio.errors import InputError
from mergekit_audio.sweep.unlabelled.descent import Composition, descend


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(3, 4))
        self.second = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return torch.tanh(x @ self.first) * self.second


def make(seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = Two()
    shapes = {name: each.shape for name, each in model.named_parameters()}
    base, *vectors = (
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
        for _ in range(3)
    )
    groups = {"first": "front", "second": "encoder"}
    named = {"makam": vectors[0], "lyra": vectors[1]}
    return model, base, named, Composition(model, base, named, groups)


def test_the_gradient_is_autograds_through_the_weights():
    model, base, vectors, composition = make()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    values = torch.tensor([[0.2, 0.7], [-0.1, 0.4]], dtype=torch.float64, requires_grad=True)
    weights = {
        name: base[name].double()
        + sum(
            values[i, j] * vectors[culture][name].double()
            for i, culture in enumerate(("makam", "lyra"))
        )
        for j, name in enumerate(("first", "second"))
    }
    expected = (torch.tanh(x.double() @ weights["first"]) * weights["second"]).square().sum()
    expected.backward()
    composition.set_scales(values.detach())
    loss = model(x).square().sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(composition.gradient(), values.grad, rtol=1e-4, atol=1e-5)


def quadratic(composition, target):
    """Half the squared distance of the weights from those of a λ."""
    goal = {}
    composition.set_scales(torch.tensor(target, dtype=torch.float64))
    for name, each in composition.model.named_parameters():
        goal[name] = each.detach().clone()
    return lambda step: sum(
        (each - goal[name]).square().sum() / 2
        for name, each in composition.model.named_parameters()
    )


def test_a_known_optimum_is_found():
    composition = make()[3]
    target = [[0.3, 0.1], [0.7, -0.2]]
    loss = quadratic(composition, target)
    found = descend(composition, loss, rounds=400, steps_a_round=1, learning_rate=0.02, initial=0.3)
    values = [[found.scales[c][g] for g in ("front", "encoder")] for c in ("makam", "lyra")]
    np.testing.assert_allclose(values, target, atol=5e-3)
    assert found.loss < 1e-3 * found.history[0][0]
    assert found.history[0][1]["makam"]["front"] == pytest.approx(0.3)


def test_one_shared_scale_is_the_least_squares_one():
    vectors, composition = make()[2:]
    loss = quadratic(composition, [[0.3, 0.3], [0.9, 0.9]])
    found = descend(
        composition, loss, rounds=400, steps_a_round=1, learning_rate=0.02, initial=0.0, shared=True
    )
    (value,) = {scale for own in found.scales.values() for scale in own.values()}
    m, t = (np.concatenate([each.numpy().ravel() for each in vectors[n].values()]) for n in vectors)
    both = m + t
    assert value == pytest.approx((0.3 * m + 0.9 * t) @ both / (both @ both), abs=5e-3)


def test_the_best_round_is_kept_and_the_same_again():
    def run():
        composition = make()[3]
        loss = quadratic(composition, [[0.5, 0.5], [0.5, 0.5]])
        return descend(
            composition, loss, rounds=6, steps_a_round=2, learning_rate=0.9, initial=[0.5, 0.4]
        )

    one, two = run(), run()
    assert one == two
    assert one.loss == min(loss for loss, _ in one.history)
    assert len(one.history) == 7


def test_a_vector_without_a_parameter_does_not_move_it():
    model, base, vectors, _ = make()
    only = {"makam": {"first": vectors["makam"]["first"]}}
    composition = Composition(model, base, only, {"first": "all", "second": "all"})
    composition.set_scales(torch.tensor([[2.0]]))
    torch.testing.assert_close(model.second.detach(), base["second"])
    torch.testing.assert_close(model.first.detach(), base["first"] + 2 * vectors["makam"]["first"])


def test_what_is_refused():
    model, base, vectors, composition = make()
    with pytest.raises(ValueError, match="no parameter third"):
        Composition(model, {"third": base["first"]}, vectors, {"third": "all"})
    with pytest.raises(InputError, match="the loss is inf at λ"):
        descend(
            composition,
            lambda step: torch.tensor(float("inf")),
            rounds=1,
            steps_a_round=1,
            learning_rate=0.1,
            initial=0.3,
        )
