"""Small checkpoints of a made-up encoder, written without the package, and recipes over them."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mergekit_audio.methods.task_arithmetic import TaskArithmetic
from mergekit_audio.recipe.merge import MergeRecipe, ModelEntry

CONFIG = {"model_type": "hubert", "hidden_size": 8, "dtype": "float32"}
SHAPES = {
    "feature_extractor.conv_layers.0.conv.weight": (8, 1, 10),
    "feature_extractor.conv_layers.1.conv.weight": (8, 8, 3),
    "encoder.pos_conv_embed.conv.weight_g": (1, 1, 16),
    "encoder.pos_conv_embed.conv.weight_v": (8, 2, 16),
    "encoder.layers.0.attention.q_proj.weight": (8, 8),
    "encoder.layers.0.attention.q_proj.bias": (8,),
    "encoder.layers.1.feed_forward.weight": (700, 400),  # more than one slice of 2^18 elements
    "encoder.layers.10.attention.q_proj.weight": (8, 8),
    "encoder.layer_norm.weight": (8,),
    "encoder.temperature": (),
}


def family(
    root,
    models=("makam", "lyra", "carnatic"),
    *,
    seed=0,
    dtype=torch.float32,
    size=0.05,
    shapes=SHAPES,
):
    """Write ``base`` and the models, and return the tensors by folder name."""
    base = random_tensors(seed, dtype, shapes)
    tensors = {"base": base}
    for i, name in enumerate(models):
        tensors[name] = moved(base, seed + 1 + i, size)
    for name, state in tensors.items():
        write_model(root / name, state)
    return tensors


def random_tensors(seed, dtype=torch.float32, shapes=SHAPES):
    generator = np.random.default_rng(seed)
    tensors = {
        name: torch.as_tensor(generator.standard_normal(shape)).to(dtype)
        for name, shape in shapes.items()
    }
    tensors["encoder.positions"] = torch.arange(12, dtype=torch.int64)
    tensors["encoder.trained"] = torch.tensor([True, False])
    return tensors


def moved(tensors, seed, size=0.05):
    """Return the tensors with noise added to the floating-point ones."""
    generator = np.random.default_rng(seed)
    return {
        name: value + torch.as_tensor(size * generator.standard_normal(value.shape)).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for name, value in tensors.items()
    }


def write_model(folder, tensors, *, shards=1, kind="safetensors", config=CONFIG):
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "preprocessor_config.json").write_text('{"sampling_rate": 24000}')
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    if kind == "bin":
        torch.save(contiguous, folder / "pytorch_model.bin")
    elif shards == 1:
        save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        weight_map = {}
        for i in range(shards):
            part = dict(list(contiguous.items())[i::shards])
            name = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            save_file(part, folder / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def respelled(tensors):
    """Return the tensors with weight norm in the spelling of a current transformers."""
    prefix = "encoder.pos_conv_embed.conv."
    names = {
        prefix + "weight_g": prefix + "parametrizations.weight.original0",
        prefix + "weight_v": prefix + "parametrizations.weight.original1",
    }
    return {names.get(name, name): value for name, value in tensors.items()}


def recipe(models=("makam", "lyra", "carnatic"), **changes):
    """Return a merge recipe; a model is a name, or (name, weight)."""
    entries = [
        ModelEntry(model=model)
        if isinstance(model, str)
        else ModelEntry(model=model[0], weight=model[1])
        for model in models
    ]
    values = {"method": TaskArithmetic(), "scale": 0.2, "output": "merged", **changes}
    return MergeRecipe(kind="merge", base="base", models=entries, **values)


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bits(tensor):
    """Return a tensor's bytes as a NumPy array, so that -0.0 and 0.0 differ."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


def same_bits(left, right):
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and (bits(left) == bits(right)).all()
    )


def formula(tensors, name, weights, scale, average=False):
    """Return (θ in float64, Σ|wᵢτᵢ|) of a merge, computed with NumPy from the tensors alone."""
    base = tensors["base"][name].double().numpy()
    terms = [
        weight * (tensors[model][name].double().numpy() - base) for model, weight in weights.items()
    ]
    total = np.sum(terms, axis=0)
    if average:
        total = total / sum(weights.values())
    return base + scale * total, np.sum(np.abs(terms), axis=0)
