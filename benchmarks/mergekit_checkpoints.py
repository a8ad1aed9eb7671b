"""Small float32 checkpoints for compare_mergekit.py: a HuBERT and a Llama, base and models."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np

MODELS = ("base", "a", "b", "c")
WIDTH, INNER, LAYERS = 48, 96, 5


def write_checkpoints(root: Path) -> None:
    """Write base, a, b, c of a HuBERT and of a Llama, float32, under ``hubert`` and ``llama``."""
    configs = {
        "hubert": {
            "architectures": ["HubertModel"],
            "model_type": "hubert",
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
        },
        "llama": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_hidden_layers": LAYERS,
            "hidden_size": WIDTH,
            "intermediate_size": INNER,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 96,
            "tie_word_embeddings": False,
        },
    }
    from safetensors.numpy import save_file

    for family, shapes in {"hubert": _hubert(), "llama": _llama()}.items():
        for model in MODELS:
            folder = root / family / model
            folder.mkdir(parents=True, exist_ok=True)
            tensors = {name: _values(name, shape, model) for name, shape in shapes.items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(configs[family]), encoding="utf-8")

    _write_adapter(root / "llama" / "adapter")
    folder = root / "hubert" / "half"
    folder.mkdir(parents=True, exist_ok=True)
    half = {name: _values(name, shape, "a").astype("f2") for name, shape in _hubert().items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})


def _write_adapter(folder: Path) -> None:
    """Write a LoRA adapter of rank 4 for the Llama's q_proj and down_proj."""
    from safetensors.numpy import save_file

    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "./llama/base",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "down_proj"],
    }
    tensors = {}
    for name, shape in _llama().items():
        if name.endswith(("q_proj.weight", "down_proj.weight")):
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = _values(f"{name} A", (4, shape[1]), "base")
            tensors[f"{stem}.lora_B.weight"] = _values(f"{name} B", (shape[0], 4), "base")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _values(name: str, shape: tuple[int, ...], model: str) -> np.ndarray:
    """Return N(0, 0.05²), for a, b, c with N(0, 0.01²) added to nine elements of ten."""
    base = np.random.default_rng(zlib.crc32(name.encode())).normal(0, 0.05, shape)
    if model != "base":
        noise = np.random.default_rng(zlib.crc32(f"{model} {name}".encode()))
        base = base + noise.normal(0, 0.01, shape) * (noise.random(shape) < 0.9)
    return base.astype(np.float32)


def _hubert() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"masked_spec_embed": (WIDTH,)}
    for i, channels in enumerate((1, 32, 32)):
        shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] = (32, channels, 3)
    shapes["feature_extractor.conv_layers.0.layer_norm.weight"] = (32,)
    shapes["feature_projection.projection.weight"] = (WIDTH, 32)
    shapes["feature_projection.projection.bias"] = (WIDTH,)
    kernel = "encoder.pos_conv_embed.conv.parametrizations.weight"
    shapes |= {f"{kernel}.original0": (1, 1, 16), f"{kernel}.original1": (WIDTH, 12, 16)}
    shapes |= {"encoder.layer_norm.weight": (WIDTH,), "encoder.layer_norm.bias": (WIDTH,)}
    for i in range(LAYERS):
        layer = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{layer}.attention.{part}.weight"] = (WIDTH, WIDTH)
            shapes[f"{layer}.attention.{part}.bias"] = (WIDTH,)
        shapes[f"{layer}.feed_forward.intermediate_dense.weight"] = (INNER, WIDTH)
        shapes[f"{layer}.feed_forward.output_dense.weight"] = (WIDTH, INNER)
        shapes[f"{layer}.final_layer_norm.weight"] = (WIDTH,)
    return shapes


def _llama() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (96, WIDTH),
        "model.norm.weight": (WIDTH,),
        "lm_head.weight": (96, WIDTH),
    }
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        shapes |= {
            f"{layer}.self_attn.q_proj.weight": (WIDTH, WIDTH),
            f"{layer}.self_attn.k_proj.weight": (WIDTH // 2, WIDTH),
            f"{layer}.self_attn.v_proj.weight": (WIDTH // 2, WIDTH),
            f"{layer}.self_attn.o_proj.weight": (WIDTH, WIDTH),
            f"{layer}.mlp.gate_proj.weight": (INNER, WIDTH),
            f"{layer}.mlp.up_proj.weight": (INNER, WIDTH),
            f"{layer}.mlp.down_proj.weight": (WIDTH, INNER),
            f"{layer}.input_layernorm.weight": (WIDTH,),
            f"{layer}.post_attention_layernorm.weight": (WIDTH,),
        }
    return shapes
