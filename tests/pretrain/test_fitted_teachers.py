"""Train with the teachers that are fitted on the base corpus, and go on from the output."""

import numpy as np
from pretraining import make_project, make_recipe
from safetensors.numpy import load_file

from mergekit_audio import pretrain
from mergekit_audio.lock import verify

TEACHERS = [
    {
        "name": "kmeans",
        "mel_codes": 8,
        "chroma_codes": 5,
        "mel_bins": 16,
        "chroma_bins": 12,
        "mel_window": 512,
        "chroma_window": 2048,
        "iterations": 5,
        "final_size": 8,
    },
    {
        "name": "random_projection",
        "codebook_size": 16,
        "codebook_dimension": 4,
        "mel_bins": 16,
        "window": 512,
        "final_size": 8,
    },
]


def test_kmeans_and_random_projection_train_and_go_on(tmp_path):
    root = make_project(tmp_path)
    stage = {"name": "adapt", "train": ["*"], "steps": 2, "peak_lr": 1e-3}
    recipe = make_recipe(teachers=TEACHERS, stages=[stage])
    pretrain.run(pretrain.plan(recipe, root))
    assert verify(root / "out") == []
    heads = load_file(root / "out/heads.safetensors")
    assert {name: each.shape for name, each in heads.items()} == {
        "kmeans.final_proj.weight": (16, 16),
        "kmeans.final_proj.bias": (16,),
        "kmeans.label_embs": (2, 8, 8),
        "random_projection.final_proj.weight": (8, 16),
        "random_projection.final_proj.bias": (8,),
        "random_projection.label_embs": (1, 16, 8),
    }
    assert all(np.isfinite(each).all() for each in heads.values())
    codes = [np.load(path) for path in sorted((root / "store/targets").rglob("*.npy"))]
    assert {each.shape[1] for each in codes} == {1, 2}

    again = make_recipe(teachers=TEACHERS, stages=[stage], base="out", output="more")
    pretrain.run(pretrain.plan(again, root))
    for name in ("kmeans", "random_projection"):
        one, two = (root / out / f"teachers/{name}.safetensors" for out in ("out", "more"))
        assert one.read_bytes() == two.read_bytes()
