"""The folder that a merge writes: what is in it, when it is refused, and that it is whole."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_models import (
    CONFIG,
    family,
    folder_bytes,
    moved,
    random_tensors,
    recipe,
    respelled,
    same_bits,
    write_model,
)

from mergekit_audio import merge
from mergekit_audio.errors import InputError
from mergekit_audio.lock import hash_outputs, read_lock, verify


def test_the_folder_holds_weights_configs_card_and_lock(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    lock = merge.run(plan, command="cmerge merge r.yaml", overrides=["scale=0.2"])
    folder = tmp_path / "merged"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "cmerge.lock.json",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert read_lock(folder) == lock
    assert lock.outputs == hash_outputs(folder)
    assert lock.command == "cmerge merge r.yaml"
    assert lock.overrides == ["scale=0.2"]
    assert verify(folder) == []
    expected = dict(merge.merged_tensors(plan))
    found = load_file(folder / "model.safetensors")
    assert set(found) == set(expected)
    assert all(same_bits(found[name], expected[name]) for name in expected)
    assert json.loads((folder / "config.json").read_text()) == CONFIG


@pytest.mark.parametrize("new_base", [True, False])
def test_names_are_spelt_as_the_base_spells_them(tmp_path, new_base):
    base, makam = random_tensors(0), moved(random_tensors(0), 1)
    write_model(tmp_path / "base", respelled(base) if new_base else base)
    write_model(tmp_path / "makam", makam if new_base else respelled(makam))
    merge.run(merge.plan(recipe(["makam"]), tmp_path))
    expected = respelled(base) if new_base else base
    assert set(load_file(tmp_path / "merged" / "model.safetensors")) == set(expected)


def test_large_outputs_are_sharded_and_hold_the_same_tensors(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(max_shard_size_mb=0.5), tmp_path)
    merge.run(plan)
    folder = tmp_path / "merged"
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    files = sorted(set(index.values()))
    assert len(files) > 1
    found = {name: value for file in files for name, value in load_file(folder / file).items()}
    expected = dict(merge.merged_tensors(plan))
    assert set(found) == set(expected)
    assert all(same_bits(found[name], expected[name]) for name in expected)
    assert verify(folder) == []


def test_config_names_the_dtype_of_the_output(tmp_path):
    family(tmp_path)
    merge.run(merge.plan(recipe(dtype="bfloat16"), tmp_path))
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config == {**CONFIG, "dtype": "bfloat16"}


def test_an_output_that_exists_needs_force_and_is_replaced_whole(tmp_path):
    family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "model-00001-of-00002.safetensors").write_bytes(b"stale")
    with pytest.raises(InputError, match=r"merged: the output already exists") as caught:
        merge.run(plan)
    assert "--force" in caught.value.hint
    assert sorted(path.name for path in folder.iterdir()) == ["model-00001-of-00002.safetensors"]
    merge.run(plan, force=True)
    assert not (folder / "model-00001-of-00002.safetensors").exists()
    assert verify(folder) == []


def test_another_output_than_the_recipe_s(tmp_path):
    family(tmp_path)
    merge.run(merge.plan(recipe(), tmp_path), output=tmp_path / "elsewhere" / "deep")
    assert not (tmp_path / "merged").exists()
    assert verify(tmp_path / "elsewhere" / "deep") == []
    assert read_lock(tmp_path / "elsewhere" / "deep").recipe_root == "../.."


@pytest.mark.parametrize("output", ["base", "makam", ".", "..", "makam/../base"])
def test_an_output_that_would_replace_an_input_or_the_recipe_is_refused(tmp_path, output):
    root = tmp_path / "recipes"
    family(root, ["makam"])
    before = folder_bytes(tmp_path)
    with pytest.raises(InputError, match="the output would replace"):
        merge.run(merge.plan(recipe(["makam"], output=output), root), force=True)
    assert folder_bytes(tmp_path) == before


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, StoppedError])
@pytest.mark.parametrize("old", [True, False])
def test_nothing_half_written_stays_when_a_merge_is_interrupted(tmp_path, error, old):
    family(tmp_path)
    plan = merge.plan(recipe(), tmp_path)
    if old:
        (tmp_path / "merged").mkdir()
        (tmp_path / "merged" / "notes.txt").write_text("keep me")
    before = folder_bytes(tmp_path)

    def interrupt(event):
        if event.done == 5:
            raise error

    with pytest.raises(error):
        merge.run(plan, force=old, progress=interrupt)
    assert folder_bytes(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_nothing_stays_when_a_value_overflows(tmp_path):
    tensors = family(tmp_path, ["makam"])
    tensors["base"]["encoder.layers.10.attention.q_proj.weight"][0, 0] = 1e6
    write_model(tmp_path / "base", tensors["base"])
    with pytest.raises(InputError, match=r"layers\.10.*do not fit float16"):
        merge.run(merge.plan(recipe(["makam"], dtype="float16"), tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "makam"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /sys, where not even root can write")
def test_a_read_only_place_is_one_clear_error(tmp_path):
    family(tmp_path, ["makam"])
    with pytest.raises(InputError, match="/sys/merged: can't write here"):
        merge.run(merge.plan(recipe(["makam"]), tmp_path), output=Path("/sys/merged"))


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    family(tmp_path, ["makam"])
    plan = merge.plan(recipe(["makam"]), tmp_path)

    def fill(event):
        with open("/dev/full", "wb", buffering=0) as stream:
            stream.write(b"x")

    with pytest.raises(
        InputError, match=r"/merged/model\.safetensors: no space left on the device"
    ):
        merge.run(plan, progress=fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "makam"]


def test_progress_names_tensors_and_ends(tmp_path):
    family(tmp_path)
    events = []
    merge.run(merge.plan(recipe(), tmp_path), progress=events.append)
    tensors = [event for event in events if event.task == "merge tensors"]
    assert "encoder.layer_norm.weight" in {event.note for event in tensors}
    assert (tensors[-1].done, tensors[-1].total) == (12, 12)


def test_the_card_tells_base_models_weights_and_counts(tmp_path):
    family(tmp_path)
    plan = merge.plan(
        recipe([("makam", 1.0), ("lyra", -0.5)], exclude=["feature_extractor.*"]), tmp_path
    )
    merge.run(plan)
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert "| model | `lyra` | -0.5 | not known |" in card
    assert plan.base.digest() in card
    assert "by task_arithmetic at λ = 0.2." in card
    assert "Tensors: 8 merged" in card
    assert "2 copied from the base (excluded by 'feature_extractor.*')" in card
    assert "- int64, not floating point: `encoder.positions`" in card
    assert (
        "- excluded by 'feature_extractor.*': `feature_extractor.conv_layers.0.conv.weight`" in card
    )
    assert "## Notes" not in card
    assert str(tmp_path) not in card


def test_the_plan_s_notes_are_kept_in_the_card(tmp_path):
    tensors = family(tmp_path, ["makam"])
    write_model(tmp_path / "twin", tensors["makam"])
    plan = merge.plan(recipe(["makam", "twin"]), tmp_path)
    merge.run(plan)
    note = "twin holds the same tensors as makam"
    assert plan.notes == (note,)
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert f"## Notes\n\n- {note}\n" in card


def test_the_licence_comes_from_the_inputs_cards(tmp_path):
    family(tmp_path, ["makam"])
    (tmp_path / "base" / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (tmp_path / "makam" / "README.md").write_text("---\nlicense: Apache-2.0\n---\n")
    lock = merge.run(merge.plan(recipe(["makam"]), tmp_path))
    card = (tmp_path / "merged" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n")
    assert "README.md" in lock.inputs[0].files


def test_integer_only_and_single_tensor_checkpoints_merge(tmp_path):
    write_model(tmp_path / "base", {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor([3])})
    write_model(tmp_path / "makam", {"w": torch.tensor([2.0, 0.0]), "n": torch.tensor([3])})
    merge.run(merge.plan(recipe(["makam"], scale=0.5), tmp_path))
    found = load_file(tmp_path / "merged" / "model.safetensors")
    assert found["w"].tolist() == [1.5, 1.0]
    assert found["n"].tolist() == [3]


@pytest.mark.parametrize("force", [True, False])
def test_a_file_is_never_replaced_by_an_output_folder(tmp_path, force):
    family(tmp_path, ["makam"])
    (tmp_path / "r.yaml").write_text("kind: merge\n")
    plan = merge.plan(recipe(["makam"], output="r.yaml"), tmp_path)
    with pytest.raises(InputError, match=r"r\.yaml: a file lies where the output folder should be"):
        merge.run(plan, force=force)
    assert (tmp_path / "r.yaml").read_text() == "kind: merge\n"


@pytest.mark.parametrize(
    ("output", "reason"), [("a_file/out", "exists|Not a dir"), ("x" * 300, "too long")]
)
def test_a_path_that_can_be_no_folder_is_an_input_error(tmp_path, output, reason):
    family(tmp_path, ["makam"])
    (tmp_path / "a_file").write_text("a file")
    with pytest.raises(InputError, match=rf"can't be written \(.*({reason})"):
        merge.run(merge.plan(recipe(["makam"], output=output), tmp_path))


def test_an_input_in_the_user_s_home_is_no_hub_repo_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    family(tmp_path, ["makam"])
    folder = tmp_path / "merged"
    merge.run(merge.plan(recipe(["~/makam/model.safetensors"]), tmp_path))
    assert "base_model:" not in (folder / "README.md").read_text(encoding="utf-8")
    assert verify(folder) == []
