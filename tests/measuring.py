"""Small models with heads, and recipes to measure them, for tests of data-driven merging."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import make_mert_checkpoint
from pretraining import SMALL, make_corpus
from safetensors.numpy import save_file

from mergekit_audio.recipe.load import from_dict

CODEBOOKS, CODES, WIDTH = 2, 5, 6
TEMPERATURE = 0.2


def make_models(root: Path, names: tuple[str, ...] = ("makam", "lyra")) -> Path:
    """Write a base, models beside it, and a corpus for each below a folder."""
    base = make_mert_checkpoint(root / "base", overrides=SMALL, seed=0)
    for i, name in enumerate(names):
        make_mert_checkpoint(
            root / name, overrides=SMALL, seed=i + 1, perturb_of=base, perturb_scale=0.05
        )
        make_corpus(root / f"{name}_audio", tracks=3, seed=i + 1)
    return root


def add_heads(folder: Path, *, seed: int = 9, lock: bool = True) -> Path:
    """Write heads over codes, one over spectra, and the part of a lock that tells the first's τ."""
    random = np.random.default_rng(seed)
    hidden = SMALL["hidden_size"]
    shapes = {
        "residual_kmeans.final_proj.weight": (CODEBOOKS * WIDTH, hidden),
        "residual_kmeans.final_proj.bias": (CODEBOOKS * WIDTH,),
        "residual_kmeans.label_embs": (CODEBOOKS, CODES, WIDTH),
        "cqt.weight": (24, hidden),
    }
    tensors = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    save_file(tensors, folder / "heads.safetensors")
    teachers = [{"name": "residual_kmeans", "logit_temperature": TEMPERATURE}, {"name": "cqt"}]
    if lock:
        (folder / "cmerge.lock.json").write_text(json.dumps({"recipe": {"teachers": teachers}}))
    return folder


def measure_recipe(root: Path, **changes: Any) -> Any:
    """Return a measurement of ``makam`` on four clips of half a second."""
    value = {
        "kind": "measure",
        "seed": 3,
        "model": "makam",
        "corpus": "makam_audio",
        "backbone": {"name": "mert"},
        "statistics": ["gram"],
        "examples": 4,
        "crop_s": 0.5,
        "batch_size": 3,
        "num_threads": 1,
        "store": "store",
        "output": "measured",
        **changes,
    }
    return from_dict({key: each for key, each in value.items() if each is not None}, root)


def joint_recipe(root: Path, **changes: Any) -> Any:
    """Return a measurement of ``makam`` and ``lyra`` over merged layers."""
    models = [{"model": name, "corpus": f"{name}_audio"} for name in ("makam", "lyra")]
    return measure_recipe(
        root,
        **{
            "model": None,
            "corpus": None,
            "base": "base",
            "models": models,
            "statistics": ["gram_merged"],
            **changes,
        },
    )
