"""PyTorch files: plain tensors are read, everything else is refused without running it."""

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from mergekit_audio.errors import InputError
from mergekit_audio.weights.checkpoint import Checkpoint


class Malicious:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


STATE = {
    "b.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3).T,  # not contiguous
    "a": torch.tensor(7, dtype=torch.int64),
    "c": torch.ones(3, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_plain_tensors(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(collections.OrderedDict(STATE), path, _use_new_zipfile_serialization=zipped)
    checkpoint = Checkpoint.open(path.name, root=tmp_path)
    assert list(checkpoint.index) == ["a", "b.weight", "c"]
    for name, tensor in STATE.items():
        read = checkpoint.tensor(name)
        assert read.equal(tensor)
        assert read.is_contiguous()
        assert read.dtype == tensor.dtype
    assert checkpoint.index["b.weight"].shape == (3, 2)
    assert checkpoint.files() == [path]


def test_parameters_lose_their_gradients(tmp_path: Path) -> None:
    torch.save(dict(torch.nn.Linear(2, 2).named_parameters()), tmp_path / "x.bin")
    assert not Checkpoint.open("x.bin", root=tmp_path).tensor("weight").requires_grad


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "trap"
    state = {"w": torch.ones(2), "z": Malicious(trap)}
    path = tmp_path / "pytorch_model.bin"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"pytorch_model.bin: refused: loading it would run code"):
        Checkpoint.open(str(tmp_path))
    assert not trap.exists()


def test_a_bare_pickle_of_code_is_refused(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(InputError, match=r"pytorch_model.bin: "):
        Checkpoint.open(str(tmp_path))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([torch.ones(2)], "expected a dictionary of tensors, found list"),
        (torch.ones(2), "expected a dictionary of tensors, found Tensor"),
        ({}, "found an empty one"),
        ({"model": {"w": torch.ones(2)}, "step": 3}, "'model' holds dict, expected a tensor"),
        ({"w": torch.ones(2), "epoch": 3}, "'epoch' holds int, expected a tensor"),
        ({3: torch.ones(2)}, "3 can't be a tensor's name"),
        ({"": torch.ones(2)}, "'' can't be a tensor's name"),
        ({"w": torch.ones(0, 3)}, r"tensor 'w': shape \[0, 3\] has no elements"),
        ({"w": torch.eye(2).to_sparse()}, "tensor 'w' is sparse"),
    ],
    ids=["list", "tensor", "empty", "nested", "number", "int name", "no name", "size 0", "sparse"],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    torch.save(content, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin: .*" + problem):
        Checkpoint.open(str(tmp_path))


@pytest.mark.parametrize("kept", [0, 1, 3, 20, 300, -30])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_refused(tmp_path: Path, kept: int, zipped: bool) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"w": torch.ones(100)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    problem = "the file is empty" if kept == 0 else "damaged, or not a PyTorch checkpoint"
    with pytest.raises(InputError, match=r"pytorch_model.bin: " + problem):
        Checkpoint.open(str(tmp_path))


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.tensor([1.0, float("nan")])}, tmp_path / "x.bin")
    with pytest.raises(InputError, match=r"x.bin: tensor 'w' holds 1 NaN and 0 infinite values"):
        Checkpoint.open("x.bin", root=tmp_path).tensor("w")
