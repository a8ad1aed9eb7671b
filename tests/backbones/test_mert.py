"""MERT on HubertModel: the same numbers as plain transformers, published sizes, strict loading."""

import math

import pytest
import torch
from checkpoints import make_mert_checkpoint
from transformers import HubertConfig, HubertModel

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.globs import matches

OLD = "encoder.pos_conv_embed.conv.weight_"
NEW = "encoder.pos_conv_embed.conv.parametrizations.weight.original"


def mert(attention="eager"):
    return Mert.model_validate({"attention": attention})


def plain_hubert(preset, **changes):
    """Return transformers' own model with the numbers of cpt.md typed in once more."""
    sizes = {
        "95m": (768, 12, 12, 3072, (512,) * 7, 128, 16),
        "330m": (1024, 24, 16, 4096, (512,) * 7, 128, 16),
        "tiny": (96, 4, 2, 256, (16, 32, 32, 48, 64, 64, 64), 32, 8),
    }
    width, layers, heads, inner, front, positions, groups = sizes[preset]
    config = HubertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        conv_dim=front,
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        num_conv_pos_embeddings=positions,
        num_conv_pos_embedding_groups=groups,
        attn_implementation="eager",
        **{"do_stable_layer_norm": preset == "330m", **changes},
    )
    return HubertModel(config).eval()


def wave(seconds=0.5, batch=2, seed=5):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, int(24_000 * seconds), generator=generator)


@pytest.mark.parametrize("stable", [False, True])
def test_hidden_states_equal_plain_transformers(stable):
    torch.manual_seed(3)
    reference = plain_hubert("tiny", do_stable_layer_norm=stable)
    config = mert().preset("tiny") | {"do_stable_layer_norm": stable}
    model = mert().build(config, reference.state_dict(), training=False)
    with torch.no_grad():
        expected = reference(wave(), output_hidden_states=True).hidden_states
        found = mert().hidden_states(model, wave())
    assert found.shape == (2, 5, 37, 96)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.stack(expected, dim=1), rtol=0, atol=0)


def test_a_checkpoint_folder_gives_the_same_as_from_pretrained(tmp_path):
    layout = {"do_stable_layer_norm": False}
    folder = make_mert_checkpoint(tmp_path / "model", seed=7, overrides=layout)
    reference = HubertModel.from_pretrained(folder, attn_implementation="eager").eval()
    checkpoint = Checkpoint.open(str(folder))
    model = mert().build(checkpoint.config, checkpoint.state_dict(), training=False)
    with torch.no_grad():
        expected = reference(wave(), output_hidden_states=True)
        found = mert().hidden_states(model, wave())
    assert torch.equal(found, torch.stack(expected.hidden_states, dim=1))
    assert torch.equal(found[:, -1], expected.last_hidden_state)


def test_sdpa_computes_the_same_as_eager():
    eager = mert().build(mert().preset("tiny"), None, training=False, seed=1)
    sdpa = mert("sdpa").build(mert().preset("tiny"), eager.state_dict(), training=False)
    assert sdpa.config._attn_implementation == "sdpa"
    with torch.no_grad():
        torch.testing.assert_close(
            mert().hidden_states(sdpa, wave()),
            mert().hidden_states(eager, wave()),
            rtol=0,
            atol=1e-5,
        )


def test_the_95m_preset_has_the_published_numbers_of_parameters():
    with torch.device("meta"):
        model = plain_hubert("95m")
    count = {
        name: sum(math.prod(p.shape) for p in part.parameters())
        for name, part in model.named_children()
    }
    assert count["feature_extractor"] == 4_200_448
    assert count["feature_projection"] == 395_008
    assert count["encoder"] == 89_775_488
    own = shapes_of("95m")
    assert len(own) == 211
    assert own["masked_spec_embed"] == (768,)
    assert sum(math.prod(shape) for shape in own.values()) == 94_371_712
    assert own == {name: tuple(p.shape) for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("preset", "width", "layers", "inner", "front", "positions", "groups"),
    [
        ("95m", 768, 12, 3072, (512,) * 7, 128, 16),
        ("330m", 1024, 24, 4096, (512,) * 7, 128, 16),
        ("tiny", 96, 4, 256, (16, 32, 32, 48, 64, 64, 64), 32, 8),
    ],
)
def test_parameters_counted_by_hand(preset, width, layers, inner, front, positions, groups):
    kernels = (10, 3, 3, 3, 3, 2, 2)
    inputs = (1, *front[:-1])
    cnn = sum(i * o * k for i, o, k in zip(inputs, front, kernels, strict=True)) + 2 * front[0]
    projection = 2 * front[-1] + front[-1] * width + width
    position = width * (width // groups) * positions + positions + width
    layer = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
    total = cnn + projection + position + 2 * width + layers * layer + width
    assert sum(math.prod(shape) for shape in shapes_of(preset).values()) == total


def shapes_of(preset):
    from mergekit_audio.backbones._hubert import hubert_config

    settings = hubert_config(
        mert().preset(preset),
        attention="eager",
        sample_rate_hz=24_000,
        hop_length=320,
        receptive_field=400,
    )
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in HubertModel(settings).named_parameters()}


def test_both_spellings_of_the_weight_norm_load():
    model = mert().build(mert().preset("tiny"), None, training=False, seed=2)
    state = model.state_dict()
    assert NEW + "0" in state
    old = {
        name.replace(NEW + "0", OLD + "g").replace(NEW + "1", OLD + "v"): state[name]
        for name in state
    }
    assert OLD + "g" in old
    again = mert().build(mert().preset("tiny"), old, training=False)
    assert all(torch.equal(again.state_dict()[name], state[name]) for name in state)


def test_the_weights_given_are_not_shared_with_the_model():
    model = mert().build(mert().preset("tiny"), None, training=False, seed=2)
    state = model.state_dict()
    again = mert().build(mert().preset("tiny"), state, training=True)
    with torch.no_grad():
        again.masked_spec_embed.add_(1.0)
    assert not torch.equal(again.masked_spec_embed, model.masked_spec_embed)


def test_every_difference_of_the_weights_is_named():
    state = dict(mert().build(mert().preset("tiny"), None, training=False, seed=2).state_dict())
    del state[NEW + "0"], state["encoder.layers.3.layer_norm.bias"]
    state["heads.cqt.weight"] = torch.zeros(3)
    state["masked_spec_embed"] = torch.zeros(97)
    state["encoder.layer_norm.bias"] = torch.zeros(96, dtype=torch.int64)
    with pytest.raises(InputError) as caught:
        mert().build(mert().preset("tiny"), state, training=False)
    for line in (
        "5 differences",
        "missing tensor encoder.layers.3.layer_norm.bias",
        f"missing tensor {OLD}g",
        "unexpected tensor heads.cqt.weight",
        "masked_spec_embed: shape [97], the config asks for [96]",
        "encoder.layer_norm.bias: holds torch.int64, expected floating point",
    ):
        assert line in caught.value.message


def test_layer_norm_placement_comes_from_the_config():
    config = mert().preset("tiny")
    state = mert().build(config, None, training=False, seed=2).state_dict()
    with torch.no_grad():
        found = [
            mert().hidden_states(mert().build(config | change, state, training=False), wave())
            for change in ({}, {"do_stable_layer_norm": True}, {"do_stable_layer_norm": False})
        ]
    assert torch.equal(found[0], found[1])
    assert (found[0] - found[2]).abs().max() > 0.1
    assert not mert().preset("95m")["do_stable_layer_norm"]
    assert mert().preset("330m")["do_stable_layer_norm"]


def test_random_weights_depend_on_the_seed_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = mert().build(mert().preset("tiny"), None, training=False, seed=4).state_dict()
    torch.manual_seed(99)
    again = mert().build(mert().preset("tiny"), None, training=False, seed=4).state_dict()
    other = mert().build(mert().preset("tiny"), None, training=False, seed=5).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["masked_spec_embed"], other["masked_spec_embed"])
    torch.manual_seed(0)
    mert().build(mert().preset("tiny"), None, training=False, seed=4)
    assert torch.equal(torch.get_rng_state(), before)


def test_parameter_groups_cover_every_parameter_once():
    names = [
        n.replace(NEW + "0", OLD + "g").replace(NEW + "1", OLD + "v") for n in shapes_of("tiny")
    ]
    for name in names:
        groups = [
            group
            for group, patterns in Mert.parameter_groups.items()
            if any(matches(pattern, name) for pattern in patterns)
        ]
        assert len(groups) == 1, (name, groups)


@pytest.mark.parametrize(("seconds", "frames"), [(5, 374), (30, 2249), (400 / 24_000, 1), (0.1, 7)])
def test_frames_of_a_clip(seconds, frames):
    samples = round(seconds * 24_000)
    assert mert().frame_count(samples) == frames
    if seconds < 1:
        model = mert().build(mert().preset("tiny"), None, training=False, seed=0)
        with torch.no_grad():
            found = mert().hidden_states(model, torch.zeros(1, samples))
        assert found.shape[2] == frames


@pytest.mark.parametrize(
    ("attention", "dropout", "device", "training", "expected"),
    [
        ("auto", 0.1, "cpu", True, "eager"),
        ("auto", 0.1, "cpu", False, "sdpa"),
        ("auto", 0.0, "cpu", True, "sdpa"),
        ("auto", 0.1, "cuda:0", True, "sdpa"),
        ("sdpa", 0.1, "cpu", True, "sdpa"),
        ("eager", 0.0, "cuda", False, "eager"),
    ],
)
def test_attention_implementation(attention, dropout, device, training, expected):
    config = {"attention_dropout": dropout}
    assert mert(attention).attention_for(config, device=device, training=training) == expected


@pytest.mark.parametrize("training", [False, True])
def test_training_mode(training):
    model = mert("auto").build(mert().preset("tiny"), None, training=training, seed=0)
    assert model.training is training
    assert not model.config.apply_spec_augment


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "wav2vec2"}, "model_type is 'wav2vec2', expected one of mert_model"),
        ({"deepnorm": True}, "deepnorm is true"),
        ({"feature_extractor_cqt": True}, "feature_extractor_cqt is true"),
        ({"sample_rate": 16_000}, "16000 Hz, 320 samples a frame"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "24000 Hz, 160 samples a frame"),
        ({"hidden_size": "wide"}, "config.json: .*hidden_size"),
    ],
)
def test_configurations_of_something_else_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        mert().build(mert().preset("tiny") | change, None, training=False, seed=0)


def test_other_misuse_is_refused():
    with pytest.raises(InputError, match="no preset '95M'; it has 330m, 95m, tiny") as caught:
        mert().preset("95M")
    assert "did you mean '95m'" in caught.value.hint
    with pytest.raises(ValueError, match="weights or the seed"):
        mert().build(mert().preset("tiny"), None, training=False)
    model = mert().build(mert().preset("tiny"), None, training=False, seed=0)
    with pytest.raises(InputError, match=r"shape \[1, 399\]"):
        mert().hidden_states(model, torch.zeros(1, 399))
    with pytest.raises(ValueError, match="evaluation mode"):
        mert().hidden_states(model.train(), torch.zeros(1, 400))
