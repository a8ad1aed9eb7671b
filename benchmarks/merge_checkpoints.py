"""Checkpoints of the sizes that benchmarks/merge.py merges, with random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from checkpoints import make_mert_checkpoint

from mergekit_audio.weights.writer import TensorSpec, write_tensors

MODELS = ("base", "makam", "hindustani", "carnatic", "lyra")
SIZES = ("tiny", "95m", "large")
SHARD_BYTES = 400_000_000
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 12,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "vocab_size": 50_000,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}


def write_models(root: Path, size: str) -> tuple[str, ...]:
    """Write the base and four models and return the folders' names."""
    for seed, name in enumerate(MODELS):
        if size == "large":
            _write_llama(root / name, seed)
        else:
            near = None if name == "base" else root / "base"
            make_mert_checkpoint(root / name, preset=size, seed=seed, perturb_of=near)
    return MODELS


def _write_llama(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    specs = [TensorSpec(name, shape, "bfloat16") for name, shape in sorted(_shapes().items())]

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        for place, spec in enumerate(specs):
            base = _noise(0, place, spec.shape)
            if seed:
                base += np.float32(0.01) * _noise(seed, place, spec.shape)
            yield spec.name, (base.view(np.uint32) >> 16).astype(np.uint16)

    write_tensors(folder, specs, tensors(), max_shard_bytes=SHARD_BYTES)


def _noise(seed: int, place: int, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.default_rng([seed, place])
    return np.float32(0.02) * random.standard_normal(shape, dtype=np.float32)


def _shapes() -> dict[str, tuple[int, ...]]:
    hidden, inner = LLAMA["hidden_size"], LLAMA["intermediate_size"]
    narrow = hidden * LLAMA["num_key_value_heads"] // LLAMA["num_attention_heads"]
    shapes = {
        "model.embed_tokens.weight": (LLAMA["vocab_size"], hidden),
        "lm_head.weight": (LLAMA["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(LLAMA["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for name, rows in (("q", hidden), ("k", narrow), ("v", narrow), ("o", hidden)):
            shapes[f"{prefix}.self_attn.{name}_proj.weight"] = (rows, hidden)
        shapes[f"{prefix}.mlp.gate_proj.weight"] = (inner, hidden)
        shapes[f"{prefix}.mlp.up_proj.weight"] = (inner, hidden)
        shapes[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{name}.weight"] = (hidden,)
    return shapes
