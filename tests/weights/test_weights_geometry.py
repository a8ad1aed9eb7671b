"""Norms, signs, ranks and parts of task vectors: by hand, by NumPy, in any number of threads."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import make_mert_checkpoint
from safetensors.torch import save_file

from mergekit_audio.errors import InputError, LayoutError
from mergekit_audio.weights.checkpoint import Checkpoint
from mergekit_audio.weights.inspect import inspect_geometry, inspect_models, inspect_pair
from mergekit_audio.weights.parts import part_of


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Checkpoint]:
    root = tmp_path_factory.mktemp("geometry")
    folders = [make_mert_checkpoint(root / "base")]
    for seed in (1, 2):
        folder = root / str(seed)
        folders.append(make_mert_checkpoint(folder, seed=seed, perturb_of=folders[0]))
    return [Checkpoint.open(str(folder)) for folder in folders]


def flat(models: list[Checkpoint], which: int, group: str = "") -> np.ndarray:
    return np.concatenate(
        [
            (models[which].tensor(name).double() - models[0].tensor(name).double()).numpy().ravel()
            for name in models[0].index
            if name.startswith(group)
        ]
    )


def write(root: Path, **models: dict[str, torch.Tensor]) -> list[Checkpoint]:
    for name, tensors in models.items():
        save_file(tensors, root / f"{name}.safetensors")
    return [Checkpoint.open(f"{name}.safetensors", root=root) for name in models]


@pytest.fixture
def by_hand(tmp_path: Path) -> list[Checkpoint]:
    """θ = 0 but for one 5; τ₁ = (3, 0, 0, 4 | 1, 0), τ₂ = (0, 0, 2, -4 | 2, 0)."""
    zero = {
        "encoder.layers.0.w": torch.zeros(2, 2),
        "feature_projection.b": torch.tensor([0.0, 5.0]),
    }
    one = {
        "encoder.layers.0.w": torch.tensor([[3.0, 0.0], [0.0, 4.0]]),
        "feature_projection.b": torch.tensor([1.0, 5.0]),
    }
    two = {
        "encoder.layers.0.w": torch.tensor([[0.0, 0.0], [2.0, -4.0]]),
        "feature_projection.b": torch.tensor([2.0, 5.0]),
    }
    return write(tmp_path, base=zero, one=one, two=two)


def test_relations_by_hand(by_hand: list[Checkpoint]) -> None:
    base, one, two = by_hand
    facts = inspect_models(base, {"one": one, "two": two})
    assert facts["norms"] == pytest.approx([math.sqrt(26), math.sqrt(24)])
    assert facts["sum_norm"] == pytest.approx(math.sqrt(9 + 4 + 9))
    assert facts["growth"] == pytest.approx([math.sqrt(22 / 26), math.sqrt(22 / 24)])
    assert facts["cosine"][0][1] == pytest.approx((-16 + 2) / math.sqrt(26 * 24))
    assert facts["sign_conflict"] == [[0.0, 0.5], [0.5, 0.0]]  # of (4, -4) and (1, 2)
    assert facts["sign_disagreement"] == 0.5
    front, layers = facts["parts"]
    assert (front["name"], front["cosine"][0][1], front["growth"]) == ("front", 1, [3, 1.5])
    assert (layers["name"], layers["sign_disagreement"]) == ("encoder.layers", 1)
    assert facts["layer_order"] == ["feature_projection", "encoder.layers.0"]
    assert [group["part"] for group in facts["groups"]] == ["encoder.layers", "front"]


def test_ranks_by_hand(by_hand: list[Checkpoint]) -> None:
    base, one, two = by_hand
    pairs = inspect_geometry(base, {"one": one, "two": two})["pairs"]
    total = pairs[0]["total"]  # singular values 4 and 3
    shares = (4 / 7, 3 / 7)
    assert total["matrices"] == 1
    assert total["effective_rank"] == pytest.approx(
        math.exp(-sum(share * math.log(share) for share in shares))
    )
    assert total["effective_rank_share"] == pytest.approx(total["effective_rank"] / 2)
    assert total["stable_rank"] == pytest.approx(25 / 16)
    assert pairs[1]["total"]["effective_rank"] == pytest.approx(1)  # one row is left
    assert [group["effective_rank"] for group in pairs[0]["groups"]][1] is None  # no matrix
    assert inspect_pair(base, one)["total"]["effective_rank"] is None


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (1, 4), (3, 300000)])
def test_ranks_are_those_of_the_singular_values(tmp_path: Path, shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    base, tuned = (
        {"w": torch.randn(shape, generator=generator).to(torch.bfloat16)} for _ in range(2)
    )
    checkpoints = write(tmp_path, base=base, tuned=tuned)
    found = inspect_geometry(checkpoints[0], {"tuned": checkpoints[1]})["pairs"][0]["tensors"][0]
    tau = (tuned["w"].double() - base["w"].double()).numpy()
    values = np.linalg.svd(tau, compute_uv=False)
    shares = values / values.sum()
    assert found["effective_rank"] == pytest.approx(math.exp(-(shares * np.log(shares)).sum()))
    assert found["stable_rank"] == pytest.approx((values**2).sum() / values[0] ** 2)


def test_relations_of_every_layer_are_numpys(models: list[Checkpoint]) -> None:
    base, one, two = models
    facts = inspect_geometry(base, {"one": one, "two": two, "again": one})
    json.dumps(facts, allow_nan=False)
    by_layer = {group["name"]: group for group in facts["relations"]["groups"]}
    for place, layer in ((0, "encoder.layers.3"), (1, "encoder.pos_conv_embed.conv")):
        tau = np.stack([flat(models, which, f"{layer}.") for which in (1, 2, 1)])
        group = by_layer[layer]
        assert group["norms"] == pytest.approx(np.linalg.norm(tau, axis=1), rel=1e-12)
        assert group["sum_norm"] == pytest.approx(np.linalg.norm(tau.sum(axis=0)), rel=1e-12)
        mixed = (tau > 0).any(axis=0) & (tau < 0).any(axis=0)
        several = (tau != 0).sum(axis=0) > 1
        assert group["sign_disagreement"] == mixed.sum() / several.sum()
        assert group["sign_conflict"][0][2] == 0
        assert group["part"] == ("encoder.layers", "positional")[place]
    assert facts["pairs"][0]["total"] == facts["pairs"][2]["total"]


def test_any_number_of_threads_gives_the_same_facts(
    models: list[Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mergekit_audio.weights.geometry._ELEMENTS_AT_ONCE", 100)
    monkeypatch.setattr("mergekit_audio.weights.geometry._ELEMENTS_A_TASK", 300)
    base, one, two = models
    facts = [
        inspect_geometry(base, {"one": one, "two": two}, workers=workers) for workers in (1, 3)
    ]
    assert facts[0] == facts[1]
    assert facts[0]["relations"]["sign_conflict"] == pytest.approx(
        np.array(inspect_models(base, {"one": one, "two": two})["sign_conflict"])
    )


def test_a_model_in_another_floating_dtype_is_compared(tmp_path: Path) -> None:
    base, half = write(
        tmp_path,
        base={"w": torch.tensor([1.0, 2.0]), "n": torch.tensor([1])},
        half={"w": torch.tensor([1.0, 2.5]).half(), "n": torch.tensor([1])},
    )
    assert inspect_pair(base, half)["total"]["norm"] == 0.5
    with pytest.raises(LayoutError, match="int64"):
        inspect_pair(
            base, write(tmp_path, i={"w": torch.ones(2), "n": torch.ones(1, dtype=torch.int32)})[0]
        )


def test_a_model_that_differs_in_a_buffer_only_is_not_the_base(tmp_path: Path) -> None:
    base, other = write(
        tmp_path,
        base={"w": torch.ones(2), "n": torch.tensor([1])},
        other={"w": torch.ones(2), "n": torch.tensor([2])},
    )
    pair = inspect_pair(base, other)
    assert (pair["total"]["norm"], pair["same_content"]) == (0, False)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    base, bad = write(
        tmp_path, base={"a.w": torch.ones(3)}, bad={"a.w": torch.tensor([1.0, math.nan, 2.0])}
    )
    with pytest.raises(InputError, match=r"'a\.w' holds 1 NaN"):
        inspect_geometry(base, {"bad": bad})


def test_a_part_whose_models_are_more_alike_is_named(by_hand: list[Checkpoint]) -> None:
    base, one, two = by_hand
    found = inspect_geometry(base, {"one": one, "two": two})["suggestion"]
    assert any(caution.startswith("in front the task") for caution in found["cautions"])


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("encoder.layers.3.attention.k_proj.weight", "encoder.layers"),
        ("model.decoder.layers.11.fc1.bias", "model.decoder.layers"),
        ("feature_extractor.conv_layers.0.conv.weight", "front"),
        ("hubert.feature_projection.projection.bias", "front"),
        ("model.encoder.conv1.weight", "front"),
        ("encoder.pos_conv_embed.conv.weight_g", "positional"),
        ("encoder.pos_conv.0.weight_g", "positional"),
        ("model.encoder.embed_positions.weight", "positional"),
        ("encoder.layers.0.position_bias", "encoder.layers"),
        ("lm_head.weight", "other"),
        ("encoder.layer_norm.weight", "other"),
        ("0.weight", "other"),
    ],
)
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part
