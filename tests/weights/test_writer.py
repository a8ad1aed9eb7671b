"""The writer: same bytes as the library, sharding, and nothing left behind when it fails."""

import contextlib
import errno
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import InputError
from mergekit_audio.files import staged_file
from mergekit_audio.weights import writer
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.header import DTYPES
from mergekit_audio.weights.inspect import inspect_checkpoint
from mergekit_audio.weights.writer import TensorSpec, write_tensors

STATE = {
    "a.weight": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.tensor(3, dtype=torch.int64),
    "c": torch.tensor([True, False, True]),
    "d": torch.ones(5, dtype=torch.bfloat16),
    "é": torch.arange(3, dtype=torch.float16),
}


def specs_of(state: dict[str, torch.Tensor]) -> list[TensorSpec]:
    return [
        TensorSpec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in sorted(state.items())
    ]


def write(folder: Path, state: dict[str, torch.Tensor], **options: Any) -> list[Path]:
    return write_tensors(folder, specs_of(state), sorted(state.items()), **options)


def test_same_bytes_as_the_library(tmp_path: Path) -> None:
    assert write(tmp_path, STATE) == [tmp_path / "model.safetensors"]
    save_file(STATE, tmp_path / "expected.safetensors", metadata={"format": "pt"})
    expected = (tmp_path / "expected.safetensors").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == expected


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text("abc._0", min_size=1, max_size=6),
        st.tuples(
            st.sampled_from([torch.uint8, torch.float16, torch.float32, torch.float64]),
            st.lists(st.integers(1, 4), max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 400),
    st.randoms(use_true_random=False),
)
def test_what_is_written_is_read_whatever_the_order_and_sharding(
    tmp_path_factory: pytest.TempPathFactory,
    layout: dict[str, Any],
    shard_bytes: int,
    random: Any,
) -> None:
    state = {
        name: torch.from_numpy(np.random.default_rng(i).integers(0, 9, shape)).to(dtype)
        for i, (name, (dtype, shape)) in enumerate(layout.items())
    }
    order = list(state)
    random.shuffle(order)
    specs = {spec.name: spec for spec in specs_of(state)}
    folder = tmp_path_factory.mktemp("out")
    paths = write_tensors(
        folder,
        [specs[name] for name in order],
        ((name, state[name]) for name in order),
        max_shard_bytes=shard_bytes,
    )
    assert sorted(folder.iterdir()) == paths
    read: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        read |= load_file(path)
        with safe_open(path, "pt") as stream:
            assert stream.metadata() == {"format": "pt"}
    assert sorted(read) == sorted(state)
    assert all(read[name].equal(state[name]) for name in state)
    checkpoint = Checkpoint.open(str(folder))
    assert all(checkpoint.tensor(name).equal(state[name]) for name in state)


def test_shards_stay_below_the_limit_and_the_index_is_that_of_transformers(tmp_path: Path) -> None:
    state = {f"t{i}": torch.full((10,), float(i)) for i in range(7)}
    paths = write(tmp_path, state, max_shard_bytes=100)
    assert [path.name for path in paths] == [
        *(f"model-{i:05d}-of-00004.safetensors" for i in range(1, 5)),
        "model.safetensors.index.json",
    ]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"] == {"total_size": 280}
    assert index["weight_map"] == {f"t{i}": paths[i // 2].name for i in range(7)}


def test_metadata_and_stem(tmp_path: Path) -> None:
    (path,) = write(tmp_path, STATE, metadata={"format": "pt", "made": "here"}, stem="heads")
    assert path.name == "heads.safetensors"
    with safe_open(path, "pt") as stream:
        assert stream.metadata() == {"format": "pt", "made": "here"}


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    """The next tensor is asked for only after the one before is in the file."""
    asked: list[str] = []
    sizes: list[int] = []

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        for i in range(4):
            asked.append(f"t{i}")
            sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            yield f"t{i}", torch.ones(300_000)

    write_tensors(
        tmp_path, [TensorSpec(f"t{i}", (300_000,), "float32") for i in range(4)], stream()
    )
    assert asked == ["t0", "t1", "t2", "t3"]
    assert sizes[0] < 10_000
    assert all(later - earlier > 1_100_000 for earlier, later in itertools.pairwise(sizes[1:]))


def test_casts_by_way_of_float32(tmp_path: Path) -> None:
    values = torch.tensor([1 + 2**-8 + 2**-40, -1.0, 0.1], dtype=torch.float64)
    write_tensors(tmp_path, [TensorSpec("w", (3,), "bfloat16")], [("w", values)])
    read = Checkpoint.open(str(tmp_path)).tensor("w")
    assert read.equal(values.float().bfloat16())


def test_a_value_too_large_for_the_dtype_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tensor 'w': a value is too large for float16"):
        write_tensors(tmp_path, [TensorSpec("w", (1,), "float16")], [("w", torch.tensor([1e5]))])
    assert list(tmp_path.iterdir()) == []
    infinite = torch.tensor([float("inf")])
    write_tensors(tmp_path, [TensorSpec("w", (1,), "float16")], [("w", infinite)])


W = torch.ones(2)


@pytest.mark.parametrize(
    ("specs", "tensors", "problem"),
    [
        ([], [], "no tensors to write"),
        ([("w", (2,), "float31")], [("w", W)], "safetensors has no dtype float31"),
        ([("w", (2,), "float32")] * 2, [("w", W)] * 2, "'w' is a repeated or impossible"),
        ([("__metadata__", (2,), "float32")], [("__metadata__", W)], "impossible tensor name"),
        ([("w", (2,), "float32")], [], "tensor 'w' did not come"),
        ([("w", (2,), "float32")], [("v", W)], r"got tensor 'v' \[2\], expected 'w' \[2\]"),
        ([("w", (3,), "float32")], [("w", W)], r"got tensor 'w' \[2\], expected 'w' \[3\]"),
        ([("w", (2,), "int64")], [("w", W)], "is float32, expected int64"),
        ([("w", (2,), "float32")], [("w", W), ("v", W)], "'v' comes after the last"),
    ],
)
def test_wrong_calls(tmp_path: Path, specs: Any, tensors: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        write_tensors(tmp_path, [TensorSpec(*spec) for spec in specs], tensors)
    assert list(tmp_path.iterdir()) == []


def test_no_other_weights_stay_beside_the_new_ones(tmp_path: Path) -> None:
    write(tmp_path, STATE, max_shard_bytes=20)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"already holds other weights: model-00001-of-"):
        write(tmp_path, STATE)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write(tmp_path, STATE, max_shard_bytes=20)


@pytest.mark.parametrize("shard_bytes", [1_000, 100], ids=["one file", "shards"])
@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (errno.ENOSPC, "no space left on the device; nothing was kept"),
        (errno.EDQUOT, "no space left on the device; nothing was kept"),
        (errno.EROFS, "can't write here"),
    ],
)
def test_a_disk_that_fills_up_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int, kind: int, problem: str
) -> None:
    calls = 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == (2 if shard_bytes == 100 else 1):
            raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr(writer.os, "fsync", full)
    (tmp_path / "other.txt").write_text("stays")
    state = {f"t{i}": torch.ones(20) for i in range(4)}
    with pytest.raises(InputError, match=problem):
        write(tmp_path, state, max_shard_bytes=shard_bytes)
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_real_full_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def staged_on_full_device(target: Path) -> Iterator[Path]:
        with staged_file(target) as staging:
            staging.unlink()
            staging.symlink_to("/dev/full")
            yield staging

    monkeypatch.setattr(writer, "staged_file", staged_on_full_device)
    with pytest.raises(InputError, match=r"model.safetensors: no space left"):
        write(tmp_path, STATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, InputError])
def test_an_interruption_keeps_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        yield "a", torch.ones(30)
        raise error("stop")

    specs = [TensorSpec("a", (30,), "float32"), TensorSpec("b", (30,), "float32")]
    with pytest.raises(error):
        write_tensors(tmp_path, specs, stream(), max_shard_bytes=130)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_refuses_new_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(InputError, match=r"model.safetensors: can't write here"):
        write(tmp_path, STATE)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match=r"model.safetensors: can't write here"):
        write(tmp_path, STATE)
    tmp_path.chmod(0o755)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", sorted({name for name, _ in DTYPES.values()}))
def test_every_dtype_goes_through(tmp_path: Path, dtype: str) -> None:
    values = torch.tensor([[1, 0, 1], [1, 1, 0]])
    if dtype == "float8_e8m0fnu":
        values = torch.tensor([[1, 2, 4], [1, 1, 8]])  # powers of two alone
    state = {"w": values.to(torch.float32).to(getattr(torch, dtype)), "v": torch.ones(1)}
    write(tmp_path, state)
    checkpoint = Checkpoint.open(str(tmp_path))
    read = checkpoint.tensor("w")
    assert read.dtype == state["w"].dtype
    assert read.view(torch.uint8).equal(state["w"].view(torch.uint8))
    assert len(checkpoint.digest()) == 64
    squares = (values.double() ** 2).sum().item()
    assert inspect_checkpoint(checkpoint)["tensors"][1]["norm"] == pytest.approx(squares**0.5)
