"""The probe learns what is there, keeps its best epoch, and depends on its own seed alone."""

import numpy as np
import pytest
import torch

from mergekit_audio.errors import InputError
from mergekit_audio.probe.heads import train_probe
from mergekit_audio.probe.metrics import score_labels
from mergekit_audio.recipe.evaluate import Protocol


def separable(rows, *, seed, layers=None, informative=True):
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 6) if layers is None else (rows, layers, 6)
    features = torch.randn(shape, generator=generator)
    used = features if layers is None else features[:, -1]
    targets = (used[:, :3] > 0).float()
    if not informative:
        targets = (torch.rand((rows, 3), generator=generator) < 0.5).float()
    return features, targets


def roc_auc(head, features, targets):
    with torch.inference_mode():
        scores = head(features).double().numpy()
    return score_labels(scores, targets.numpy().astype(bool), "abc", split="test").macro("roc_auc")


def trained(features, targets, valid, seed=0, **settings):
    protocol = Protocol(**{"hidden_size": 32, "max_epochs": 30, "batch_size": 16, **settings})
    return train_probe(features, targets, lambda head: roc_auc(head, *valid), protocol, seed)


@pytest.mark.parametrize("layers", [None, 4])
def test_separable_features_beat_chance(layers):
    train, valid, test = (separable(n, seed=n, layers=layers) for n in (200, 60, 300))
    result = trained(*train, valid, learning_rate=1e-2)
    assert roc_auc(result.head, *test) > 0.9
    weights = result.head.layer_weights()
    if layers is None:
        assert weights is None
    else:
        assert sum(weights) == pytest.approx(1)
        assert int(np.argmax(weights)) == layers - 1


def test_noise_scores_like_chance():
    train, valid, test = (separable(n, seed=n, informative=False) for n in (200, 60, 2000))
    assert roc_auc(trained(*train, valid).head, *test) == pytest.approx(0.5, abs=0.04)


def test_the_best_epoch_is_restored_and_stops_after_patience():
    features, targets = separable(40, seed=1)
    scores = iter([0.5, 0.9, 0.7, 0.9, 0.8, 0.6, 0.5])
    seen = []

    def validate(head):
        seen.append(head.snapshot())
        return next(scores)

    protocol = Protocol(hidden_size=8, patience=3, batch_size=16)
    result = train_probe(features, targets, validate, protocol, seed=0)
    assert result.best_epoch == 2  # the earliest of equals
    assert result.history == (0.5, 0.9, 0.7, 0.9, 0.8)
    for name, value in result.head.state_dict().items():
        assert torch.equal(value, seen[1][name])
        assert not torch.equal(value, seen[-1][name])


def test_seeds_differ_and_a_seed_repeats_whatever_the_global_state():
    features, targets = separable(60, seed=1)
    torch.manual_seed(1)
    first = trained(features, targets, (features, targets), seed=3)
    before = torch.random.get_rng_state()
    again = trained(features, targets, (features, targets), seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    other = trained(features, targets, (features, targets), seed=4)
    assert first.history == again.history
    assert torch.equal(first.head.hidden_weight, again.head.hidden_weight)
    assert not torch.equal(first.head.hidden_weight, other.head.hidden_weight)


def test_the_forward_is_the_formula():
    features, targets = separable(20, seed=2, layers=3)
    head = trained(features, targets, (features, targets), max_epochs=2).head
    state = {name: value.double().numpy() for name, value in head.state_dict().items()}
    mixing = np.exp(state["layer_scores"]) / np.exp(state["layer_scores"]).sum()
    mixed = np.einsum("bld,l->bd", features.double().numpy(), mixing)
    hidden = np.maximum(mixed @ state["hidden_weight"].T + state["hidden_bias"], 0)
    expected = hidden @ state["output_weight"].T + state["output_bias"]
    with torch.inference_mode():
        np.testing.assert_allclose(head(features).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_a_loss_that_is_not_finite_stops_with_a_hint():
    features, targets = separable(20, seed=2)
    features[3, 0] = float("nan")
    with pytest.raises(InputError, match="loss became nan"):
        trained(features, targets, (features, targets))
