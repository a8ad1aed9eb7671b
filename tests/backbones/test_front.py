"""The front as matrix products against HubertModel's own modules."""

import pytest
import torch

from mergekit_audio.backbones import _front
from mergekit_audio.backbones.mert import Mert


def make_front(**config):
    model = Mert().build(Mert().preset("tiny") | config, None, training=True, seed=0)
    front = model.feature_extractor
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        if hasattr(front.conv_layers[0], "layer_norm"):
            front.conv_layers[0].layer_norm.weight.uniform_(0.5, 1.5, generator=generator)
            front.conv_layers[0].layer_norm.bias.uniform_(-0.5, 0.5, generator=generator)
    return front


def smooth_noise(clips, samples):
    """Neighbouring samples nearly equal, as in music, and an offset."""
    noise = torch.randn(clips, samples, generator=torch.Generator().manual_seed(2)).cumsum(dim=1)
    return 0.2 + 0.3 * noise / noise.abs().max()


def both(front, wave):
    """Features and gradients of the modules and of the products, for the same loss."""
    results = []
    for compute in (lambda: front(wave).transpose(1, 2), lambda: _front.front_frames(front, wave)):
        front.zero_grad()
        features = compute()
        weight = torch.randn(features.shape, generator=torch.Generator().manual_seed(3))
        (features.float() * weight).sum().backward()
        gradients = {name: each.grad.clone() for name, each in front.named_parameters()}
        results.append((features.detach(), gradients))
    return results


def require_close(found, expected, tolerance):
    assert found.shape == expected.shape
    error = float((found.float() - expected.float()).norm())
    assert error <= tolerance * float(expected.float().norm())


@pytest.mark.parametrize("values", [1 << 20, 300, 1])
@pytest.mark.parametrize("samples", [400, 4000, 5003])
def test_features_and_gradients_are_the_modules(monkeypatch, samples, values):
    """Also where chunks meet, and where samples are left over at the end of a layer."""
    monkeypatch.setattr(_front, "_CHUNK_VALUES", values)
    front = make_front().double()
    expected, found = both(front, smooth_noise(2, samples).double())
    require_close(found[0], expected[0], 1e-10)
    for name, gradient in expected[1].items():
        require_close(found[1][name], gradient, 1e-9)


def test_float32_is_as_near_to_float64_as_the_modules():
    front, wave = make_front(), smooth_noise(2, 24_000)
    (theirs, their_gradients), (ours, our_gradients) = both(front, wave)
    exact, gradients = both(front.double(), wave.double())[0]
    own_error, module_error = (float((each.double() - exact).norm()) for each in (ours, theirs))
    assert own_error <= 2 * module_error + 1e-6 * float(exact.norm())
    for name, gradient in gradients.items():
        own, module = (
            float((each[name].double() - gradient).norm())
            for each in (our_gradients, their_gradients)
        )
        assert own <= 2 * module + 1e-6 * float(gradient.norm()), name


def test_bfloat16_is_no_further_from_float32_than_the_modules():
    front, wave = make_front(), smooth_noise(2, 24_000)
    exact, gradients = both(front, wave)[0]
    with torch.autocast("cpu", torch.bfloat16):
        (theirs, their_gradients), (ours, our_gradients) = both(front, wave)
    assert ours.dtype == torch.bfloat16
    own, module = (float((each.float() - exact).norm()) for each in (ours, theirs))
    assert own <= 1.5 * module
    for name, gradient in gradients.items():
        own, module = (
            float((each[name] - gradient).norm()) for each in (our_gradients, their_gradients)
        )
        assert own <= 1.5 * module + 1e-3 * float(gradient.norm()), name


@pytest.mark.parametrize("config", [{"feat_extract_norm": "layer"}, {"conv_bias": True}])
def test_other_fronts_take_their_modules(config):
    front = make_front(**config)
    wave = smooth_noise(1, 4000)
    torch.testing.assert_close(_front.front_frames(front, wave), front(wave).transpose(1, 2))


def test_little_is_kept_for_the_way_back():
    """What enters each GELU from the second layer on, where the modules keep all they make."""
    kept = {}
    front, wave = make_front(), smooth_noise(2, 24_000)
    for name, compute in (
        ("modules", lambda: front(wave)),
        ("ours", lambda: _front.front_frames(front, wave)),
    ):
        sizes = {}

        def pack(tensor, sizes=sizes):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = compute()
        assert result.requires_grad
        kept[name] = sum(sizes.values())
    assert kept["ours"] < 0.4 * kept["modules"]


def test_without_gradients_nothing_is_kept():
    front, wave = make_front(), smooth_noise(1, 4000)
    with torch.no_grad():
        features = _front.front_frames(front, wave)
    assert features.grad_fn is None
    assert not features.requires_grad
