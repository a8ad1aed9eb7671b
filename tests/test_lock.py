"""A lock tells what changed: outputs, inputs, recipe; and nothing of the machine's own."""

import hashlib
import json
import shutil

import pytest
from small_models import family, recipe

from mergekit_audio import merge
from mergekit_audio.errors import InputError, VerificationError
from mergekit_audio.files import canonical_json
from mergekit_audio.lock import (
    LOCK_NAME,
    Difference,
    LockedInput,
    make_lock,
    raise_differences,
    read_lock,
    verify,
    write_lock,
)


@pytest.fixture
def merged(tmp_path):
    """A project folder with three models and their merge."""
    family(tmp_path)
    merge.run(merge.plan(recipe(output="runs/merged"), tmp_path))
    return tmp_path / "runs" / "merged"


def change_lock(folder, change):
    path = folder / LOCK_NAME
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_untouched_folder_has_no_differences(merged):
    assert verify(merged) == []
    raise_differences(merged, [])


def test_one_changed_byte_of_the_weights_is_named(merged):
    path = merged / "model.safetensors"
    expected = sha256(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert verify(merged) == [Difference("output", "model.safetensors", expected, sha256(path))]
    with pytest.raises(
        VerificationError, match=r"1 difference.*\n.*output model\.safetensors"
    ) as caught:
        raise_differences(merged, verify(merged))
    assert caught.value.exit_code == 5


def test_missing_and_added_files_are_named(merged):
    (merged / "config.json").unlink()
    (merged / "model-00001-of-00002.safetensors").write_bytes(b"stray")
    found = {(each.what, each.name, each.expected[:9], each.found[:9]) for each in verify(merged)}
    assert (
        "output",
        "config.json",
        read_lock(merged).outputs["config.json"][:9],
        "not found",
    ) in found
    assert {each[:3] for each in found if each[1] != "config.json"} == {
        ("output", "model-00001-of-00002.safetensors", "no such f")
    }


def test_hidden_files_and_tensorboard_logs_are_not_locked(merged):
    (merged / ".gitattributes").write_text("* text")
    (merged / "logs").mkdir()
    (merged / "logs" / "events.out").write_bytes(b"1")
    assert verify(merged) == []


def test_a_changed_input_is_named_by_its_place_source_and_file(merged):
    path = merged.parents[1] / "lyra" / "config.json"
    expected = sha256(path)
    path.write_text(path.read_text() + "\n")
    place = next(entry.name for entry in read_lock(merged).inputs if entry.source == "lyra")
    assert verify(merged) == [
        Difference("input", f"{place} (lyra) config.json", expected, sha256(path))
    ]


def test_a_missing_input_is_named_without_asking_the_hub(merged, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.rmtree(merged.parents[1] / "base")
    (difference,) = verify(merged)
    assert (difference.what, difference.name, difference.found) == (
        "input",
        "base (base)",
        "not found",
    )
    with pytest.raises(VerificationError) as caught:
        raise_differences(merged, [difference])
    assert "if it was moved or copied alone, put it back" in caught.value.hint


def test_a_changed_recipe_is_named(merged):
    change_lock(merged, lambda lock: lock["recipe"].update(scale=0.3))
    expected = read_lock(merged).recipe_digest
    changed = canonical_json(read_lock(merged).recipe).encode()
    assert verify(merged) == [
        Difference("recipe", "recipe_digest", expected, hashlib.sha256(changed).hexdigest())
    ]


def test_a_changed_seed_of_the_lock_is_named(merged):
    change_lock(merged, lambda lock: lock.update(seed=7))
    assert verify(merged) == [Difference("recipe", "seed", "7", "0")]


def test_all_differences_are_listed_at_once_and_sorted(merged):
    (merged / "README.md").write_text("mine")
    (merged.parents[1] / "base" / "config.json").write_text("{}")
    change_lock(merged, lambda lock: lock["recipe"].update(scale=0.3))
    assert [each.what for each in verify(merged)] == ["input", "output", "recipe"]


def test_the_project_can_move_as_a_whole(merged, tmp_path):
    shutil.move(tmp_path, tmp_path.with_name("moved"))
    assert verify(tmp_path.with_name("moved") / "runs" / "merged") == []
    shutil.move(tmp_path.with_name("moved"), tmp_path)


def test_a_lock_holds_no_date_and_no_absolute_path(merged, tmp_path):
    text = (merged / LOCK_NAME).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    lock = read_lock(merged)
    assert lock.recipe_root == "../.."
    assert sorted(lock.model_dump()) == sorted(
        [
            "tool_version", "kind", "recipe", "recipe_digest", "overrides", "recipe_root",
            "seed", "inputs", "outputs", "environment", "command",
        ]
    )  # fmt: skip
    assert {"python", "torch", "numpy"} <= set(lock.environment)


def test_a_folder_without_lock_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cmerge\.lock\.json: there is no lock here") as caught:
        verify(tmp_path)
    assert caught.value.exit_code == 4
    with pytest.raises(InputError, match="there is no lock here"):
        verify(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "lock.json"),
        ("{}", "tool_version: Field required"),
        ("\xff", "not JSON"),
    ],
)
def test_a_damaged_lock_is_an_input_error(tmp_path, text, message):
    (tmp_path / LOCK_NAME).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        read_lock(tmp_path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../secret", "a/../../b"])
def test_a_lock_that_points_outside_its_folders_is_refused(merged, name):
    def point_outside(lock):
        lock["inputs"][0]["files"] = {name: "0" * 64}

    change_lock(merged, point_outside)
    with pytest.raises(InputError, match="not a file inside the folder"):
        verify(merged)


def test_a_source_that_is_a_file_is_looked_up_beside_it(tmp_path):
    (tmp_path / "audio").mkdir()
    manifest = tmp_path / "audio" / "manifest.jsonl"
    manifest.write_text("{}\n")
    target = tmp_path / "out"
    target.mkdir()
    (target / "results.jsonl").write_text("{}\n")
    entry = LockedInput(
        name="tasks.makam",
        source="audio/manifest.jsonl",
        content_digest="0" * 64,
        files={"manifest.jsonl": sha256(manifest)},
    )
    lock = make_lock(
        target, target=target, recipe={"kind": "evaluate"}, root=tmp_path, inputs=[entry]
    )
    write_lock(target, lock)
    assert verify(target) == []
    manifest.write_text("{} \n")
    assert [each.name for each in verify(target)] == [
        "tasks.makam (audio/manifest.jsonl) manifest.jsonl"
    ]
