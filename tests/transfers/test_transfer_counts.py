"""What trains on six layers of MERT-95M, to the integer, without any weights."""

import pytest
import torch

from mergekit_audio.registry import lookup, names

COUNTS = {
    "probing": 0,
    "finetune": 51_844_480,
    "full": 51_844_480,
    "lora": 165_888,
    "ssf": 82_944,
    "bitfit": 50_688,
    "adapter": 322_752,
    "prompt": 49_152,
    "prefix": 7_385_088,
}


@pytest.fixture
def six_layers():
    from transformers import HubertConfig, HubertModel

    with torch.device("meta"):
        return HubertModel(HubertConfig(num_hidden_layers=6))  # its defaults are MERT-95M's sizes


def test_every_transfer_is_counted():
    assert sorted(COUNTS) == sorted(names("transfers"))


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts_are_the_papers(name, six_layers):
    transfer = lookup("transfers", name)()
    shapes = {each: tuple(parameter.shape) for each, parameter in six_layers.named_parameters()}
    assert sum(transfer.trained_sizes(shapes, list(shapes)).values()) == COUNTS[name]
    transfer.prepare(six_layers, list(shapes))
    trained = sum(each.numel() for each in six_layers.parameters() if each.requires_grad)
    assert trained == COUNTS[name]
    on_cpu = [each for each, value in six_layers.named_parameters() if not value.is_meta]
    assert on_cpu == ["masked_spec_embed"]  # transformers makes this one outside of the context


def test_variants_of_table_1(six_layers):
    shapes = {each: tuple(parameter.shape) for each, parameter in six_layers.named_parameters()}
    prefix = lookup("transfers", "prefix")(tokens=32)
    assert sum(prefix.trained_sizes(shapes, list(shapes)).values()) == 7_237_632
    adapter = lookup("transfers", "adapter")(layer_norms=False)
    assert sum(adapter.trained_sizes(shapes, list(shapes)).values()) == 304_320


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_lora_counts_as_peft_does(six_layers):
    peft = pytest.importorskip("peft")
    linears = ["q_proj", "k_proj", "v_proj", "out_proj", "intermediate_dense", "output_dense"]
    wrapped = peft.get_peft_model(
        six_layers, peft.LoraConfig(r=2, lora_alpha=2, target_modules=linears)
    )
    assert sum(each.numel() for each in wrapped.parameters() if each.requires_grad) == 165_888
