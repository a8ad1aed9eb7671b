"""Make checkpoints in the layout of m-a-p/MERT-v1-95M, of any size, with seeded random weights."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.writer import TensorSpec, write_tensors

MAGNITUDE = "encoder.pos_conv_embed.conv.weight_g"
DIRECTION = "encoder.pos_conv_embed.conv.weight_v"
PREPROCESSOR = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 24000,
}


def make_mert_checkpoint(
    folder: Path,
    *,
    preset: str = "tiny",
    overrides: Mapping[str, Any] | None = None,
    seed: int = 0,
    perturb_of: Path | None = None,
    perturb_scale: float = 1e-3,
    dtype: str = "float32",
    spelling: Literal["g_v", "original"] = "g_v",
    shard_bytes: int | None = None,
    file_format: Literal["safetensors", "bin"] = "safetensors",
    extra: Mapping[str, torch.Tensor] | None = None,
) -> Path:
    """Write weights, config.json and preprocessor_config.json, and return the folder.

    `overrides` change the preset's config; `perturb_of` is a checkpoint to which noise of standard
    deviation `perturb_scale` is added; `extra` tensors are written as they are.
    Safetensors are streamed, so that the 95m preset needs the memory of its largest tensor.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = Mert().preset(preset) | {"torch_dtype": dtype} | dict(overrides or {})
    shapes = mert_shapes(config)
    base = None if perturb_of is None else Checkpoint.open(str(Path(perturb_of).resolve()))
    extras = dict(extra or {})
    stored = {_spelt(name, spelling): name for name in [*shapes, *extras]}
    specs = [
        TensorSpec(
            new,
            tuple(shapes.get(old, extras[old].shape if old in extras else ())),
            str(extras[old].dtype).removeprefix("torch.") if old in extras else dtype,
        )
        for new, old in sorted(stored.items())
    ]

    def values() -> Iterator[tuple[str, torch.Tensor]]:
        for spec in specs:
            old = stored[spec.name]
            if old in extras:
                yield spec.name, extras[old]
                continue
            noise = _generator(seed, old)
            if base is None:
                tensor = _initial(old, shapes, config, noise, seed)
            else:
                tensor = noise.standard_normal(shapes[old], dtype=np.float32)
                tensor *= np.float32(perturb_scale)
                tensor += base.tensor(old).float().numpy()
            yield spec.name, torch.from_numpy(tensor).to(getattr(torch, dtype))

    limit = shard_bytes or 5_000_000_000
    if file_format == "safetensors":
        write_tensors(folder, specs, values(), max_shard_bytes=limit)
    else:
        _write_bin(folder, specs, values(), limit)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "preprocessor_config.json").write_text(
        json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8"
    )
    return folder


def mert_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of MERT's layout, written out by hand, by canonical name."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {"masked_spec_embed": (width,)}
    channels = 1
    for i, (out, kernel) in enumerate(zip(config["conv_dim"], config["conv_kernel"], strict=True)):
        layer = f"feature_extractor.conv_layers.{i}"
        shapes[f"{layer}.conv.weight"] = (out, channels, kernel)
        if config["conv_bias"]:
            shapes[f"{layer}.conv.bias"] = (out,)
        if config["feat_extract_norm"] == "layer" or i == 0:
            shapes |= {f"{layer}.layer_norm.weight": (out,), f"{layer}.layer_norm.bias": (out,)}
        channels = out
    shapes |= _norm("feature_projection.layer_norm", channels)
    shapes |= _linear("feature_projection.projection", width, channels)
    kernel = config["num_conv_pos_embeddings"]
    shapes["encoder.pos_conv_embed.conv.bias"] = (width,)
    shapes[MAGNITUDE] = (1, 1, kernel)
    shapes[DIRECTION] = (width, width // config["num_conv_pos_embedding_groups"], kernel)
    shapes |= _norm("encoder.layer_norm", width)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes |= _linear(f"{layer}.attention.{part}", width, width)
        shapes |= _norm(f"{layer}.layer_norm", width)
        shapes |= _linear(f"{layer}.feed_forward.intermediate_dense", inner, width)
        shapes |= _linear(f"{layer}.feed_forward.output_dense", width, inner)
        shapes |= _norm(f"{layer}.final_layer_norm", width)
    return dict(sorted(shapes.items()))


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))


def _initial(
    name: str,
    shapes: Mapping[str, tuple[int, ...]],
    config: Mapping[str, Any],
    noise: np.random.Generator,
    seed: int,
) -> np.ndarray:
    """Return values of the size that HuBERT's own initialisation has, with no constant tensor."""
    if name == MAGNITUDE:
        direction = _initial(DIRECTION, shapes, config, _generator(seed, DIRECTION), seed)
        magnitude: np.ndarray = np.sqrt(np.square(direction).sum(axis=(0, 1), keepdims=True))
        return magnitude
    shape = shapes[name]
    deviation = float(config["initializer_range"])
    if len(shape) == 3:
        deviation = math.sqrt((4.0 if name == DIRECTION else 2.0) / (shape[1] * shape[2]))
    values = noise.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
    if "norm" in name and name.endswith(".weight"):
        values += np.float32(1)
    return values


def _spelt(name: str, spelling: str) -> str:
    if spelling == "g_v":
        return name
    for old, new in ((MAGNITUDE, "0"), (DIRECTION, "1")):
        if name == old:
            return f"encoder.pos_conv_embed.conv.parametrizations.weight.original{new}"
    return name


def _write_bin(
    folder: Path,
    specs: list[TensorSpec],
    values: Iterator[tuple[str, torch.Tensor]],
    limit: int,
) -> None:
    shards: list[dict[str, torch.Tensor]] = [{}]
    used = 0
    for spec, (name, tensor) in zip(specs, values, strict=True):
        if shards[-1] and used + spec.nbytes > limit:
            shards.append({})
            used = 0
        shards[-1][name] = tensor.clone()
        used += spec.nbytes
    if len(shards) == 1:
        torch.save(shards[0], folder / "pytorch_model.bin")
        return
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards):
        file = f"pytorch_model-{i + 1:05d}-of-{len(shards):05d}.bin"
        torch.save(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8"
    )
