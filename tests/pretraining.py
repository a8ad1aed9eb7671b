"""Small recordings, models and recipes to train in tests: a step takes some milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from checkpoints import make_mert_checkpoint
from recordings import write_recording

from mergekit_audio.recipe.train import TrainRecipe

SMALL = {
    "conv_dim": [8, 8, 8, 8, 8, 8, 8],
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "layerdrop": 0.3}
TEACHERS: list[dict[str, Any]] = [
    {
        "name": "residual_kmeans",
        "codebooks": 2,
        "codebook_size": 8,
        "mel_bins": 16,
        "window": 512,
        "iterations": 5,
        "final_size": 8,
    },
    {"name": "cqt", "bins": 24, "bins_per_octave": 12, "lowest_hz": 200.0},
]
ARGUMENTS: dict[str, Any] = {
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "crop_s": 0.5,
    "noise": {"min_length_s": 0.05, "max_length_s": 0.2},
    "num_threads": 1,
    "logging_steps": 3,
    "save_steps": 2,
}


def make_corpus(folder: Path, *, tracks: int = 4, seed: int = 0, duration_s: float = 1.6) -> Path:
    """Write short recordings of tones and noise."""
    generator = np.random.default_rng(seed)
    for i in range(tracks):
        write_recording(
            folder / f"track{i}.wav",
            duration_s=duration_s,
            frequency_hz=float(generator.uniform(200, 2000)),
            noise=0.1,
            seed=1000 * seed + i,
        )
    return folder


def make_base(folder: Path, **overrides: Any) -> Path:
    """Write a small checkpoint with dropout, so that random states matter."""
    return make_mert_checkpoint(folder, overrides=SMALL | DROPOUT | overrides, seed=3)


def make_recipe(**changes: Any) -> TrainRecipe:
    """Return a recipe of two stages over ``base``, ``makam`` and ``western``; ``changes`` go in."""
    arguments = ARGUMENTS | changes.pop("arguments", {})
    value: dict[str, Any] = {
        "kind": "train",
        "seed": 5,
        "base": "base",
        "backbone": {"name": "mert"},
        "culture": "makam",
        "corpus": "makam",
        "replay": "western",
        "teachers": TEACHERS,
        "stages": [
            {
                "name": "stabilise",
                "train": ["feature_extractor.*", "heads.*.label_embs"],
                "steps": 4,
                "peak_lr": 1e-3,
                "replay_share": 0.25,
            },
            {"name": "adapt", "train": ["*"], "steps": 5, "peak_lr": 1e-3, "min_lr": 1e-4},
        ],
        "arguments": arguments,
        "store": "store",
        "output": "out",
    }
    return TrainRecipe.model_validate(value | changes)


def make_project(root: Path) -> Path:
    """Write the base and the two corpora of ``make_recipe`` below a folder."""
    make_base(root / "base")
    make_corpus(root / "makam", seed=1)
    make_corpus(root / "western", seed=2)
    return root
