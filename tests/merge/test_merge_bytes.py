"""One merge, one set of bytes: whatever threads, hash seed, order, sharding and file format."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_models import family, folder_bytes, recipe, respelled, write_model

from mergekit_audio import merge

SCRIPT = """
import sys
from pathlib import Path
import torch
from small_models import recipe
from mergekit_audio import merge
torch.set_num_threads(int(sys.argv[2]))
models = sys.argv[3].split(",")
merge.run(merge.plan(recipe(models, dtype="bfloat16"), Path(sys.argv[1])))
"""
MODELS = ("makam", "lyra", "carnatic")


@pytest.fixture
def weights_of(tmp_path):
    """Merge in a fresh root and return the bytes of ``model.safetensors``."""

    def make(tensors, **writing):
        root = tmp_path / f"root_{len(list(tmp_path.iterdir()))}"
        for name, state in tensors.items():
            write_model(root / name, state, **({} if name == "base" else writing))
        merge.run(merge.plan(recipe(), root))
        return (root / "merged" / "model.safetensors").read_bytes()

    return make


def test_whole_folder_for_any_hash_seed_thread_count_and_order(tmp_path):
    family(tmp_path)
    found = {}
    for hash_seed, threads, models in (
        ("0", "1", MODELS),
        ("1", "2", MODELS[::-1]),
        ("12345", "2", ("lyra", "carnatic", "makam")),
    ):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), threads, ",".join(models)],
            check=True,
            env=environment,
            cwd=Path(__file__).parents[2],
        )
        content = folder_bytes(tmp_path / "merged")
        found[hash_seed] = {
            name: hashlib.sha256(data).hexdigest() for name, data in content.items()
        }
        for path in (tmp_path / "merged").iterdir():
            path.unlink()
    assert found["0"] == found["1"] == found["12345"]
    assert "cmerge.lock.json" in found["0"]


def test_the_same_run_twice_gives_the_same_folder(tmp_path):
    family(tmp_path)
    folders = []
    for _ in range(2):
        merge.run(merge.plan(recipe(), tmp_path), force=True)
        folders.append(folder_bytes(tmp_path / "merged"))
    assert folders[0] == folders[1]


def test_weights_for_any_sharding_format_and_spelling_of_the_inputs(tmp_path, weights_of):
    tensors = family(tmp_path / "source")
    one_file = weights_of(tensors)
    assert weights_of(tensors, shards=3) == one_file
    assert weights_of(tensors, kind="bin") == one_file
    new_spelling = {
        name: state if name == "base" else respelled(state) for name, state in tensors.items()
    }
    assert weights_of(new_spelling) == one_file


def test_weights_for_any_sharding_and_format_of_the_base(tmp_path):
    tensors = family(tmp_path / "one")
    for kind, shards in (("safetensors", 4), ("bin", 1)):
        root = tmp_path / f"{kind}_{shards}"
        for name, state in tensors.items():
            if name == "base":
                write_model(root / name, state, kind=kind, shards=shards)
            else:
                write_model(root / name, state)
        merge.run(merge.plan(recipe(), root))
    merge.run(merge.plan(recipe(), tmp_path / "one"))
    found = {
        (tmp_path / root / "merged" / "model.safetensors").read_bytes()
        for root in ("one", "safetensors_4", "bin_1")
    }
    assert len(found) == 1
