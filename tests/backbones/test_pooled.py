"""Averages computed layer by layer against the hidden states of HubertModel's own modules."""

import threading

import pytest
import torch

from mergekit_audio.backbones import _front
from mergekit_audio.backbones.mert import Mert

LAYOUTS = [
    {},
    {"do_stable_layer_norm": False},
    {"feat_extract_norm": "layer"},
    {"feat_extract_norm": "layer", "conv_bias": True},
    {"conv_bias": True},
    {"feat_proj_layer_norm": False},
    {"hidden_act": "relu", "feat_extract_activation": "relu"},
    {"conv_pos_batch_norm": True},
]


def make(**config):
    model = Mert().build(Mert().preset("tiny") | config, None, training=False, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model


def wave(seconds=1.0, batch=2):
    noise = torch.randn(batch, int(24_000 * seconds), generator=torch.Generator().manual_seed(2))
    return 0.2 + 0.1 * noise.cumsum(dim=1) / 100


def error(found, expected):
    norms = expected.norm(dim=(0, 2))
    return float(((found - expected).norm(dim=(0, 2)) / norms).max())


def averages(model, sound):
    with torch.no_grad():
        return Mert().hidden_states(model, sound).mean(dim=2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float32_is_the_modules(layout):
    model = make(**layout)
    found = Mert().pooler(model, bfloat16=False)(wave())
    assert found.dtype == torch.float32
    assert error(found, averages(model, wave())) < 2e-6


@pytest.mark.parametrize("values", [1 << 20, 300])
@pytest.mark.parametrize("samples", [400, 4000, 5003])
def test_where_chunks_of_the_front_meet(monkeypatch, samples, values):
    monkeypatch.setattr(_front, "_CHUNK_VALUES", values)
    model = make()
    sound = wave()[:, :samples]
    assert error(Mert().pooler(model, bfloat16=False)(sound), averages(model, sound)) < 1e-5


@pytest.mark.parametrize("layout", LAYOUTS[:5])
def test_bfloat16_is_near_float32(layout):
    """Also with 12 channels in a group of the positional convolution, where oneDNN's is wrong."""
    model = make(**layout)
    assert error(Mert().pooler(model, bfloat16=True)(wave()), averages(model, wave())) < 0.02


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_clip_does_not_depend_on_calls_before_or_beside_it(bfloat16):
    """Room is used again by shorter and longer clips, and by each thread for itself."""
    model = make()
    pooled = Mert().pooler(model, bfloat16=bfloat16)
    sounds = [wave(seconds, 1) for seconds in (1.0, 0.3, 2.0)]
    expected = [Mert().pooler(model, bfloat16=bfloat16)(sound) for sound in sounds]
    found = {}

    def work(name):
        found[name] = [pooled(sound) for _ in range(5) for sound in sounds]

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for results in found.values():
        for result, sound in zip(results, expected * 5, strict=True):
            assert torch.equal(result, sound)


def test_the_model_is_left_as_it_was():
    model = make()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    Mert().pooler(model, bfloat16=True)(wave())
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


@pytest.mark.parametrize("part", ["", "encoder.layers.1.dropout"])
def test_a_model_in_training_mode_is_refused(part):
    model = make()
    model.get_submodule(part).train()
    for compute in (
        lambda: Mert().pooler(model, bfloat16=False),
        lambda: Mert().hidden_states(model, wave()),
    ):
        with pytest.raises(ValueError, match="training mode"):
            compute()
