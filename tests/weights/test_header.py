"""Every way in which a safetensors file can break its format is refused by name."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from mergekit_audio.errors import InputError
from mergekit_audio.weights.dtypes import as_torch
from mergekit_audio.weights.header import read_header
from mergekit_audio.weights.shards import SafetensorsShard

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def packed(header: Any, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def _write(content: bytes) -> Path:
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        return path

    return _write


def test_reads_what_the_library_writes(tmp_path: Path) -> None:
    tensors = {
        "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "b": torch.tensor(3, dtype=torch.int64),
        "c": torch.ones(3, dtype=torch.bfloat16),
        "d": torch.tensor([True, False, True]),
        "e": torch.arange(5, dtype=torch.float16),
        "f": torch.arange(4, dtype=torch.float32).to(torch.float8_e4m3fn),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    shard = SafetensorsShard(path)
    assert list(shard.entries) == sorted(tensors)
    for name, tensor in tensors.items():
        assert shard.entries[name] == (
            str(tensor.dtype).removeprefix("torch."),
            tuple(tensor.shape),
        )
        read = as_torch(shard.bits(name), shard.entries[name][0])
        assert read.dtype == tensor.dtype
        assert read.shape == tensor.shape
        assert read.reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8))


def test_values_at_odd_bytes_are_read(write: Callable[[bytes], Path]) -> None:
    text = json.dumps({"a": F32}).encode()
    text += b" " * ((8 - len(text) % 8) % 8 + 1)
    shard = SafetensorsShard(write(packed(text, struct.pack("<2f", 1.5, -2.25))))
    assert shard.bits("a").tolist() == [1.5, -2.25]


BROKEN: list[tuple[str, bytes, str]] = [
    ("empty", b"", "the file is empty"),
    ("few bytes", b"\1\2\3", "truncated: 3 bytes"),
    ("text", b"This is not a checkpoint at all.", "not a safetensors file: its first 8 bytes"),
    ("zip", b"PK\3\4" + b"\0" * 40, "zip archive"),
    ("html", b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
    ("git-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
    ("header cut", struct.pack("<Q", 900) + b'{"a": ', "truncated inside the header"),
    ("huge header", struct.pack("<Q", 100_000_001) + b"{}", "announce a header of 100,000,001"),
    ("no brace", packed(b' {"a": 1}'), "expected '{' as its first byte"),
    ("not JSON", packed(b'{"a": '), "bad header: not JSON"),
    ("not UTF-8", packed(b'{"\xff": 1}'), "not UTF-8 at byte 2"),
    ("deep", packed(b'{"a":' + b"[" * 200_000), "nested too deep"),
    ("no tensors", packed({}, b""), "holds no tensors"),
    ("metadata only", packed({"__metadata__": {"format": "pt"}}, b""), "holds no tensors"),
    ("metadata", packed({"__metadata__": {"a": 1}, "a": F32}), "__metadata__ must map"),
    (
        "duplicate",
        packed(
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
            b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
        ),
        "the key 'a' occurs twice",
    ),
    ("zero size", packed({"w": F32 | {"shape": [0, 2], "data_offsets": [0, 0]}}), "no elements"),
    ("unnamed", packed({"": F32}), "'' can't be a tensor's name"),
    ("control", packed({"a\nb": F32}), "can't be a tensor's name"),
    ("keys", packed({"w": F32 | {"extra": 1}}), "tensor 'w': expected the keys"),
    ("list", packed({"w": [1]}), "tensor 'w': expected the keys"),
    ("dtype", packed({"w": F32 | {"dtype": "F31"}}), "tensor 'w': unknown dtype 'F31'"),
    ("shape", packed({"w": F32 | {"shape": [-2]}}), "tensor 'w': bad shape [-2]"),
    ("bool shape", packed({"w": F32 | {"shape": [True, 2]}}), "tensor 'w': bad shape"),
    ("float shape", packed({"w": F32 | {"shape": [2.0]}}), "tensor 'w': bad shape"),
    ("offsets", packed({"w": F32 | {"data_offsets": [8, 0]}}), "tensor 'w': bad data_offsets"),
    ("one offset", packed({"w": F32 | {"data_offsets": [8]}}), "tensor 'w': bad data_offsets"),
    ("size", packed({"w": F32 | {"shape": [3]}}), "needs 12 bytes, but its data_offsets span 8"),
    ("data cut", packed({"w": F32}, b"\0" * 7), "truncated: 7 bytes of data, but tensor 'w'"),
    ("surplus", packed({"w": F32}, b"\0" * 11), "3 bytes too many"),
    (
        "hole",
        packed({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, b"\0" * 20),
        "tensor 'b': leaves a hole",
    ),
    (
        "late start",
        packed({"a": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12),
        "tensor 'a': leaves a hole",
    ),
    (
        "overlap",
        packed({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, b"\0" * 12),
        "tensor 'b': overlaps",
    ),
    ("infinite", packed({"w": F32 | {"shape": [10**400]}}), "tensor 'w'"),
    ("constant", packed(b'{"w": NaN}'), "NaN is not a JSON number"),
]


@pytest.mark.parametrize(
    ("content", "problem"),
    [(content, problem) for _, content, problem in BROKEN],
    ids=[name for name, _, _ in BROKEN],
)
def test_broken_files_are_refused(
    write: Callable[[bytes], Path], content: bytes, problem: str
) -> None:
    path = write(content)
    with pytest.raises(InputError) as refused:
        read_header(path)
    assert problem in refused.value.message
    assert refused.value.message.startswith(str(path))
    assert refused.value.hint
    assert refused.value.exit_code == 4


GOOD = save({"a": torch.arange(7, dtype=torch.float32), "b": torch.ones(3, 2, dtype=torch.int16)})


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_refused(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.safetensors"
    path.write_bytes(GOOD[:kept])
    with pytest.raises(InputError):
        read_header(path)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "x.safetensors"
    path.write_bytes(GOOD[:place] + bytes([byte]) + GOOD[place + 1 :])
    try:
        shard = SafetensorsShard(path)
    except InputError:
        return
    for name in shard.entries:
        shard.bits(name)
