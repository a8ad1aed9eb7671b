"""Checkpoints: layout, spellings, digests, values that are not finite, memory."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import DIRECTION, MAGNITUDE, make_mert_checkpoint, mert_shapes
from safetensors.torch import load_file, save_file

from mergekit_audio.backbones.mert import Mert
from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.keys import canonical_name


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_mert_checkpoint(tmp_path_factory.mktemp("tiny"))


def copied(source: Path, target: Path, change: Any) -> Checkpoint:
    """Copy a folder, let ``change`` edit its state dict, and open it."""
    shutil.copytree(source, target)
    state = load_file(target / "model.safetensors")
    change(state)
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint.open(str(target))


def test_tensors_equal_what_the_library_reads(tiny: Path) -> None:
    checkpoint = Checkpoint.open(tiny.name, root=tiny.parent)
    expected = load_file(tiny / "model.safetensors")
    assert list(checkpoint.index) == sorted(expected)
    assert checkpoint.source == tiny.name
    assert checkpoint.folder == tiny
    for name, info in checkpoint.index.items():
        assert checkpoint.tensor(name).equal(expected[name])
        assert info.shape == tuple(expected[name].shape)
        assert info.dtype == "float32"
        assert info.shard == tiny / "model.safetensors"
    assert checkpoint.config is not None
    assert checkpoint.config["model_type"] == "mert_model"
    assert [path.name for path in checkpoint.files()] == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]


def test_a_file_that_is_replaced_is_not_read_as_the_one_that_was_opened(
    tiny: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    checkpoint = Checkpoint.open(str(tmp_path / "model"))
    checkpoint.require_unchanged()
    name = next(iter(checkpoint.index))
    digest = checkpoint.tensor_digest(name)
    shutil.copy2(path, path.with_name("same"))
    path.with_name("same").replace(path)  # the same bytes, size and time, but another file
    for read in (checkpoint.require_unchanged, lambda: checkpoint.tensor(name)):
        with pytest.raises(InputError, match=r"model\.safetensors: changed while it was in use"):
            read()
    path.unlink()
    with pytest.raises(InputError, match="changed while it was in use"):
        checkpoint.require_unchanged()
    assert checkpoint.tensor_digest(name) == digest


@pytest.mark.parametrize("preset", ["tiny", "95m", "330m"])
def test_layout_is_that_of_transformers(preset: str) -> None:
    from transformers import HubertConfig, HubertModel

    config = Mert().preset(preset)
    known = HubertConfig().to_dict()
    kept = {key: value for key, value in config.items() if key in known and key != "model_type"}
    with torch.device("meta"):
        model = HubertModel(HubertConfig(**kept))
    expected = {canonical_name(name): tuple(t.shape) for name, t in model.state_dict().items()}
    assert mert_shapes(config) == dict(sorted(expected.items()))
    if preset == "95m":
        assert len(expected) == 211
        assert sum(parameter.numel() for parameter in model.parameters()) == 94_371_712


@pytest.mark.parametrize(
    "variant",
    [
        {"spelling": "original"},
        {"shard_bytes": 200_000},
        {"file_format": "bin"},
        {"file_format": "bin", "shard_bytes": 300_000, "spelling": "original"},
    ],
    ids=["spelling", "shards", "bin", "bin shards respelt"],
)
def test_content_counts_not_how_it_is_stored(
    tiny: Path, tmp_path: Path, variant: dict[str, Any]
) -> None:
    one = Checkpoint.open(str(tiny))
    two = Checkpoint.open(str(make_mert_checkpoint(tmp_path / "two", **variant)))
    one.require_same_layout(two)
    assert one.digest() == two.digest()
    assert list(one.index) == list(two.index)
    for name in one.index:
        assert one.tensor(name).equal(two.tensor(name))
    if variant.get("spelling") == "original":
        stored = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
        assert two.index[MAGNITUDE].stored_name == stored + "0"
        assert two.index[DIRECTION].stored_name == stored + "1"
    assert all(path.is_file() for path in two.files())
    assert len(two.files()) == len(list((tmp_path / "two").iterdir()))


def test_digest_is_as_documented(tiny: Path) -> None:
    from blake3 import blake3

    lines = []
    for name, tensor in sorted(load_file(tiny / "model.safetensors").items()):
        head = json.dumps([name, "float32", list(tensor.shape)]).encode() + b"\n"
        lines.append(blake3(head + tensor.numpy().tobytes()).hexdigest() + "\n")
    assert Checkpoint.open(str(tiny)).digest() == blake3("".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("change", ["value", "name", "dtype", "shape"])
def test_digest_sees_every_change(tiny: Path, tmp_path: Path, change: str) -> None:
    name = "encoder.layer_norm.bias"

    def edit(state: dict[str, torch.Tensor]) -> None:
        if change == "value":
            state[name].view(torch.int32)[5] ^= 1
        if change == "name":
            state["encoder.layer_norm.biaz"] = state.pop(name)
        if change == "dtype":
            state[name] = state[name].view(torch.int32)
        if change == "shape":
            state[name] = state[name].reshape(2, -1)

    changed = copied(tiny, tmp_path / "changed", edit)
    assert changed.digest() != Checkpoint.open(str(tiny)).digest()


def test_writing_to_a_tensor_reaches_neither_file_nor_later_reads(tiny: Path) -> None:
    checkpoint = Checkpoint.open(str(tiny))
    before = (tiny / "model.safetensors").read_bytes()
    kept = checkpoint.tensor(MAGNITUDE).clone()
    checkpoint.tensor(MAGNITUDE).zero_()
    assert checkpoint.tensor(MAGNITUDE).equal(kept)
    assert (tiny / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("reader", ["tensor", "array", "require_finite", "state_dict"])
def test_values_that_are_not_finite(tiny: Path, tmp_path: Path, value: float, reader: str) -> None:
    name = "encoder.layers.2.attention.k_proj.weight"
    folder = tmp_path / "bad"
    bad = copied(tiny, folder, lambda state: state[name].view(-1).__setitem__(77, value))
    with pytest.raises(InputError) as refused:
        getattr(bad, reader)(*([] if reader == "state_dict" else [name]))
    count = "1 NaN and 0 infinite" if value != value else "0 NaN and 1 infinite"
    assert refused.value.message == (
        f"{folder / 'model.safetensors'}: tensor {name!r} holds {count} values of 9216"
    )
    assert "allow_nonfinite" in refused.value.hint
    bad.tensor("encoder.layer_norm.bias")
    allowed = Checkpoint.open(str(folder), allow_nonfinite=True)
    assert not torch.isfinite(allowed.tensor(name)).all()
    assert len(allowed.digest()) == 64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2])
def test_other_dtypes_are_checked_as_well(tmp_path: Path, dtype: torch.dtype) -> None:
    values = torch.ones(10)
    values[3] = float("nan")
    save_file({"w": values.to(dtype), "v": torch.ones(4).to(dtype)}, tmp_path / "x.safetensors")
    checkpoint = Checkpoint.open("x.safetensors", root=tmp_path)
    assert checkpoint.tensor("v").dtype == dtype
    with pytest.raises(InputError, match=r"x.safetensors: tensor 'w' holds 1 NaN and 0 infinite"):
        checkpoint.tensor("w")


def test_another_size_lists_every_difference(tiny: Path, tmp_path: Path) -> None:
    def change(state: dict[str, torch.Tensor]) -> None:
        del state["masked_spec_embed"]
        state["extra.weight"] = torch.ones(3, 4)
        state["encoder.layer_norm.bias"] = torch.ones(7)
        state["encoder.layer_norm.weight"] = torch.ones(96, dtype=torch.float16)

    base = Checkpoint.open(str(tiny))
    other = copied(tiny, tmp_path / "other", change)
    with pytest.raises(LayoutError) as refused:
        base.require_same_layout(other)
    assert refused.value.message.splitlines() == [
        f"{tmp_path / 'other'} does not hold the tensors of {tiny} (4 differences):",
        "  encoder.layer_norm.bias: shape [7], expected [96]",
        "  encoder.layer_norm.weight: dtype float16, expected float32",
        "  unexpected tensor extra.weight [3, 4] float32",
        "  missing tensor masked_spec_embed [96] float32",
    ]
    wide = make_mert_checkpoint(tmp_path / "wide", overrides={"hidden_size": 128})
    with pytest.raises(LayoutError, match=r"masked_spec_embed: shape \[128\], expected \[96\]"):
        base.require_same_layout(Checkpoint.open(str(wide)))


def test_models_that_differ_in_dtype_alone_are_told_so(tiny: Path, tmp_path: Path) -> None:
    half = make_mert_checkpoint(tmp_path / "half", dtype="float16")
    with pytest.raises(LayoutError) as refused:
        Checkpoint.open(str(tiny)).require_same_layout(Checkpoint.open(str(half)))
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("save one of the two again in the other's dtype")


def test_two_spellings_at_once_are_refused(tiny: Path, tmp_path: Path) -> None:
    twin = "encoder.pos_conv_embed.conv.parametrizations.weight.original0"
    with pytest.raises(InputError, match=r"weight_g' is already there, as '.*weight.original0'"):
        copied(tiny, tmp_path / "twice", lambda state: state.update({twin: torch.ones(1, 1, 32)}))


def test_unknown_tensor_and_faulty_config(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no tensor 'masked_spec_embedd'") as refused:
        Checkpoint.open(str(tiny)).tensor("masked_spec_embedd")
    assert refused.value.hint == "did you mean 'masked_spec_embed'?"
    shutil.copytree(tiny, tmp_path / "x")
    (tmp_path / "x" / "config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(InputError, match=r"config.json: the key 'a' occurs twice"):
        Checkpoint.open("x", root=tmp_path)


def test_a_file_that_shrinks_after_opening_is_an_input_error(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "x")
    checkpoint = Checkpoint.open("x", root=tmp_path)
    (tmp_path / "x" / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match=r"model\.safetensors: changed while it was in use"):
        checkpoint.tensor(DIRECTION)
    (tmp_path / "x" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model.safetensors: no such file"):
        checkpoint.tensor(DIRECTION)


def test_transformers_loads_both_spellings_cleanly(tiny: Path, tmp_path: Path) -> None:
    from transformers import HubertModel

    respelt = make_mert_checkpoint(tmp_path / "respelt", spelling="original", shard_bytes=400_000)
    for folder in (tiny, respelt):
        model, info = HubertModel.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
        loaded = {canonical_name(name): tensor for name, tensor in model.state_dict().items()}
        checkpoint = Checkpoint.open(str(folder))
        assert sorted(loaded) == list(checkpoint.index)
        assert all(loaded[name].equal(checkpoint.tensor(name)) for name in loaded)


ANONYMOUS = """
import sys, torch
from pathlib import Path
from mergekit_audio.weights.checkpoint import Checkpoint

def anonymous_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

warm = Checkpoint.open(sys.argv[1])
warm.tensor(next(iter(warm.index)))
before = anonymous_kb()
checkpoint = Checkpoint.open(sys.argv[2])
checkpoint.digest()
state = checkpoint.state_dict()
total = sum(float(tensor.sum()) for tensor in state.values())
print(anonymous_kb() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("file_format", ["safetensors", "bin"])
def test_reading_costs_no_anonymous_memory(tiny: Path, tmp_path: Path, file_format: str) -> None:
    big = make_mert_checkpoint(
        tmp_path / "big",
        overrides={"hidden_size": 512, "intermediate_size": 4096},
        file_format=file_format,  # type: ignore[arg-type]
    )
    held_kb = sum(path.stat().st_size for path in big.iterdir()) // 1024
    assert held_kb > 80_000
    run = subprocess.run(
        [sys.executable, "-c", ANONYMOUS, str(tiny), str(big)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(run.stdout) < 12_000


def test_what_transformers_saves_has_the_same_content(tiny: Path, tmp_path: Path) -> None:
    from transformers import HubertModel

    HubertModel.from_pretrained(tiny).save_pretrained(tmp_path / "saved")
    saved = Checkpoint.open(str(tmp_path / "saved"))
    base = Checkpoint.open(str(tiny))
    base.require_same_layout(saved)
    assert saved.digest() == base.digest()
