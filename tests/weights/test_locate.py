"""Which files of a folder are its weights, and shard indices that lie."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import make_mert_checkpoint
from safetensors.torch import save_file

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint

INDEX = "model.safetensors.index.json"


def save(path: Path, **tensors: torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors or {"w": torch.ones(2)}, path)
    return path


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_heads_beside_the_model_are_not_its_weights(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors", w=torch.ones(2))
    save(tmp_path / "heads.safetensors", h=torch.ones(2))
    assert list(Checkpoint.open(str(tmp_path)).index) == ["w"]
    assert list(Checkpoint.open("heads.safetensors", root=tmp_path).index) == ["h"]


def test_safetensors_come_before_pytorch(tmp_path: Path) -> None:
    torch.save({"old": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert list(Checkpoint.open(str(tmp_path)).index) == ["old"]
    save(tmp_path / "model.safetensors", new=torch.ones(2))
    assert list(Checkpoint.open(str(tmp_path)).index) == ["new"]


def test_a_lone_file_of_any_name(tmp_path: Path) -> None:
    torch.save({"t": torch.ones(2)}, tmp_path / "x.pt")
    assert list(Checkpoint.open(str(tmp_path)).index) == ["t"]
    save(tmp_path / "y.safetensors", s=torch.ones(2))
    assert list(Checkpoint.open(str(tmp_path)).index) == ["s"]
    save(tmp_path / "z.safetensors")
    with pytest.raises(InputError, match=r"several weight files and no index: y.*, z.safetensors"):
        Checkpoint.open(str(tmp_path))


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weights here; expected model.safetensors"):
        Checkpoint.open(str(tmp_path))
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=r"x.txt: not a weight file"):
        Checkpoint.open("x.txt", root=tmp_path)


def test_two_sets_of_weights_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "model.safetensors")
    write_index(tmp_path, {"w": "model.safetensors"})
    with pytest.raises(InputError, match="holds two sets of weights"):
        Checkpoint.open(str(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.safetensors",
        "sub/../../outside.safetensors",
        "/etc/passwd",
        "..\\outside.safetensors",
        "C:outside.safetensors",
        "C:\\outside.safetensors",
        "..",
        ".",
        "",
        "a\0b",
        3,
        None,
    ],
)
def test_an_index_that_points_outside_is_refused(tmp_path: Path, name: Any) -> None:
    save(tmp_path / "outside.safetensors")
    folder = tmp_path / "model"
    save(folder / "inside.safetensors")
    write_index(folder, {"v": "inside.safetensors", "w": name})
    with pytest.raises(InputError, match=r"index.json: names the shard .*not a file inside"):
        Checkpoint.open(str(folder))


def test_links_as_in_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    blob = save(tmp_path / "blobs" / "0123.safetensors")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "part.safetensors").symlink_to(blob)
    write_index(folder, {"w": "part.safetensors"})
    assert Checkpoint.open(str(folder)).tensor("w").tolist() == [1, 1]


@pytest.mark.parametrize("file_format", ["safetensors", "bin"])
def test_missing_shards_are_all_named(tmp_path: Path, file_format: Any) -> None:
    folder = make_mert_checkpoint(tmp_path / "x", shard_bytes=300_000, file_format=file_format)
    shards = sorted(folder.glob("*-of-*"))
    shards[1].unlink()
    shards[3].unlink()
    with pytest.raises(InputError) as refused:
        Checkpoint.open(str(folder))
    lines = refused.value.message.splitlines()
    assert [line.split(":")[0] for line in lines] == [str(shards[1]), str(shards[3])]


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    folder = make_mert_checkpoint(tmp_path / "x", shard_bytes=300_000)
    shard = sorted(folder.glob("*-of-*"))[2]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=rf"{shard.name}: truncated"):
        Checkpoint.open(str(folder))


def test_shards_that_differ_from_the_index(tmp_path: Path) -> None:
    save(tmp_path / "1.safetensors", a=torch.ones(2), b=torch.ones(2))
    save(tmp_path / "2.safetensors", c=torch.ones(2))
    write_index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"})
    with pytest.raises(InputError) as refused:
        Checkpoint.open(str(tmp_path))
    assert refused.value.message.splitlines()[1:] == [
        "  2.safetensors lacks tensor 'b'",
        "  1.safetensors holds tensor 'b', which the index does not place there",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "expected a weight_map"),
        ('{"weight_map": {}}', "expected a weight_map"),
        ('{"weight_map": ["a"]}', "expected a weight_map"),
        ('{"weight_map": {"a": "1.safetensors", "a": "2.safetensors"}}', "'a' occurs twice"),
    ],
)
def test_faulty_indices_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(InputError, match=rf"index.json: .*{problem}"):
        Checkpoint.open(str(tmp_path))


def test_the_index_itself_can_be_named(tmp_path: Path) -> None:
    folder = make_mert_checkpoint(tmp_path / "x", shard_bytes=300_000)
    (tmp_path / "x" / "model.safetensors").write_bytes(b"stale")
    named = Checkpoint.open(f"x/{INDEX}", root=tmp_path)
    assert named.digest() == Checkpoint.open(str(make_mert_checkpoint(tmp_path / "y"))).digest()
    assert folder / INDEX in named.files()
