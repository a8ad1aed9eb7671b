"""HuBERT on HubertModel: published sizes, the same numbers as transformers, strict about rates."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from transformers import HubertConfig, HubertModel

from mergekit_audio.backbones.hubert import Hubert
from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.probe.encoders import FrozenEncoder
from mergekit_audio.weights.checkpoint import Checkpoint

LAYOUTS = {
    "base": {"feat_extract_norm": "group", "conv_bias": False, "do_stable_layer_norm": False},
    "large": {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
}


def released(tmp_path, layout):
    """Write a tiny checkpoint as facebook's are: the config has no sample rate."""
    torch.manual_seed(3)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        **LAYOUTS[layout],
    )
    model = HubertModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter += 0.1 * torch.randn_like(parameter)
    folder = tmp_path / layout
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"sampling_rate": 16_000, "do_normalize": True})
    )
    return folder, model


def wave(seconds=0.5, batch=2):
    generator = torch.Generator().manual_seed(5)
    return 0.1 * torch.randn(batch, int(16_000 * seconds), generator=generator)


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_hidden_states_and_averages_equal_transformers(tmp_path, layout):
    folder, reference = released(tmp_path, layout)
    encoder = FrozenEncoder.of_checkpoint(Checkpoint.open(str(folder)), Hubert())
    model = encoder.build(3)
    with torch.no_grad():
        expected = torch.stack(reference(wave(), output_hidden_states=True).hidden_states, dim=1)
        found = Hubert().hidden_states(model, wave())
        averages = Hubert().pooler(model, bfloat16=False)(wave())
        cut = Hubert().pooler(encoder.build(1), bfloat16=False)(wave())
    assert found.shape == (2, 4, Hubert().frame_count(8000), 32)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(averages, expected.mean(dim=2), rtol=0, atol=1e-5)
    torch.testing.assert_close(cut, averages[:, :2], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("preset", "parameters"), [("base", 94_371_712), ("large", 315_438_720), ("tiny", None)]
)
def test_presets_have_the_published_numbers_of_parameters(preset, parameters):
    with torch.device("meta"):
        model = Hubert().build(Hubert().preset(preset), None, training=False, seed=0, device="meta")
    count = sum(math.prod(each.shape) for each in model.parameters())
    assert parameters in (None, count)
    assert Hubert().last_layer(Hubert().preset(preset)) == len(model.encoder.layers)


def test_fifty_frames_a_second():
    assert Hubert().frame_count(5 * 16_000) == 249
    assert Hubert().sample_rate_hz / Hubert().hop_length == 50


def test_mert_and_hubert_are_not_taken_for_each_other(tmp_path):
    folder, _ = released(tmp_path, "base")
    with pytest.raises(InputError, match=r"sampling_rate is 16000, .* at 24000 Hz"):
        FrozenEncoder.of_checkpoint(Checkpoint.open(str(folder)), Mert())
    with pytest.raises(InputError, match="model_type is 'mert_model', and the backbone is"):
        Hubert().build(Mert().preset("tiny"), None, training=False, seed=0)
    config = Hubert().preset("tiny") | {"sample_rate": 24_000}
    with pytest.raises(InputError, match="24000 Hz, 320 samples a frame") as caught:
        Hubert().build(config, None, training=False, seed=0)
    assert "the backbone 'hubert'" in caught.value.hint


def test_training_takes_the_attention_with_dropout_that_is_fastest():
    model = Hubert().build(
        Hubert().preset("tiny") | {"attention_dropout": 0.1}, None, training=True, seed=0
    )
    assert model.training
    assert model.config._attn_implementation == "eager"
    with pytest.raises(ValueError, match="the model is in training mode"):
        Hubert().hidden_states(model, wave())
    with pytest.raises(InputError, match="no preset 'bose'; it has base, large, tiny"):
        Hubert().preset("bose")
