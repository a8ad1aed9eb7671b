"""Tiny transformers models, their checkpoints and LoRA adapters that real peft writes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

CONVOLUTIONS: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 3),
    "conv_stride": (5, 2),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


def tiny_hubert(**changes: Any) -> torch.nn.Module:
    from transformers import HubertConfig, HubertModel

    values = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": (8, 12),
        "conv_kernel": (10, 3),
        "conv_stride": (5, 2),
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "apply_spec_augment": False,
    }
    return seeded(lambda: HubertModel(HubertConfig(**{**values, **changes})))


def tiny_llama(**changes: Any) -> torch.nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {
        "vocab_size": 40,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
    }
    return seeded(lambda: LlamaForCausalLM(LlamaConfig(**{**values, **changes})))


def tiny_gpt2() -> torch.nn.Module:
    from transformers import GPT2Config, GPT2Model

    return seeded(lambda: GPT2Model(GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2)))


def tiny_wav2vec2() -> torch.nn.Module:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    return seeded(lambda: Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=12, **CONVOLUTIONS)))


def tiny_whisper() -> torch.nn.Module:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=50,
        num_mel_bins=8,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=30,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
    )
    return seeded(lambda: WhisperForConditionalGeneration(config))


def tiny_encodec() -> torch.nn.Module:
    from transformers import EncodecConfig, EncodecModel

    config = EncodecConfig(
        hidden_size=8,
        num_filters=4,
        codebook_size=16,
        codebook_dim=8,
        upsampling_ratios=[4, 2],
        num_lstm_layers=1,
        target_bandwidths=[24.0],
        sampling_rate=8000,
    )
    return seeded(lambda: EncodecModel(config))


def tiny_bert() -> torch.nn.Module:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    return seeded(lambda: BertModel(config))


def seeded(build: Any, seed: int = 0) -> torch.nn.Module:
    """Return a model in evaluation mode whose random weights, biases too, come from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: torch.nn.Module = build()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def tensors_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return a copy of the model's tensors by name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def write_adapter(model: torch.nn.Module, folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """Save an adapter of random factors, and return the tensors that peft merges it to."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        wrapped = get_peft_model(model, LoraConfig(init_lora_weights=False, **settings))
        wrapped.save_pretrained(folder)
        return tensors_of(wrapped.merge_and_unload())
