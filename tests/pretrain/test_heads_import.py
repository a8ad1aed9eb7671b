"""Heads come from a fairseq file, from our own output, from a warm-up, or from random weights."""

import json

import pytest
import torch
from fairseq_files import make_heads, write_fairseq
from pretraining import DROPOUT, SMALL, make_base, make_corpus, make_recipe
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import EncodecConfig, EncodecModel, HubertModel

from mergekit_audio import merge, pretrain
from mergekit_audio.errors import InputError
from mergekit_audio.lock import read_lock, verify
from mergekit_audio.pretrain.start_check import start_notes
from mergekit_audio.recipe.merge import MergeRecipe
from mergekit_audio.weights.checkpoint import Checkpoint

TEACHERS = [
    {"name": "encodec", "model": "codec", "codebooks": 2, "final_size": 8},
    {"name": "cqt", "bins": 24, "bins_per_octave": 12, "lowest_hz": 200.0},
]
STAGES = [{"name": "adapt", "train": ["*"], "steps": 2, "peak_lr": 1e-3}]


def recipe(**changes):
    named = {"teachers": TEACHERS, "stages": STAGES, "replay": None, "arguments": {}}
    return make_recipe(**(named | changes))


def make_codec(folder):
    """Save a random EnCodec whose codebooks hold frames of noise, so that codes spread."""
    torch.manual_seed(0)
    model = EncodecModel(
        EncodecConfig(
            num_filters=4,
            hidden_size=16,
            codebook_size=32,
            num_lstm_layers=1,
            target_bandwidths=[1.5],
        )
    ).eval()
    with torch.no_grad():
        frames = model.encoder(0.3 * torch.randn(1, 1, 48_000))[0].T
        for place, layer in enumerate(model.quantizer.layers):
            layer.codebook.embed.copy_(frames[place::4][:32])
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads")
    make_base(root / "hf")
    make_corpus(root / "makam", tracks=2, seed=1)
    make_codec(root / "codec")
    config = json.loads((root / "hf/config.json").read_text())
    state = load_file(root / "hf/model.safetensors")
    heads = make_heads(16, codebooks=2, rows=36, final_size=8, bins=24)
    write_fairseq(root / "mert_fairseq.pt", state, config, heads, settings="omegaconf")
    return root


def log_lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_fairseq_file_trains_is_exported_and_goes_on(root):
    events = []
    first = recipe(base="mert_fairseq.pt", heads="import", output="first")
    plan = pretrain.plan(first, root)
    assert plan.imported_heads == ("encodec", "cqt")
    assert plan.shapes["heads.encodec.label_embs"] == (2, 36, 8)
    assert plan.recipe.teachers[0].special_rows == 4
    assert any(note.endswith("before code 0: special_rows is 4") for note in plan.notes)
    pretrain.run(plan, progress=events.append)
    out = root / "first"
    assert verify(out) == []
    assert load_file(out / "heads.safetensors")["encodec.label_embs"].shape == (2, 36, 8)
    config = json.loads((out / "config.json").read_text())
    assert config["hidden_size"] == SMALL["hidden_size"]
    assert config["hidden_dropout"] == DROPOUT["hidden_dropout"]
    _, report = HubertModel.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    base = next(each for each in read_lock(out).inputs if each.name == "base")
    assert sorted(base.files) == ["mert_fairseq.pt"]
    start = log_lines(out)[0]
    assert (start["step"], start["learning_rate"]) == (0, 0.0)
    assert 0 <= start["encodec/accuracy_0"] <= 1
    assert any("warning: encodec" in event.note for event in events)  # random heads: chance

    again = recipe(base="first", heads="import", output="second")
    resumed = pretrain.plan(again, root)
    assert resumed.imported_heads == ("encodec", "cqt")
    pretrain.run(resumed)
    kept, moved = (load_file(root / each / "heads.safetensors") for each in ("first", "second"))
    assert sorted(kept) == sorted(moved)
    for name in ("encodec.label_embs", "cqt.weight"):
        change = (moved[name] - kept[name]).abs().max()
        assert 0 < change < 0.01  # two steps at 1e-3 from the heads of the first training


def test_the_lock_of_a_fairseq_training_holds_the_recipe_as_written(root):
    plan = pretrain.plan(recipe(base="mert_fairseq.pt", output="other"), root)
    assert plan.written.teachers[0].special_rows == 0
    assert plan.written.stages == recipe().stages


def test_rows_that_the_recipe_contradicts_are_an_error(root):
    fixed = [TEACHERS[0] | {"special_rows": 0}, TEACHERS[1]]
    with pytest.raises(InputError, match=r"found \[2, 36, 8\], expected \[2, 32, 8\]") as caught:
        pretrain.plan(recipe(base="mert_fairseq.pt", teachers=fixed), root)
    assert caught.value.hint.startswith("leave special_rows out of the teacher encodec")


def test_import_from_a_folder_without_heads_is_an_error(root):
    with pytest.raises(InputError, match=r"asks for the head of encodec, cqt, and hf has no heads"):
        pretrain.plan(recipe(base="hf", heads="import"), root)


@pytest.mark.parametrize("heads", [None, "random"])
def test_heads_are_drawn_where_the_base_has_none(root, heads):
    plan = pretrain.plan(recipe(base="hf", heads=heads), root)
    assert plan.imported_heads == ()
    assert sum("starts from random weights" in note for note in plan.notes) == 2
    assert [stage.name for stage in plan.recipe.stages] == ["adapt"]


def test_random_ignores_the_heads_of_the_base(root):
    assert pretrain.plan(recipe(base="mert_fairseq.pt", heads="random"), root).imported_heads == ()


def test_warmup_trains_only_the_heads_first(root):
    warm = recipe(
        base="hf", heads="warmup", heads_warmup_steps=3, heads_warmup_lr=0.01, output="warm"
    )
    plan = pretrain.plan(warm, root)
    stage = plan.as_dict()["stages"][0]
    heads = [name for name in plan.shapes if name.startswith("heads.")]
    assert (stage["name"], stage["steps"], stage["peak_lr"]) == ("heads_warmup", 3, 0.01)
    assert stage["trainable_tensors"] == len(heads)
    pretrain.run(plan)
    steps = [(line["stage"], line["step"]) for line in log_lines(root / "warm")]
    assert steps == [("heads_warmup", 3), ("adapt", 2)]
    assert read_lock(root / "warm").recipe["stages"] == [
        each.model_dump(mode="json") for each in warm.stages
    ]


def test_a_fairseq_file_beside_the_weights_gives_the_heads(root, tmp_path):
    (tmp_path / "base").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "base" / name).symlink_to(root / "hf" / name)
    (tmp_path / "base/mert_fairseq.pt").symlink_to(root / "mert_fairseq.pt")
    for name in ("makam", "codec"):
        (tmp_path / name).symlink_to(root / name)
    plan = pretrain.plan(recipe(base="base", heads="import"), tmp_path)
    assert plan.imported_heads == ("encodec", "cqt")


def test_a_fairseq_file_can_be_the_base_of_a_merge(root):
    merged = MergeRecipe.model_validate(
        {
            "kind": "merge",
            "base": "mert_fairseq.pt",
            "models": [{"model": "hf"}],
            "method": {"name": "task_arithmetic"},
            "scale": 0.5,
            "output": "merged",
        }
    )
    merge.run(merge.plan(merged, root))
    found = Checkpoint.open(str(root / "merged"))
    assert found.config["hidden_size"] == SMALL["hidden_size"]
    assert found.digest() == Checkpoint.open(str(root / "hf")).digest()


@pytest.mark.parametrize(("asked", "found"), [("pre", "post"), ("post", "pre")])
def test_a_layer_norm_that_the_checkpoint_contradicts_is_an_error(tmp_path, asked, found):
    make_base(tmp_path / "base", do_stable_layer_norm=found == "pre")
    make_corpus(tmp_path / "makam", tracks=1)
    make_corpus(tmp_path / "western", tracks=1)
    with pytest.raises(InputError, match=f"is '{asked}', and .* says '{found}'"):
        pretrain.plan(make_recipe(backbone={"name": "mert", "layer_norm": asked}), tmp_path)
    pretrain.plan(make_recipe(backbone={"name": "mert", "layer_norm": found}), tmp_path)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"heads_warmup_steps": 3}, "belong to heads: warmup"),
        ({"heads": "random", "heads_warmup_lr": 0.1}, "belong to heads: warmup"),
        ({"heads": "import", "base": {"preset": "tiny", "init": "random"}}, "a preset has none"),
        ({"heads": "warmup", "stages": [STAGES[0] | {"name": "heads_warmup"}]}, "name yours"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, problem):
    with pytest.raises(ValidationError, match=problem):
        recipe(**changes)


def test_accuracies_near_chance_are_warned_of():
    line = {"encodec/accuracy_0": 0.2, "encodec/accuracy_1": 0.0015, "cqt/mse": 1.0}
    told, warning = start_notes(line, {"encodec": 1028})
    assert "20.00%, 0.15% (chance 0.10%)" in told
    assert "warning: encodec: the imported heads of codebook 1 " in warning
    assert len(list(start_notes(line | {"encodec/accuracy_1": 0.01}, {"encodec": 1028}))) == 1
    assert list(start_notes({"other/accuracy_0": 1.0}, {"encodec": 1028})) == []
