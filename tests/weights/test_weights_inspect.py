"""What inspection tells about checkpoints, against NumPy."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from safetensors.torch import load_file, save_file

from mergekit_audio.errors import LayoutError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import (
    group_of,
    inspect_checkpoint,
    inspect_models,
    inspect_pair,
)

LAYERS = 11


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    root = tmp_path_factory.mktemp("inspected")
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": LAYERS}
    base = make_mert_checkpoint(root / "base", overrides=small, spelling="original")
    folders = [base]
    for seed in (1, 2):
        folder = root / str(seed)
        folders.append(make_mert_checkpoint(folder, overrides=small, seed=seed, perturb_of=base))
    return [Checkpoint.open(str(folder)) for folder in folders]


def flat(models: list[Checkpoint], which: int, group: str = "") -> np.ndarray:
    return np.concatenate(
        [
            (models[which].tensor(name).double() - models[0].tensor(name).double()).numpy().ravel()
            for name in models[0].index
            if name.startswith(group)
        ]
    )


def test_a_checkpoint(models: list[Checkpoint]) -> None:
    facts = inspect_checkpoint(models[0])
    json.dumps(facts, allow_nan=False)
    state = load_file(models[0].folder / "model.safetensors")
    assert facts["elements"] == sum(tensor.numel() for tensor in state.values())
    assert facts["dtypes"] == {"float32": facts["elements"]}
    assert facts["model_type"] == "mert_model"
    assert facts["pre_layer_norm"] is True  # the tiny preset, as 330M
    assert facts["digest"] == models[0].digest()
    assert facts["nonfinite"] == []
    assert sorted(facts["respelt"].values()) == [
        "encoder.pos_conv_embed.conv.weight_g",
        "encoder.pos_conv_embed.conv.weight_v",
    ]
    assert [file["name"] for file in facts["files"]] == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    by_name = {tensor["stored_name"]: tensor for tensor in facts["tensors"]}
    assert sorted(by_name) == sorted(state)
    for name, tensor in state.items():
        norm = np.linalg.norm(tensor.double().numpy().ravel())
        assert by_name[name]["norm"] == pytest.approx(norm, rel=1e-12)
        assert by_name[name]["max_abs"] == tensor.abs().max().item()
    groups = [group["name"] for group in facts["groups"]]
    layers = [name for name in groups if name.startswith("encoder.layers")]
    assert layers == [f"encoder.layers.{i}" for i in range(LAYERS)]
    assert sum(group["elements"] for group in facts["groups"]) == facts["elements"]


def test_values_that_are_not_finite_are_counted(tmp_path: Path) -> None:
    save_file(
        {"a.w": torch.tensor([3.0, math.nan, -4.0, math.inf]), "b.w": torch.ones(2)},
        tmp_path / "x.safetensors",
    )
    facts = inspect_checkpoint(
        Checkpoint.open("x.safetensors", root=tmp_path, allow_nonfinite=True)
    )
    json.dumps(facts, allow_nan=False)
    assert facts["nonfinite"] == ["a.w"]
    assert facts["tensors"][0]["nonfinite"] == 2
    assert facts["tensors"][0]["norm"] == 5
    assert facts["model_type"] is None


def test_a_pair(models: list[Checkpoint]) -> None:
    facts = inspect_pair(models[0], models[1])
    json.dumps(facts, allow_nan=False)
    assert not facts["same_content"]
    assert facts["total"]["norm"] == pytest.approx(np.linalg.norm(flat(models, 1)), rel=1e-12)
    assert facts["total"]["changed_share"] == np.mean(flat(models, 1) != 0)
    groups = {group["name"]: group for group in facts["groups"]}
    found = groups["encoder.layers.10"]
    assert found["norm"] == pytest.approx(
        np.linalg.norm(flat(models, 1, "encoder.layers.10.")), rel=1e-12
    )
    assert found["tensors"] == 16
    same = inspect_pair(models[0], models[0])
    assert same["same_content"]
    assert same["total"]["changed_share"] == 0


def test_a_base_of_zeros_has_no_relative_norm(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2)}, tmp_path / "0.safetensors")
    save_file({"w": torch.ones(2)}, tmp_path / "1.safetensors")
    zero, one = (Checkpoint.open(f"{i}.safetensors", root=tmp_path) for i in (0, 1))
    assert inspect_pair(zero, one)["total"]["relative_norm"] is None


def test_several_models(models: list[Checkpoint]) -> None:
    facts = inspect_models(models[0], {"makam": models[1], "lyra": models[2], "none": models[0]})
    json.dumps(facts, allow_nan=False)
    one, two = flat(models, 1), flat(models, 2)
    norms = [np.linalg.norm(one), np.linalg.norm(two)]
    assert facts["models"] == ["makam", "lyra", "none"]
    assert facts["norms"] == pytest.approx([*norms, 0], rel=1e-12)
    cosine = one @ two / norms[0] / norms[1]
    assert facts["cosine"][0] == [1.0, pytest.approx(cosine, abs=1e-12), None]
    assert facts["cosine"][1][0] == facts["cosine"][0][1]
    assert facts["cosine"][2] == [None, None, None]
    both = (one != 0) & (two != 0)
    conflict = np.mean(np.sign(one[both]) != np.sign(two[both]))
    assert facts["sign_conflict"][0] == [0.0, conflict, None]
    mean = (norms[0] + norms[1]) / 3
    assert facts["sum_to_mean_norm"] == pytest.approx(np.linalg.norm(one + two) / mean, rel=1e-12)
    groups = {group["name"]: group["cosine"] for group in facts["groups"]}
    a, b = (flat(models, i, "encoder.layers.3.") for i in (1, 2))
    expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    assert groups["encoder.layers.3"][0][1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_models_that_are_not_finite_give_no_numbers(tmp_path: Path, value: float) -> None:
    for name, values in (("0", [1.0, 2.0]), ("1", [2.0, 2.0]), ("2", [value, 3.0])):
        save_file(
            {"a.w": torch.tensor(values), "b.w": torch.ones(2)}, tmp_path / f"{name}.safetensors"
        )
    base, one, bad = (
        Checkpoint.open(f"{i}.safetensors", root=tmp_path, allow_nonfinite=True) for i in range(3)
    )
    pair = inspect_pair(base, bad)
    assert pair["total"]["norm"] is None
    assert pair["total"]["max_abs"] is None
    facts = inspect_models(base, {"one": one, "bad": bad})
    json.dumps([pair, facts], allow_nan=False)
    assert facts["norms"] == [1.0, None]
    assert facts["cosine"] == [[1.0, None], [None, None]]
    assert facts["sum_to_mean_norm"] is None


def test_no_models_and_other_layouts(models: list[Checkpoint], tmp_path: Path) -> None:
    assert inspect_models(models[0], {})["cosine"] == []
    other = Checkpoint.open(str(make_mert_checkpoint(tmp_path / "other")))
    with pytest.raises(LayoutError, match="does not hold the tensors of"):
        inspect_pair(models[0], other)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("encoder.layers.3.attention.k_proj.weight", "encoder.layers.3"),
        ("feature_extractor.conv_layers.0.conv.weight", "feature_extractor.conv_layers.0"),
        ("feature_projection.projection.bias", "feature_projection.projection"),
        ("masked_spec_embed", "masked_spec_embed"),
    ],
)
def test_groups(name: str, group: str) -> None:
    assert group_of(name) == group
