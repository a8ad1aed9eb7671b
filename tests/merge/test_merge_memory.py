"""A merge holds a few tensors at a time: memory follows the largest tensor, not their number."""

import sys

import pytest
import torch
from checkpoints import make_mert_checkpoint
from memory_watch import anonymous_mb
from small_models import write_model

CULTURES = ("makam", "hindustani", "carnatic", "lyra")
MERGE = """
import sys
from pathlib import Path
from mergekit_audio import merge
from mergekit_audio.recipe.merge import MergeRecipe
recipe = MergeRecipe.model_validate({
    "kind": "merge", "base": "base", "models": [{"model": name} for name in sys.argv[2:]],
    "method": {"name": "task_arithmetic"}, "scale": 0.2, "output": "merged",
})
merge.run(merge.plan(recipe, Path(sys.argv[1])), force=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def test_memory_does_not_grow_with_the_number_of_tensors(tmp_path):
    """8 MB a model against 80 MB: the same tensors, ten times as many."""
    peaks = {}
    for count in (8, 80):
        root = tmp_path / str(count)
        for place, name in enumerate(("base", "makam", "lyra")):
            generator = torch.Generator().manual_seed(place)
            tensors = {
                f"layers.{i}.weight": torch.rand(250, 1000, generator=generator)
                for i in range(count)
            }
            write_model(root / name, tensors)
        peaks[count] = anonymous_mb(MERGE, root, "makam", "lyra")
    assert peaks[80] - peaks[8] < 20, peaks


def seventh(array):
    """Return every seventh element in float64: enough of 94 million, from every slice."""
    return array.reshape(-1)[::7].astype("f8")


@pytest.mark.slow
def test_mert_95m_and_four_cultures(tmp_path):
    """θ = θ₀ + 0.2 Σ τ to float32 rounding, in 500 MB, rebuilt to the byte, loaded cleanly."""
    import numpy as np
    from safetensors.numpy import load_file
    from transformers import HubertModel

    from mergekit_audio.lock import verify
    from mergekit_audio.rebuild import rebuild

    make_mert_checkpoint(tmp_path / "base", preset="95m", seed=0)
    for i, name in enumerate(CULTURES):
        make_mert_checkpoint(
            tmp_path / name, preset="95m", seed=i + 1, perturb_of=tmp_path / "base"
        )
    assert anonymous_mb(MERGE, tmp_path, *CULTURES) <= 500

    found = load_file(tmp_path / "merged" / "model.safetensors")
    states = {
        name: load_file(tmp_path / name / "model.safetensors") for name in ("base", *CULTURES)
    }
    assert sorted(found) == sorted(states["base"])
    assert sum(value.size for value in found.values()) == 94_371_712
    for name, value in found.items():
        assert value.dtype == np.float32
        base = seventh(states["base"][name])
        tasks = [seventh(states[culture][name]) - base for culture in CULTURES]
        theta = base + 0.2 * np.sum(tasks, axis=0)
        bound = 2.0**-22 * (np.abs(base) + 0.2 * np.sum(np.abs(tasks), axis=0))
        assert (np.abs(seventh(value) - theta) <= bound).all(), name
    del states

    model, loading = HubertModel.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert not loading["mismatched_keys"]
    q_proj = model.state_dict()["encoder.layers.3.attention.q_proj.weight"]
    assert (q_proj.numpy() == found["encoder.layers.3.attention.q_proj.weight"]).all()

    assert verify(tmp_path / "merged") == []
    assert rebuild(tmp_path / "merged") == []
