"""A folder as MERT was released: `pytorch_model.bin`, custom code that nothing runs, no heads."""

import json
import shutil

import pytest
import torch
from pretraining import make_base, make_corpus, make_recipe
from safetensors.torch import load_file, save_file
from transformers import HubertModel

from mergekit_audio import pretrain
from mergekit_audio.errors import InputError

CODE = ("configuration_MERT.py", "modeling_MERT.py")
AUTO_MAP = {"AutoConfig": "configuration_MERT.MERTConfig", "AutoModel": "modeling_MERT.MERTModel"}
TEACHERS = [
    {"name": "random_projection", "codebooks": 2, "codebook_size": 16, "final_size": 8},
    {"name": "cqt", "bins": 24, "bins_per_octave": 12, "lowest_hz": 200.0},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("released")
    make_base(root / "hf")
    state = load_file(root / "hf/model.safetensors")
    released = root / "mert"
    released.mkdir()
    torch.save(dict(state), released / "pytorch_model.bin")
    config = json.loads((root / "hf/config.json").read_text())
    (released / "config.json").write_text(json.dumps(config | {"auto_map": AUTO_MAP}))
    shutil.copy(root / "hf/preprocessor_config.json", released)
    for name in CODE:
        (released / name).write_text("raise SystemExit('it was run')\n")
    make_corpus(root / "makam", tracks=2, seed=1)
    return root


def recipe(**changes):
    stage = {"name": "adapt", "train": ["*"], "steps": 2, "peak_lr": 1e-3}
    named = {
        "base": "mert",
        "teachers": TEACHERS,
        "replay": None,
        "stages": [stage],
        "arguments": {"gradient_accumulation_steps": 1},
    }
    return make_recipe(**(named | changes))


def test_it_trains_and_is_exported_for_the_same_loaders(root):
    pretrain.run(pretrain.plan(recipe(heads="warmup", heads_warmup_steps=2), root))
    out = root / "out"
    assert json.loads((out / "config.json").read_text())["auto_map"] == AUTO_MAP
    for name in (*CODE, "preprocessor_config.json"):
        assert (out / name).read_bytes() == (root / "mert" / name).read_bytes()
    state = torch.load(root / "mert/pytorch_model.bin", weights_only=True)
    made = load_file(out / "model.safetensors")
    assert {name: each.shape for name, each in made.items()} == {
        name: each.shape for name, each in state.items()
    }
    assert "encoder.pos_conv_embed.conv.weight_g" in made
    _, report = HubertModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]


def misfit(root, folder, heads):
    """Return the error of a training from a base with these heads."""
    shutil.copytree(root / "mert", folder / "mert")
    (folder / "makam").symlink_to(root / "makam")
    save_file(heads, folder / "mert/heads.safetensors")
    with pytest.raises(InputError) as caught:
        pretrain.run(pretrain.plan(recipe(heads="import"), folder))
    assert caught.value.message.startswith(
        f"{folder / 'mert/heads.safetensors'}: the heads do not fit the recipe's teachers:\n"
    )
    return caught.value


def test_heads_of_other_sizes_are_named_with_both(root, tmp_path):
    right = {
        "random_projection.label_embs": torch.zeros(2, 16, 8),
        "random_projection.final_proj.weight": torch.zeros(16, 16),
        "random_projection.final_proj.bias": torch.zeros(16),
        "cqt.weight": torch.zeros(24, 16),
        "cqt.bias": torch.zeros(24),
    }
    cqt = right | {"cqt.weight": torch.zeros(36, 16)}
    error = misfit(root, tmp_path / "cqt", cqt)
    assert error.message.endswith("\n  cqt.weight: found [36, 16], expected [24, 16]")
    assert "give the teachers the settings" in error.hint
    # a teacher that has to be fitted first: its head is known only then
    fitted = right | {"random_projection.label_embs": torch.zeros(3, 16, 8)}
    del fitted["random_projection.final_proj.bias"]
    error = misfit(root, tmp_path / "fitted", fitted)
    assert error.message.endswith(
        "\n  random_projection.final_proj.bias: found nothing, expected [16]"
        "\n  random_projection.label_embs: found [3, 16, 8], expected [2, 16, 8]"
    )
