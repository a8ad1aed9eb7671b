"""Small corpora, encoders and recipes for tests of probing and sweeping."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import make_mert_checkpoint
from recordings import write_recording

from mergekit_audio.recipe.load import from_dict

CONFIG = {
    "conv_dim": [8] * 7,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_conv_pos_embedding_groups": 2,
    "num_conv_pos_embeddings": 8,
    "num_hidden_layers": 2,
}
SPLITS = ("train", "train", "train", "valid", "test")
PROTOCOL = {"hidden_size": 32, "max_epochs": 12, "patience": 4, "batch_size": 8}


def write_corpus(
    folder: Path, *, tracks: int = 30, duration_s: float = 1.1, seed: int = 0, split=SPLITS
) -> Path:
    """Write tones whose pitch and noise are their tags, in three splits, with a manifest."""
    rows = []
    generator = np.random.default_rng(seed)
    for index in range(tracks):
        high, noisy = bool(index // 5 % 2), bool(index // 10 % 2)
        name = f"track{index:03d}"
        write_recording(
            folder / f"{name}.wav",
            duration_s=duration_s + 0.1 * (index % 2),
            frequency_hz=float((2000 if high else 200) * generator.uniform(0.9, 1.1)),
            noise=0.2 if noisy else 0.01,
            seed=1000 * seed + index,
        )
        tags = ["pitch--high" if high else "pitch--low", *(["sound--noisy"] if noisy else [])]
        rows.append({"id": name, "path": f"{name}.wav", "split": split[index % 5], "tags": tags})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(lines, encoding="utf-8")
    return folder


def write_models(root: Path, names: tuple[str, ...] = ("makam", "lyra")) -> Path:
    """Write a base and models that lie beside it under ``root/models``."""
    base = make_mert_checkpoint(root / "models" / "base", overrides=CONFIG, seed=0)
    for index, name in enumerate(names):
        make_mert_checkpoint(
            root / "models" / name,
            overrides=CONFIG,
            seed=index + 1,
            perturb_of=base,
            perturb_scale=0.05,
        )
    return base


def evaluate_recipe(root: Path, **changes: Any) -> Any:
    """Return an evaluation of two models on one task."""
    value = {
        "kind": "evaluate",
        "backbone": {"name": "mert"},
        "models": [
            {"name": "base", "model": "models/base"},
            {"name": "makam", "model": "models/makam"},
        ],
        "tasks": [{"name": "tones", "corpus": "corpora/tones", "protocol": PROTOCOL}],
        "seeds": [0, 1],
        "output": "results",
        **changes,
    }
    return from_dict(value, root)


def sweep_recipe(root: Path, **changes: Any) -> Any:
    """Return a sweep of two cultures over three λ on two tasks."""
    value = {
        "kind": "sweep",
        "base": "models/base",
        "backbone": {"name": "mert"},
        "cultures": [
            {"name": "makam", "model": "models/makam"},
            {"name": "lyra", "model": "models/lyra"},
        ],
        "method": {"name": "task_arithmetic"},
        "scales": [1.0, 0.25],
        "tasks": [
            {"name": "tones", "corpus": "corpora/tones", "protocol": PROTOCOL},
            {"name": "west", "corpus": "corpora/west", "western": True, "protocol": PROTOCOL},
        ],
        "seeds": [0, 1],
        "output": "results",
        **changes,
    }
    return from_dict(value, root)
