"""Transfers on a small encoder: what starts as the base, what trains, what folds back."""

import copy

import pytest
import torch

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError
from mergekit_audio.registry import lookup
from mergekit_audio.transfers._prefix import PrefixAttention

SMALL = {
    "conv_dim": [8, 8, 8, 8, 8, 8, 8],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_conv_pos_embedding_groups": 2,
    "num_conv_pos_embeddings": 8,
    "num_hidden_layers": 2,
}
FOLDING = ["full", "finetune", "lora", "ssf", "bitfit"]
ADDING = ["adapter", "prompt", "prefix"]


def encoder(norm_first=False, attention="auto", seed=3):
    config = Mert().preset("95m") | SMALL | {"do_stable_layer_norm": norm_first}
    return Mert(attention=attention).build(config, None, training=False, seed=seed)


def wave(seed=0, clips=2):
    return torch.randn(clips, 4000, generator=torch.Generator().manual_seed(seed))


def prepared(name, model, **settings):
    transfer = lookup("transfers", name)(**settings)
    transfer.prepare(model, [each for each, _ in model.named_parameters()], seed=5)
    return transfer


def train_a_little(model, steps=3):
    chosen = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.Adam(chosen, lr=1e-2)
    for step in range(steps):
        loss = model(wave(step)).last_hidden_state[:, :, ::2].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("name", ["probing", "full", "finetune", "lora", "bitfit", "adapter"])
def test_at_the_start_nothing_changes(name, norm_first):
    model = encoder(norm_first)
    with torch.no_grad():
        before = model(wave()).last_hidden_state
        prepared(name, model)
        torch.testing.assert_close(model(wave()).last_hidden_state, before, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", [*FOLDING, *ADDING])
def test_each_transfer_trains_what_it_says(name, attention, norm_first):
    model = encoder(norm_first, attention)
    frames = model(wave()).last_hidden_state.shape
    prepared(name, model)
    before = {each: value.clone() for each, value in model.state_dict().items()}
    train_a_little(model)
    assert model(wave()).last_hidden_state.shape == frames
    parameters = dict(model.named_parameters())
    changed = {each for each in parameters if not torch.equal(before[each], parameters[each])}
    trained = {each for each, value in parameters.items() if value.requires_grad}
    # The mask vector and the keys' bias get no gradient (softmax does not see a shift of all keys).
    unseen = {each for each in trained if each == "masked_spec_embed"}
    assert changed <= trained
    assert trained - changed <= unseen | {each for each in trained if "k_proj" in each}


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("name", FOLDING)
def test_folded_weights_compute_the_same(name, norm_first):
    model = encoder(norm_first)
    layout = {each: value.shape for each, value in model.state_dict().items()}
    base = copy.deepcopy(model)
    transfer = prepared(name, model)
    train_a_little(model)
    folded = transfer.finish(model)
    assert {each: value.shape for each, value in folded.items()} == layout
    plain = encoder(norm_first)
    plain.load_state_dict(folded, strict=True)
    with torch.no_grad():
        tuned, again = (each(wave(9)).last_hidden_state for each in (model, plain))
        torch.testing.assert_close(again, tuned, rtol=0, atol=1e-5)
        assert (tuned - base(wave(9)).last_hidden_state).abs().max() > 1e-3


@pytest.mark.parametrize("name", ADDING)
def test_added_parts_have_no_plain_weights(name):
    model = encoder()
    transfer = prepared(name, model)
    with pytest.raises(InputError, match=f"{name}.*no task vector") as caught:
        transfer.finish(model)
    assert "lora, ssf or bitfit" in caught.value.hint


def test_initial_values_are_drawn_from_the_seed_and_the_name():
    first, again, other = encoder(), encoder(), encoder()
    prepared("lora", first)
    prepared("lora", again)
    lookup("transfers", "lora")().prepare(
        other, [each for each, _ in other.named_parameters()], seed=6
    )
    name = "encoder.layers.0.attention.q_proj.lora_a"
    values = [dict(each.named_parameters())[name] for each in (first, again, other)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert not torch.equal(
        values[0], dict(first.named_parameters())["encoder.layers.1.attention.q_proj.lora_a"]
    )
    assert values[0].abs().max() <= 1 / 16**0.5


def test_initial_values_of_ssf_and_prefix():
    model = encoder()
    prepared("ssf", model)
    scales = torch.cat(
        [v.detach().flatten() for n, v in model.named_parameters() if n.endswith("ssf_scale")]
    )
    shifts = torch.cat(
        [v.detach().flatten() for n, v in model.named_parameters() if n.endswith("ssf_shift")]
    )
    assert abs(float(scales.mean()) - 1) < 0.01
    assert abs(float(shifts.mean())) < 0.01
    assert 0.015 < float(scales.std()) < 0.025
    assert 0.015 < float(shifts.std()) < 0.025
    model = encoder()
    prepared("prefix", model)
    tokens = model.encoder.layers[0].attention.prefix.detach()
    assert tokens.shape == (64, 16)
    assert 0.9 < float(tokens.std()) < 1.1


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_without_prefix_tokens_is_the_encoders_own(attention):
    plain = encoder(attention=attention).encoder.layers[0].attention
    hidden = torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(1))
    own = PrefixAttention(plain, 0, 8, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        torch.testing.assert_close(own(hidden)[0], plain(hidden)[0], rtol=0, atol=1e-6)


def test_only_named_parts_of_the_encoder_train():
    model = encoder()
    chosen = [n for n, _ in model.named_parameters() if ".layers.1." in n or "feature" in n]
    lookup("transfers", "lora")().prepare(model, chosen)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained
    assert all(name.startswith("encoder.layers.1.") and "lora_" in name for name in trained)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_lora_computes_what_peft_does():
    peft = pytest.importorskip("peft")
    own = encoder()
    theirs = copy.deepcopy(own)
    prepared("lora", own)
    train_a_little(own)
    linears = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
    wrapped = peft.get_peft_model(
        theirs, peft.LoraConfig(r=2, lora_alpha=2, target_modules=linears)
    )
    trained = dict(own.named_parameters())
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                path = name.removeprefix("base_model.model.").replace(".default.weight", "")
                parameter.copy_(
                    trained[path.replace("lora_A", "lora_a").replace("lora_B", "lora_b")]
                )
        merged = wrapped.merge_and_unload()
        folded = lookup("transfers", "lora")().finish(own)
        for name, value in merged.state_dict().items():
            torch.testing.assert_close(folded[name], value, rtol=0, atol=1e-6)
        torch.testing.assert_close(
            own(wave(4)).last_hidden_state, merged(wave(4)).last_hidden_state, rtol=0, atol=1e-5
        )
